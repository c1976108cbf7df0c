"""Steps run one by one on this machine, as their images do, for what is not the whole pipeline."""

import sys
from pathlib import Path

from defectline.components.common.errors import DefectlineError
from defectline.components.common.steps import Say
from defectline.pipeline.local import RunFailed, run_subprocess
from defectline.pipeline.parameters import Parameters

OPTIONS = {
    "ingest": ("max_rejected", "masks"),
    "preprocess": ("image_size", "channels", "enhance", "tile", "empty_tiles"),
    "train": ("epochs", "batch_size", "seed", "encoder_weights", "init_from", "training", "quantize"),
    "evaluate": ("min_iou", "max_escape", "max_overkill", "escape_cost", "grade_a_px", "grade_b_px"),
}
"""The parameters that each step takes."""


class StepRunner:
    """Runs steps with the same parameters; `work` is a temporary folder, `say` gets the lines for people."""

    def __init__(self, parameters: Parameters, work: Path, say: Say):
        self.parameters, self.say = parameters, say
        self.reports, self.log = work / "reports", work / "log.txt"
        self.reports.mkdir(exist_ok=True)

    def run(self, name: str, *arguments: str | Path) -> None:
        """Run `python -m defectline.components.<name> ARGUMENTS` in a process of its own.

        Raises the DefectlineError that it reports, and RunFailed for anything else.
        """
        command = [sys.executable, "-m", f"defectline.components.{name}", *map(str, arguments)]
        status = run_subprocess(command + self._options(name), "", self.reports, self.log, self.say)
        error = self.reports / "error.json"
        if error.exists():
            raise DefectlineError.from_json(error.read_text())
        if status:
            raise RunFailed(self.log, self.reports / "fault.txt")

    def _options(self, step: str) -> list[str]:
        options = []
        for name in OPTIONS[step]:
            value, flag = getattr(self.parameters, name), name.replace("_", "-")
            if isinstance(value, bool):
                options.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                options.append(f"--{flag}={value}")
        return options
