"""With this folder on PYTHONPATH, `defectline tune` judges folds by the formula of `fake_folds`."""

import sys
from pathlib import Path
from types import ModuleType

sys.path.append(str(Path(__file__).parents[1]))
from importing import when_imported


def judge_by_a_formula(module: ModuleType) -> None:
    from fake_folds import judge

    module.judge = judge  # type: ignore[attr-defined]


when_imported("defectline.pipeline.tuning.trying", judge_by_a_formula)
