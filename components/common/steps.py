"""What a step tells the people who watch it: lines while it works, one sentence at its end.

On a laptop the `defectline` command hands every step the folder REPORTS_ENV, and reads there what each
one did or why it failed. On a cluster the same lines are the pod's log, and the store gets a record of the
step.
"""

import json
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from defectline.components.common.errors import DefectlineError
from defectline.components.common.reporting.recorder import Recorder, on_sigterm
from defectline.components.common.reporting.step_record import StepError

REPORTS_ENV = "DEFECTLINE_REPORTS"
MARK = "▸ "
"""Starts each line that is meant for people; the command line shows these and logs the rest."""

T = TypeVar("T")
Say = Callable[[str], None]
"""Takes a line for people."""


def say(text: str) -> None:
    """Print one line for the person who watches."""
    print(f"{MARK}{text}", flush=True)


def track(items: Iterable[T], total: int, what: str, every_s: float = 5.0) -> Iterator[T]:
    """Yield the items, and say every few seconds how many are done, how fast, and what is left."""
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            rate = done / (now - start)
            say(f"{what}: {done:,} of {total:,}, {rate:,.1f}/s, {(total - done) / rate:,.0f} s left")


class Step:
    """A running step; `summary` is the sentence that the final table shows."""

    summary = ""
    on_stop: Callable[[], None] | None = None
    """What must be done first where the process of a step on a cluster is told to end; quick."""


@contextmanager
def step(
    name: str, store: str = "", *, shard: int = 0, shards: int = 1, part: str = "", copy_of: str = ""
) -> Iterator[Step]:
    """Report how long the block took and what it did, or the error that the user can fix.

    On a cluster the `store` gets a `StepRecord`: at the start, at the end, and when the process is told to
    end. A step that runs `shards` times, perhaps at once, reports for each of them; so does one that a run
    has for several parts, such as folds, where `part` says in words what it works on. `copy_of` tells those
    apart that do the same with one part.
    """
    title = name if shards == 1 else f"{name} {shard + 1} of {shards}"
    folder = os.environ.get(REPORTS_ENV)
    start = time.monotonic()
    current = Step()
    recorder = Recorder.start(store, name, shard, shards, part, copy_of)

    def stopped() -> None:
        print(f"{title}: stopped by SIGTERM", flush=True)
        if current.on_stop:
            current.on_stop()
        if recorder:
            recorder.end(Recorder.STOP_S, state="stopped")

    try:
        with on_sigterm(stopped) if recorder else nullcontext():
            yield current
    except DefectlineError as error:
        print(f"{title}: {error}", flush=True)
        if folder:
            Path(folder, "error.json").write_text(error.to_json())
        if recorder:
            recorder.end(state="failed", error=StepError.model_validate(vars(error)))
        # The traceback of a user's mistake would not help: a plain exit ends the step as failed.
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        if recorder:
            recorder.end(state="stopped")
        raise
    except (Exception, SystemExit):
        if folder:
            Path(folder, "fault.txt").write_text(traceback.format_exc())
        if recorder:
            recorder.end(state="failed", fault=traceback.format_exc())
        raise
    seconds = time.monotonic() - start
    say(f"{title}: {current.summary} ({seconds:.1f} s)")
    if recorder:
        recorder.end(state="done", summary=current.summary)
    if folder:
        report = {"step": name, "seconds": round(seconds, 2), "summary": current.summary}
        file = f"{name}.json" if shards == 1 else f"{name}-{shard}.json"
        Path(folder, file).write_text(json.dumps(report))


def reported_error() -> str:
    """What the step that failed said, where the steps report into one folder; else empty."""
    folder = os.environ.get(REPORTS_ENV)
    if folder and (path := Path(folder, "error.json")).exists():
        return DefectlineError.from_json(path.read_text()).what
    return ""
