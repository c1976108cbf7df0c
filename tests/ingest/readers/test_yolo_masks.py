"""YOLO with masks of numbers."""

from pathlib import Path

import numpy as np
import pytest
from labelled import listing, truth, write_files
from layouts import yolo_masks as example
from pictures import encode, mask, with_palette

from defectline.components.common.errors import SourceError
from defectline.components.ingest.readers import choose, yolo, yolo_masks

DEFECT = mask(True) // 255
NAMES = "masks_dir: masks\nnames: [background, scratch, dent]\n"
DATA = {
    "data.yaml": NAMES,
    "images/a.jpg": b"",
    "masks/a.png": encode(DEFECT * np.uint8(2)),
    "images/b.jpg": b"",
    "masks/b.png": encode(mask(False)),
}


def marks(root: Path, stem: str = "a") -> dict[str, int]:
    """Class → its pixels in the mask of a picture."""
    found = listing(root)
    record = next(one for one in yolo_masks.read(found).records if one.stem == stem)
    return {name: int(where.sum()) for name, where in truth(record, found, (16, 16)).items()}


def test_a_mask_holds_the_numbers_of_the_names(tmp_path: Path):
    root = write_files(tmp_path, DATA | {"notes.txt": ""})
    found = listing(root)
    assert yolo_masks.fits(found) == "data.yaml names the masks of YOLO"
    assert not yolo.fits(found)
    layout = yolo_masks.read(found)
    assert [(one.stem, one.label) for one in layout.records] == [("a", ""), ("b", "")]
    assert (marks(root), marks(root, "b")) == ({"dent": 9}, {})
    assert (layout.rejected, layout.ignored) == ([], {"other files": 1})


def test_the_file_says_the_splits(tmp_path: Path):
    layout = yolo_masks.read(listing(write_files(tmp_path, example())))
    assert {one.split for one in layout.records} == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("root", "picture", "place"),
    [("", "train/images/a.jpg", "train/masks/a"), ("set/", "set/images/images/a.jpg", "set/images/masks/a")],
)
def test_masks_lie_where_the_last_images_is(tmp_path: Path, root: str, picture: str, place: str):
    files = {f"{root}data.yaml": NAMES, picture: b"", f"{place}.png": encode(DEFECT)}
    assert [one.mask.key for one in yolo_masks.read(listing(write_files(tmp_path, files))).records] == [
        f"{place}.png"
    ]


@pytest.mark.parametrize(
    ("yaml", "data", "expected"),
    [
        # Background need not be 0.
        ("names: {0: scratch, 1: OK}", encode(1 - DEFECT), {"scratch": 9}),
        ("names: {0: background, 1: void}", encode(DEFECT), {"ignore": 9}),
        ("names: [OK, x]", encode(np.where(DEFECT, 255, 1).astype(np.uint8)), {"x": 247, "ignore": 9}),
        (
            "names: [background, x]\nlabel_mapping: {-1: ignore_label, 7: 0, 8: 1}",
            encode(DEFECT + np.uint8(7)),
            {"x": 9},
        ),
        ("names: [background, x]", encode(with_palette(DEFECT, [0, 0, 0, 9, 9, 9])), {"x": 9}),
        ("names: [background, x]", encode(np.dstack([DEFECT] * 3)), {"x": 9}),
    ],
    ids=["good is 1", "void", "255", "label_mapping", "palette", "rgb"],
)
def test_what_numbers_mean(tmp_path: Path, yaml: str, data: bytes, expected: dict[str, int]):
    root = write_files(
        tmp_path, {"data.yaml": f"masks_dir: masks\n{yaml}\n", "images/a.jpg": b"", "masks/a.png": data}
    )
    assert marks(root) == expected


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (encode(DEFECT * np.uint8(9)), "the numbers 9"),
        (encode(mask(True)), "0 and 255 alone"),
        (encode(DEFECT > 0), "0 and 255 alone"),
        (encode(np.dstack([DEFECT, DEFECT * 2, DEFECT])), "several colours"),
        (encode(DEFECT, "JPEG"), "compressed with losses"),
    ],
    ids=["unknown", "black and white", "one bit", "colours", "lossy"],
)
def test_a_doubtful_mask_is_refused(tmp_path: Path, data: bytes, got: str):
    with pytest.raises(SourceError) as caught:
        marks(write_files(tmp_path, DATA | {"masks/a.png": data}))
    assert got in caught.value.got
    assert caught.value.expected == "0: good, 1: scratch, 2: dent, 255: ignore"


def test_what_is_alone_is_rejected(tmp_path: Path):
    more = {"images/c.jpg": b"", "masks/d.png": encode(DEFECT)}
    layout = yolo_masks.read(listing(write_files(tmp_path, DATA | more)))
    assert [(row.id, row.reason, row.fix.partition(",")[0]) for row in layout.rejected] == [
        ("c", "No mask of that name.", "Add masks/c.png"),
        ("masks/d", "No picture of that name.", "Add the picture"),
    ]
    assert layout.ignored == {}


@pytest.mark.parametrize(
    ("yaml", "what"),
    [
        ("masks_dir: masks\nnames: [scratch, dent]\n", "does not say which number is good"),
        ("names: [background, dent]\n", "says where the masks are"),
        ("masks_dir: masks\nnames: [background]\nlabel_mapping: {a: b}\n", "data.yaml cannot be read"),
    ],
)
def test_names_that_do_not_tell_enough_are_refused(tmp_path: Path, yaml: str, what: str):
    with pytest.raises(SourceError, match=what):
        yolo_masks.read(listing(write_files(tmp_path, DATA | {"data.yaml": yaml})))


def test_outlines_beside_the_masks_are_asked_about(tmp_path: Path):
    outline = "1 0.25 0.25 0.5 0.25 0.5 0.5\n"
    found = listing(write_files(tmp_path, DATA | {"labels/a.txt": outline}))
    with pytest.raises(SourceError, match="more than one layout"):
        choose(found)
    assert choose(found, "yolo_masks")[0] is yolo_masks
