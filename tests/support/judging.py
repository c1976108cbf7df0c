"""A model judged by the evaluate step, again with other settings, and on other splits."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from networks import LIMITS, Judged, write_model

from defectline.components.common.bundle import Bundle, read_bundle
from defectline.components.common.snapshot import Pair, read_pairs, write_index
from defectline.components.common.storage import open_storage
from defectline.components.evaluate.step import Result, evaluate


def run_evaluate(
    judged: Judged,
    folder: Path,
    run: str,
    cut: float = 40.0,
    champion: str = "",
    snapshot: str = "",
    **settings: float,
) -> tuple[Bundle, Result]:
    """Judge another model on the same snapshot, or another; returns its bundle and the result."""
    folder.mkdir(exist_ok=True)
    bundle = folder / "bundle"
    result = evaluate(
        str(judged.store),
        snapshot or judged.snapshot,
        write_model(folder / "model", cut=cut),
        bundle,
        folder / "report.html",
        {**LIMITS, **settings},
        run,
        champion=champion,
        settings_key="the settings",
    )
    return read_bundle(bundle), result


def tested_pairs(judged: Judged) -> list[Pair]:
    return [p for p in read_pairs(open_storage(str(judged.store)), judged.snapshot) if p.split == "test"]


def resplit(judged: Judged, name: str, split_of: Callable[[Pair], str]) -> str:
    """Another snapshot of the same pictures, with other splits."""
    storage = open_storage(str(judged.store))
    pairs = [p._replace(split=split_of(p)) for p in read_pairs(storage, judged.snapshot)]
    shutil.copytree(judged.store / "snapshots" / judged.snapshot, judged.store / "snapshots" / name)
    write_index(judged.store / "snapshots" / name / "index.parquet", pairs)
    return name


def gate_rows(judged: Judged, run: str) -> dict[str, dict]:
    rows = json.loads((judged.store / "runs" / run / "gate.json").read_text())
    return {row["name"]: row for row in rows}
