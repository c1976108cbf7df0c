"""`python -m defectline.components.evaluate STORE SNAPSHOT MODEL BUNDLE REPORT`"""

from pathlib import Path

import typer

from defectline.components.evaluate.step import evaluate


def main(
    store: str,
    snapshot: str,
    model: Path,
    bundle: Path,
    report: Path,
    min_iou: float = 0.5,
    max_escape: float = 0.1,
    max_overkill: float = 0.1,
    escape_cost: float = 3.0,
    grade_a_px: int = 0,
    grade_b_px: int = 0,
    run: str = "manual",
    model_name: str = "defects",
    champion: str = "",
) -> None:
    """Judge MODEL on a snapshot's test pictures, seal it into the folder BUNDLE, and write REPORT (HTML)."""
    settings = {
        "min_iou": min_iou,
        "max_escape": max_escape,
        "max_overkill": max_overkill,
        "escape_cost": escape_cost,
        "grade_a_px": grade_a_px,
        "grade_b_px": grade_b_px,
    }
    evaluate(store, snapshot, model, bundle, report, settings, run, model_name, champion)


if __name__ == "__main__":
    typer.run(main)
