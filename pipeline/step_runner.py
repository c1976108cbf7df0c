"""Steps run one by one on this machine, as their images do, for what is not the whole pipeline."""

import sys
from pathlib import Path

from pydantic import BaseModel

from defectline.components.common.errors import DefectlineError
from defectline.components.common.settings import select
from defectline.components.common.steps import Say
from defectline.components.evaluate.settings import EvaluateSettings
from defectline.components.ingest.settings import IngestSettings
from defectline.components.preprocess.settings import PreprocessSettings
from defectline.components.train.settings import TrainParameters
from defectline.pipeline.local import RunFailed, run_subprocess
from defectline.pipeline.parameters import Parameters
from defectline.pipeline.workers import Worker

SETTINGS: dict[str, type[BaseModel]] = {
    "ingest": IngestSettings,
    "preprocess": PreprocessSettings,
    "train": TrainParameters,
    "evaluate": EvaluateSettings,
}
"""What each step takes of the parameters."""


class StepRunner:
    """Runs steps with the same parameters; `work` is a temporary folder, `say` gets the lines for people.

    A `worker` says which part of the machine they get, and may end them.
    """

    def __init__(self, parameters: Parameters, work: Path, say: Say, worker: Worker | None = None):
        self.parameters, self.say, self.worker = parameters, say, worker
        self.reports, self.log = work / "reports", work / "log.txt"
        self.reports.mkdir(exist_ok=True)

    def run(self, name: str, *arguments: str | Path) -> None:
        """Run `python -m defectline.components.<name> ARGUMENTS` in a process of its own.

        Raises the DefectlineError that it reports, Stopped where the worker was told to end, and RunFailed
        for anything else.
        """
        self.run_module(f"defectline.components.{name}", *map(str, arguments), *self._options(name))

    def run_module(self, name: str, *arguments: str) -> None:
        """The same for any module."""
        command = [sys.executable, "-m", name, *arguments]
        if self.worker is None:
            status = run_subprocess(command, "", self.reports, self.log, self.say)
        else:
            self.worker.check()
            try:
                status = run_subprocess(
                    command, "", self.reports, self.log, self.say, self.worker.env, self.worker.started
                )
            finally:
                self.worker.ended()
            self.worker.check()
        error = self.reports / "error.json"
        if error.exists():
            raise DefectlineError.from_json(error.read_text())
        if status < 0:
            raise DefectlineError(
                f"The process {name} was killed.",
                got=f"signal {-status}",
                expected="a process that ends by itself",
                fix="Where memory ran out, which the kernel's log says, take fewer --workers or a smaller "
                "batch_size; the same command goes on with what is done.",
            )
        if status:
            raise RunFailed(self.log, self.reports / "fault.txt")

    def _options(self, step: str) -> list[str]:
        values = select(SETTINGS[step], self.parameters)
        return [text for name, value in values.items() for text in ("--set", f"{name}={value}")]
