"""From the first good pictures to the first defects: one command, night by night."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import SMALL_NETWORK, defectline
from PIL import Image

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


def run(source: Path, store: Path) -> tuple[str, dict[str, dict], str]:
    """What the command said, the rules of its gate by name, and what model and champion learned from."""
    pairs = [text for key, value in SETTINGS.items() for text in ("--set", f"{key}={value}")]
    done = defectline("run", "--source", source, "--store", store, *pairs, env=SMALL_NETWORK)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    newest = max((store / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime)
    rules = {rule["name"]: rule for rule in json.loads((newest / "gate.json").read_text())}
    learned = re.search(r"Learned from</th><td>([^<]*)", (newest / "report.html").read_text())
    assert learned is not None
    return done.stdout, rules, learned[1]


def copied(drawn: Path, source: Path, folder: str, count: int) -> list[Path]:
    """The first files of a folder that is added to the source."""
    (source / folder).mkdir(exist_ok=True)
    return [Path(shutil.copy(path, source / folder)) for path in sorted((drawn / folder).iterdir())[:count]]


@pytest.mark.slow
def test_good_pictures_then_labels_then_masks_and_classes(tmp_path):
    drawn, source, store = (tmp_path / name for name in ("drawn", "source", "store"))
    generate_samples(drawn, pairs=40, size=64)
    shutil.copytree(drawn / "OK", source / "OK")

    said, rules, learned = run(source, store)
    assert "synthetic defects in good pictures are all it learns" in said
    assert "deployed: every rule of the gate passed" in said
    assert "nobody knows how many defects escape" in rules["max_escape"]["reason"]
    assert rules["max_overkill"]["got"] is not None
    assert learned == "good only"

    copied(drawn, source, "NG", 15)
    said, rules, learned = run(source, store)
    assert "none of the 15 NG pictures has a mask: their label alone is learned" in said
    # The good pictures are the same, and so is what was learned from them.
    assert "was learned from the same good pictures" in said
    assert rules["champion_cost"]["got"] is not None
    assert rules["max_escape"]["got"] is not None
    assert rules["min_iou"]["reason"] == "cannot be judged: no masks"
    assert learned == "image labels; the champion: good only"

    for number, path in enumerate(copied(drawn, source, "NG_MSK", 10)):
        with Image.open(path) as mask:
            marked = np.asarray(mask.convert("L")) > 127
        Image.fromarray(marked.astype(np.uint8) * (1 + number % 2)).save(path)
    (source / "classes.csv").write_text("value,name\n1,dent\n2,scratch\n")
    said, rules, learned = run(source, store)
    assert "train: classes dent, scratch" in said
    assert "defective pictures have no mask, but their label" in said
    assert rules["min_iou"]["got"] is not None
    assert learned.startswith("some masks of 2 classes; the champion: ")
