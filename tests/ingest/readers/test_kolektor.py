"""KolektorSDD and KolektorSDD2."""

from pathlib import Path

import numpy as np
from labelled import listing, truth, write_files
from pictures import encode, mask, noise

from defectline.components.ingest.readers import kolektor

EMPTY = encode(np.zeros((16, 16), np.uint8))


def part(value: int) -> bytes:
    return encode((mask(True) > 0).astype(np.uint8) * np.uint8(value), "BMP")


def test_parts_of_one_commutator_are_a_group(tmp_path: Path):
    files = {
        f"kos{item:02}/Part{side}.jpg": encode(noise(item + side), "JPEG")
        for item in (1, 50)
        for side in (0, 1)
    }
    values = {"kos01/Part0": 0, "kos01/Part1": 2, "kos50/Part0": 1, "kos50/Part1": 255}
    files |= {f"{stem}_label.bmp": part(value) for stem, value in values.items()}
    files["readme.txt"] = b""
    found = listing(write_files(tmp_path, files))
    assert kolektor.fits(found) == "kos01/Part0_label.bmp is a mask of KolektorSDD"
    layout = kolektor.read(found)
    assert {(one.stem, one.group, one.label, one.split) for one in layout.records} == {
        (stem, stem.partition("/")[0], "", "") for stem in values
    }
    # Every value but 0 is the same class.
    for record in layout.records:
        drawn = truth(record, found)
        assert [(name, pixels.sum()) for name, pixels in drawn.items()] == [("defect", 9)] * bool(
            values[record.stem]
        )
    assert (layout.rejected, layout.ignored) == ([], {"other files": 1})


def test_the_second_set_has_splits(tmp_path: Path):
    files = {
        f"{split}/{number}{ending}.png": encode(noise(number)) if not ending else EMPTY
        for split, number in (("train", 10001), ("test", 20001))
        for ending in ("", "_GT")
    }
    found = listing(write_files(tmp_path, files))
    assert kolektor.fits(found) == "test/20001_GT.png is a mask of KolektorSDD2"
    assert [(one.stem, one.split, one.group) for one in kolektor.read(found).records] == [
        ("test/20001", "test", ""),
        ("train/10001", "train", ""),
    ]


def test_what_is_alone_is_rejected(tmp_path: Path):
    files = {
        "kos01/Part0.jpg": b"",
        "kos01/Part1_label.bmp": b"",
        "kos01/Part2.jpg": b"",
        "kos01/Part2_label.bmp": b"",
    }
    layout = kolektor.read(listing(write_files(tmp_path, files)))
    assert [one.stem for one in layout.records] == ["kos01/Part2"]
    assert [(row.id, row.reason) for row in layout.rejected] == [
        ("kos01/Part0", "No mask of that name."),
        ("kos01/Part1", "No picture of that name."),
    ]


def test_other_sources_do_not_fit(tmp_path: Path):
    assert not kolektor.fits(listing(write_files(tmp_path, {"train/1.png": b"", "kos01/Part0.jpg": b""})))
