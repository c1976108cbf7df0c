"""Deploy a bundle on this machine: publish, ask a real predictor, then make it the champion."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from defectline.components.common.bundle import Bundle, copy_served, publish_folder
from defectline.components.common.errors import Conflict, ServingError
from defectline.components.common.layout import champion_key, model_folder
from defectline.components.common.ports import free_port
from defectline.components.common.records import ChampionRecord, read_champion
from defectline.components.common.reporting.front_page import rewrite
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.common.waiting import poll
from defectline.components.deploy.golden import PAUSE_S, Address, check, wait_until_ready
from defectline.components.deploy.rollback import RUN, fetched
from defectline.components.deploy.status import Deployed, Status, last_run

START_S = 120.0


class Local:
    """A `Deployer`: the champion `models/<name>/current.json` of the store."""

    def __init__(self, store: Storage, name: str):
        self.store, self.name = store, name

    def champion(self) -> str:
        champion = read_champion(self.store, self.name)
        return champion.version if champion else ""

    def deploy(self, folder: Path, bundle: Bundle, run: str) -> Deployed:
        """Make the sealed bundle the champion.

        Raises ServingError where the predictor does not answer as the bundle says, Conflict where another
        process deployed meanwhile; the previous champion then stays. No process is left over.
        """
        store, name = self.store, self.name
        seen = store.read_versioned(champion_key(name))
        before = read_champion(store, name) if seen else None
        publish_folder(folder, store, model_folder(name, bundle.version))
        with tempfile.TemporaryDirectory() as temporary:
            served = Path(temporary, "model")
            copy_served(folder, served)
            with predictor(served, name) as url:
                check(Address(url), name, folder, bundle)
                say(f"deploy: {len(bundle.golden)} golden pictures answered as sealed")
        previous = before.version if before else ""
        if before and previous == bundle.version:
            previous = before.previous
        champion = ChampionRecord(version=bundle.version, run=run, previous=previous)
        try:
            store.compare_and_swap(
                champion_key(name), champion.model_dump_json(indent=2).encode(), seen and seen[1]
            )
        except Conflict as error:
            raise Conflict(
                f"{bundle.version} was not deployed: another run deployed {name} at the same time.",
                got=error.got,
                expected="one deploying run at a time",
                fix="Look at the champion that is there now; run again if this one is wanted.",
            ) from error
        return Deployed("on this machine")

    def roll_back(self, to: str = "") -> str:
        version = to or self._previous()
        with fetched(self.store, self.name, version) as (folder, bundle):
            self.deploy(folder, bundle, RUN)
        rewrite(self.store)
        say(f"{self.name}: {version} is the champion")
        return version

    def deployed_by(self, run: str) -> str:
        champion = read_champion(self.store, self.name)
        return champion.version if champion and champion.run == run else ""

    def undo(self, run: str) -> str:
        """Nothing is ever left: the champion is one record, which is written last."""
        return ""

    def status(self) -> Status:
        champion = read_champion(self.store, self.name)
        return Status(
            name=self.name,
            version=champion.version if champion else "",
            previous=champion.previous if champion else "",
            **last_run(self.store, self.name),
        )

    def _previous(self) -> str:
        champion = read_champion(self.store, self.name)
        if champion is None or not champion.previous:
            raise ServingError(
                f"{self.name} has no version to go back to.",
                got=f"nothing before {champion.version}" if champion else "no champion",
                expected="two versions that were deployed",
                fix="Name one with --to; `defectline models` lists them."
                if champion
                else "Correct --store or --name.",
            )
        return champion.previous


@contextmanager
def predictor(served: Path, name: str) -> Iterator[str]:
    """The URL of a predictor process that is ready; the process ends with the block."""
    port = free_port()
    log = served.parent / "predictor.log"
    command = [sys.executable, "-m", "defectline.components.serve"]
    arguments = ["--model_dir", str(served), "--model_name", name, "--http_port", str(port)]
    # Only this process asks it, so no other needs to be told that it ends.
    arguments += ["--drain_ms", "0", "--address", "127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(command + arguments, stdout=output, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(process, log, url, name)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen, log: Path, url: str, name: str) -> None:
    def look() -> None:
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines()[-6:]
            raise ServingError(
                "The predictor ended before it was ready.",
                got=" | ".join(lines) or f"exit status {process.returncode}",
                expected="a predictor that loads the bundle",
                fix="Check memory and disk space of this machine, then run again.",
            )
        wait_until_ready(Address(url), name, deadline_s=0)

    poll(look, START_S, PAUSE_S)
