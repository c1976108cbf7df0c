"""Run the pipeline on this machine, in a process of its own.

KFP's local runner changes `print` and the root logger of the process that it runs in, and leaves its
steps running when that process is killed. Here it gets a process group of its own, which ends with the
pipe from the process that started it, however that one ends.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from filelock import FileLock, Timeout

from defectline.components.common.errors import Conflict, DefectlineError, SettingsError
from defectline.components.common.records import Outcome, read_outcome, write_outcome
from defectline.components.common.steps import MARK, REPORTS_ENV, Say
from defectline.components.common.storage import Storage, open_storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.common.trust.keys import read_trust, signing_key
from defectline.pipeline.parameters import Parameters, check_weights

INTERRUPTED = "interrupted: what is done is kept, and the same command goes on from there"


class StepReport(NamedTuple):
    step: str
    seconds: float
    """Wall time since the step before, so starting and importing count."""
    summary: str


class LocalRun(NamedTuple):
    run: str
    outcome: Outcome
    steps: list[StepReport]


class RunFailed(Exception):
    """An internal error: `detail` is where it happened, `log` the file with all that was printed."""

    def __init__(self, log: Path, fault: Path):
        super().__init__(f"The run failed by an internal error of defectline. Its log: {log}")
        text = (fault if fault.exists() else log).read_text(errors="replace")
        self.log, self.detail = log, "\n".join(text.splitlines()[-40:])


def run_locally(parameters: Parameters, say: Say) -> LocalRun:
    """Run the pipeline to its end; `say` gets each line that is meant for people.

    Raises the DefectlineError of the step that failed, Conflict where another run uses the store, and
    RunFailed for anything else.
    """
    from defectline.components.ingest.step import check_apart

    check_weights(parameters)
    # Evaluate and deploy would find out after the training.
    signing_key()
    read_trust()
    store = open_storage(parameters.store)
    # Before the lock, which is a file in the store.
    check_apart(open_storage(parameters.source), store)
    with run_lock(store), temporary_workdir() as work:
        reports, log = work / "reports", work / "log.txt"
        reports.mkdir()
        try:
            command = [sys.executable, "-m", "defectline.pipeline.local", str(work)]
            status = run_subprocess(command, json.dumps(_arguments(parameters)), reports, log, say)
        except (KeyboardInterrupt, SystemExit):
            _record_interruption(store, work)
            say(INTERRUPTED)
            raise
        error = reports / "error.json"
        if error.exists():
            raise DefectlineError.from_json(error.read_text())
        run = next((path.name for path in (work / "root").glob("*")), "")
        outcome = read_outcome(store, run) if run else None
        if status != 0 or outcome is None or outcome.state == "failed":
            raise RunFailed(log, reports / "fault.txt")
        return LocalRun(run, outcome, _read_reports(work, reports))


def _record_interruption(store: Storage, work: Path) -> None:
    """Give a run that was told to end the outcome that its own last step cannot write any more."""
    for path in (work / "root").glob("*"):
        if not read_outcome(store, path.name):
            write_outcome(store, path.name, Outcome(state="failed", reason="interrupted"))


@contextmanager
def temporary_workdir() -> Iterator[Path]:
    """A temporary folder that is left only to look into an internal error."""
    work = Path(tempfile.mkdtemp(prefix="defectline-"))
    try:
        yield work
    except RunFailed:
        raise
    except BaseException:
        shutil.rmtree(work)
        raise
    shutil.rmtree(work)


@contextmanager
def run_lock(store: Storage) -> Iterator[None]:
    """Hold the store's lock of this machine; the kernel drops it with the process."""
    if isinstance(store, FolderStorage):
        path = store.root / ".run.lock"
    else:
        name = hashlib.sha256(store.uri.encode()).hexdigest()[:16]
        path = Path(tempfile.gettempdir(), f"defectline-{name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire(timeout=0)
    except Timeout:
        raise Conflict(
            "Another run uses this store.",
            got=f"{store.uri} is locked",
            expected="one run at a time",
            fix="Wait until it has ended, or give this run another --store.",
        ) from None
    except OSError as error:
        raise SettingsError(
            f"The store {store.uri} cannot be written.",
            got=error.strerror or str(error),
            expected="a folder that this user may write to",
            fix="Choose another --store, or change the folder's rights.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _arguments(parameters: Parameters) -> dict[str, object]:
    """The parameters, with folders as absolute URIs.

    KFP's local runner replaces every `python3` in a step's arguments by the interpreter's path. In a URI
    the word can be written so that it survives.
    """
    values = parameters.model_dump()
    for name in ("source", "store"):
        storage = open_storage(values[name])
        if isinstance(storage, FolderStorage):
            values[name] = storage.uri.replace("python3", "python%33")
    for name, value in values.items():
        if "python3" in str(value):
            raise SettingsError(
                f"{name} cannot be used on this machine.",
                got=str(value),
                expected="a value without the word python3, which KFP's local runner replaces",
                fix="Use another name, or a folder instead of a bucket.",
            )
    return values


def run_subprocess(
    command: Sequence[str],
    stdin: str,
    reports: Path,
    log: Path,
    say: Say,
    env: Mapping[str, str] = MappingProxyType({}),
    started: Callable[[subprocess.Popen], None] = lambda process: None,
) -> int:
    """Run a command that gets the line `stdin`, and whose steps report into `reports`; its exit status.

    What it prints goes into `log`, the lines for people to `say` too. It has the variables `env` besides
    those of this process, and `started` is told of it. However this ends, the command and all that it started
    have ended.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Safe: a file that lies where the user stands must not be imported in place of a package.
        env={
            **os.environ,
            **env,
            REPORTS_ENV: str(reports),
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "1",
        },
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        started(process)
        process.stdin.write(stdin + "\n")
        process.stdin.flush()
        with log.open("w") as output:
            for line in process.stdout:
                output.write(line)
                output.flush()
                if line.lstrip().startswith(MARK):
                    say(line.strip().removeprefix(MARK))
        return process.wait()
    finally:
        end_group(process)


def end_group(process: subprocess.Popen) -> None:
    """End a process that leads a group, and all of the group; nothing where they have ended."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def _read_reports(work: Path, reports: Path) -> list[StepReport]:
    """One report a step, in the order in which they ended; the shards of a step are one."""
    last = (work / "started").stat().st_mtime
    steps: dict[str, list[StepReport]] = {}
    for path in sorted(reports.glob("*.json"), key=lambda p: p.stat().st_mtime):
        content = json.loads(path.read_text())
        report = StepReport(content["step"], path.stat().st_mtime - last, content["summary"])
        steps.setdefault(report.step, []).append(report)
        last = path.stat().st_mtime
    return [
        StepReport(name, sum(part.seconds for part in parts), "; ".join(part.summary for part in parts))
        for name, parts in steps.items()
    ]


def _main(work: Path) -> None:
    """What the process of its own does: read the arguments, watch the pipe, run the pipeline."""
    (work / "started").touch()
    arguments = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()

    from kfp import local

    from defectline.pipeline.definition import build
    from defectline.pipeline.images import Images

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(work / "root"))
    build(Images.load())(**arguments)


def _end_with_the_pipe() -> None:
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
