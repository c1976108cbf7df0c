"""What shards leave in the store is read back as it was."""

from pathlib import Path

import numpy as np

from defectline.components.common.layout import JUDGING, run_key
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.evaluate.classes import ClassCounts
from defectline.components.evaluate.metrics import Count, summarize, summarize_classes
from defectline.components.evaluate.pixels import Pixels
from defectline.components.evaluate.scoring import Scored
from defectline.components.evaluate.sharding.files import Tally, forget, write_part

CLASSES = ("crack", "stain")
COUNTS = [
    Count("OK/1", "OK", "OK", 0.123, 0, 0, 0, (0, 0, 0), (0, 0, 0)),
    Count(
        "NG/ü 2",
        "NG",
        "NG",
        0.7,
        30,
        2,
        5,
        (1, 1, 0),
        (1, 0, 0),
        ClassCounts((30, 0), (2, 0), (4, 1), [(1, 1), (2, 0), (0, 1)]),
    ),
    Count("NG/3", "NG", "LOOK", 0.1 + 0.2, 0, 9, 0, (0, 0, 0), (0, 0, 0), masked=False),
]


def test_numbers_of_several_classes_and_of_no_mask(tmp_path: Path):
    pixels = Pixels()
    pixels.see(np.array([[0, 1000, 7]], np.uint16), np.array([[0, 1, 255]], np.uint8))
    read = Tally.model_validate_json(Tally.of(Scored(COUNTS, pixels)).model_dump_json()).scored
    assert [one._asdict() | {"classes": None} for one in read.counts] == [
        one._asdict() | {"classes": None} for one in COUNTS
    ]
    assert summarize(*read) == summarize(COUNTS, pixels)
    assert summarize_classes(read.counts, CLASSES) == summarize_classes(COUNTS, CLASSES)
    assert np.array_equal([read.pixels.good, read.pixels.bad], [pixels.good, pixels.bad])


def test_what_is_left_of_a_run_goes_and_nothing_of_another(tmp_path: Path):
    (tmp_path / "store").mkdir()
    store = FolderStorage(tmp_path / "store")
    for run in ("r", "r2"):
        write_part(store, run, "challenger", 0, Scored(COUNTS, Pixels()))
    forget(store, "r")
    forget(store, "r")
    assert [one.key for one in store.list("runs/")] == [run_key("r2", f"{JUDGING}challenger/0.json.gz")]
