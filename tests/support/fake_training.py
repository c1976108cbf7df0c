"""A training of no time, which fails for the part of a run that its environment names.

A test puts it in the place of the real one in a compiled pipeline.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from defectline.components.common.errors import SourceError
from defectline.components.common.steps import step

FAILS_ENV, MODEL_ENV = "FAILING_PART", "READY_MODEL"
"""The part that fails, and the folder of the model that the others come to."""


def train(
    dataset: Path, model: Path, page: Path, settings: Mapping[str, Any], *, store: str, part: str
) -> dict[str, float]:
    """As the train step, with a network made by hand."""
    with step("train", store, part=part):
        if part == os.environ[FAILS_ENV]:
            raise SourceError(
                "The network learned nothing.", got=part, expected="a network", fix="Train another one."
            )
        shutil.copytree(os.environ[MODEL_ENV], model)
        page.write_text("<p>nothing</p>")
        return {"iou": 1.0}
