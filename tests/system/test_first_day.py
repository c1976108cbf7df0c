"""From the first good pictures to the first defects: one command, night by night."""

import json
import shutil
from pathlib import Path

import pytest
from commands import defectline

from defectline.components.common.images.sample import generate_samples

SETTINGS = {
    "image_size": 32,
    "epochs": 1,
    "quantize": "false",
    "training": "pretraining_steps=2",
    "min_iou": 0,
    "max_escape": 1,
    "max_overkill": 1,
}


def run(source: Path, store: Path) -> tuple[str, dict[str, dict]]:
    """What the command said, and the rules of its gate by name."""
    pairs = [text for key, value in SETTINGS.items() for text in ("--set", f"{key}={value}")]
    done = defectline("run", "--source", source, "--store", store, *pairs)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    newest = max((store / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime)
    return done.stdout, {rule["name"]: rule for rule in json.loads((newest / "gate.json").read_text())}


def add(drawn: Path, source: Path, numbers: range) -> None:
    for folder in ("NG", "NG_MSK"):
        (source / folder).mkdir(exist_ok=True)
        for path in sorted((drawn / folder).iterdir())[numbers.start : numbers.stop]:
            shutil.copy(path, source / folder)


@pytest.mark.slow
def test_good_pictures_alone_and_then_a_few_defects(tmp_path):
    generate_samples(tmp_path / "drawn", pairs=40, size=64)
    source, store = tmp_path / "source", tmp_path / "store"
    shutil.copytree(tmp_path / "drawn/OK", source / "OK")

    said, rules = run(source, store)
    assert "synthetic defects in good pictures are all it learns" in said
    assert "deployed: every rule of the gate passed" in said
    assert "nobody knows how many defects escape" in rules["max_escape"]["reason"]
    assert rules["max_overkill"]["got"] is not None

    add(tmp_path / "drawn", source, range(0, 3))
    said, rules = run(source, store)
    assert "3 defective pictures, which all train" in said
    # The good pictures are the same, and so is what was learned from them.
    assert "was learned from the same good pictures" in said
    assert "nobody knows how many defects escape" in rules["max_escape"]["reason"]
    assert rules["champion_overkill"]["got"] is not None
