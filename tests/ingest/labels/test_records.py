"""From what a reader found to pairs, and when a mask that was read before is read again."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from labelled import listing, write_files
from pictures import encode, mask, noise, objects

from defectline.components.common.errors import SourceError
from defectline.components.common.legend import write_legend
from defectline.components.common.snapshot import Pair
from defectline.components.common.storage import Object
from defectline.components.ingest.labels.records import (
    Labels,
    Nothing,
    file_of,
    find_labels,
    marked,
    mask_key,
    reads_alike,
    to_pair,
    with_files,
)
from defectline.components.ingest.readers.base import Marked, Painted, Record, Sidecar
from defectline.components.ingest.roi import Regions, part_regions
from defectline.components.ingest.settings import IngestSettings

IMAGE, MASK = objects("NG/1.png", "NG_MSK/1.png")
FILES: Mapping[str, bytes | str] = {
    **{f"OK/{number}.png": encode(noise(number)) for number in range(2)},
    **{f"NG/{number}.png": encode(noise(9 + number)) for number in range(2)},
    **{f"NG_MSK/{number}.png": encode(mask(True)) for number in range(2)},
}
MVTEC = dict.fromkeys(("train/good/0.png", "test/crack/0.png", "ground_truth/crack/0_mask.png"), b"")
PAINTED = Painted("a.json", "digest", np.ones((2, 2), np.uint8))


def labels_of(root: Path, files: Mapping[str, bytes | str], regions: Regions | None = None) -> Labels:
    return find_labels(listing(write_files(root, files)), IngestSettings(), regions or Regions(None, {}))


def sidecar(said: Marked, key: str = "a.json", context: str = "") -> Sidecar:
    return Sidecar(Object(key, 1, "7"), lambda data: said, context)


def test_labels_say_which_layout_it_is_and_what_was_ignored(tmp_path: Path):
    found = labels_of(tmp_path, FILES | {"OK/2.tmp": b"", "NG/1.txt": b"", "more/x.png": b""})
    assert found.format == "folders"
    assert [(one.label, one.stem, mask_key(one)) for one in found.layout.records] == [
        ("NG", "0", "NG_MSK/0.png"),
        ("NG", "1", "NG_MSK/1.png"),
        ("OK", "0", ""),
        ("OK", "1", ""),
    ]
    assert found.lines == [
        "layout folders: the folders OK/, NG/, NG_MSK/",
        "ignored 1 *.tmp, 1 .txt, 1 files outside of OK/, OK_MSK/, NG/, NG_MSK/",
    ]


def test_names_of_classes_csv_are_those_of_mask_files(tmp_path: Path):
    found = labels_of(tmp_path, FILES | {"classes.csv": "value,name\n1,scratch\n2,dent\n"})
    assert {(one.label, one.legend) for one in found.layout.records} == {
        ("NG", '["scratch", "dent"]'),
        ("OK", ""),
    }


def test_regions_go_to_their_pictures_and_one_that_fits_none_is_said(tmp_path: Path):
    regions, _ = part_regions(objects("ROI/1.png", "ROI/broken.png", "ROI/8.png", "ROI/9.png"))
    # The name of a picture that is rejected is a picture's all the same.
    twice = dict.fromkeys(("NG/broken.png", "NG_MSK/broken.png", "NG_MSK/broken.bmp"), b"")
    found = labels_of(tmp_path, {**FILES, **twice}, regions)
    assert {(one.label, one.stem): one.roi and one.roi.key for one in found.layout.records} == {
        ("NG", "0"): None,
        ("NG", "1"): "ROI/1.png",
        ("OK", "0"): None,
        ("OK", "1"): "ROI/1.png",
    }
    assert [row.id for row in found.layout.rejected] == ["NG/broken"]
    assert found.lines[1:] == ["no picture has the name of 2 files in ROI/, such as ROI/8.png"]


def test_names_that_no_table_can_hold_are_rejected(tmp_path: Path):
    found = labels_of(tmp_path, MVTEC | {"train/good/b\\c.png": b""})
    assert [one.stem for one in found.layout.records] == ["test/crack/0", "train/good/0"]
    (row,) = found.layout.rejected
    assert (row.id, row.fix) == ("OK/train/good/b\\c", "Rename the file.")
    assert "a backslash" in row.reason


def test_pictures_of_one_name_are_rejected(tmp_path: Path):
    found = labels_of(tmp_path, MVTEC | {"train/good/0.jpg": b""})
    assert [one.stem for one in found.layout.records] == ["test/crack/0"]
    assert {row.reason for row in found.layout.rejected} == {"More than one picture is called train/good/0."}
    assert sorted(row.image_key for row in found.layout.rejected) == ["train/good/0.jpg", "train/good/0.png"]


def test_a_record_is_a_pair_before_it_is_read():
    record = Record("1", "NG", IMAGE, MASK, '"scratch"', group="part 7")
    assert to_pair(record) == Pair(
        "NG/1",
        "NG",
        "accepted",
        "NG/1.png",
        "NG_MSK/1.png",
        image_version="1",
        mask_version="1",
        legend='"scratch"',
        group="part 7",
    )
    # Nothing but its mask knows the label.
    assert to_pair(Record("1", "", IMAGE)).id == "1"


def test_another_region_is_another_mask():
    region = Object("roi.png", 1, "5")
    assert to_pair(Record("1", "NG", IMAGE, MASK, roi=region)).mask_version == "1 roi.png 5"
    assert to_pair(Record("1", "OK", IMAGE, roi=region)).mask_version == "roi.png 5"


def test_what_is_read_with_a_picture():
    beside = sidecar(Marked("OK", None), context="names")
    assert (file_of(None), file_of(MASK), file_of(PAINTED), file_of(beside)) == (
        None,
        MASK,
        None,
        beside.file,
    )
    assert to_pair(Record("1", "", IMAGE, beside)).mask_version == "7 names"
    newer, other = Object(IMAGE.key, 2, "2"), Object("a.json", 2, "8")
    assert with_files(Record("1", "NG", IMAGE, MASK), newer, other)[2:4] == (newer, other)
    assert with_files(Record("1", "NG", IMAGE, PAINTED), newer, None)[2:4] == (newer, PAINTED)
    assert with_files(Record("1", "", IMAGE, beside), newer, other)[2:4] == (
        newer,
        beside._replace(file=other),
    )


def test_an_annotation_beside_a_picture_says_its_label_and_mask():
    plain, drawn = Record("1", "NG", IMAGE, MASK), Record("1", "NG", IMAGE, PAINTED)
    assert marked(plain, to_pair(plain), b"file") == (to_pair(plain), b"file")
    assert marked(drawn, to_pair(drawn), b"")[1] is PAINTED
    beside = Record("1", "", IMAGE, sidecar(Marked("NG", PAINTED, '["scratch"]')))
    pair, drawing = marked(beside, to_pair(beside), b"file")
    assert (pair.id, pair.label, pair.legend, drawing) == ("NG/1", "NG", '["scratch"]', PAINTED)
    pair, drawing = marked(good := beside._replace(mask=sidecar(Marked("OK", None))), to_pair(good), b"")
    assert (pair.id, drawing) == ("OK/1", Nothing("a.json"))
    pair, nothing = marked(bad := beside._replace(mask=sidecar(Marked("NG", None))), to_pair(bad), b"")
    assert (pair.id, pair.mask_key, nothing) == ("NG/1", "a.json", None)
    assert not drawing.draw(3, 4).any()
    assert drawing.draw(3, 4).shape == (3, 4)


def test_an_annotation_that_cannot_be_used_says_so():
    def fail(_: bytes) -> Marked:
        raise SourceError("No.", got="it", expected="that", fix="Do.")

    record = Record("1", "", IMAGE, Sidecar(MASK, fail))
    with pytest.raises(SourceError, match="No"):
        marked(record, to_pair(record), b"")


WHITE, ONES, NUMBERS, OLD = "9", '{"1": 9}', '{"1": 4, "2": 5}', ""
"""`Pair.areas` of a white mask, of one that holds 1, of one with two classes, and of before classes."""
NAMED = write_legend(["scratch", "dent"])


@pytest.mark.parametrize(
    ("areas", "legend", "numbered", "alike"),
    [
        (WHITE, "", False, True),
        (ONES, "", False, True),
        (NUMBERS, "", True, True),
        (OLD, "", False, True),
        # Now that others hold numbers, whether it was white or 1 decides; of the old nothing says it.
        (WHITE, "", True, True),
        (OLD, "", True, False),
        (OLD, NAMED, False, False),
        # White is not a number of the named ones.
        (WHITE, NAMED, False, False),
        (ONES, NAMED, False, True),
        (NUMBERS, NAMED, True, True),
        (NUMBERS, '"scratch"', False, True),
        # 255 alone does not count where numbers are named, and is a mark where they are not.
        ('{"255": 9}', NAMED, False, True),
        ('{"255": 9}', "", False, False),
    ],
)
def test_a_mask_is_read_again_where_its_values_mean_something_else(
    areas: str, legend: str, numbered: bool, alike: bool
):
    old = Pair("NG/1", "NG", "accepted", areas=areas, defect_px=9)
    assert reads_alike(old, Record("1", "NG", IMAGE, MASK, legend), numbered) is alike


def test_a_drawing_is_the_same_as_long_as_its_names_are():
    old = Pair("NG/1", "NG", "accepted", legend='["scratch"]', areas=ONES, defect_px=9)
    record = Record("1", "NG", IMAGE, PAINTED, '["scratch"]')
    assert reads_alike(old, record, False)
    assert reads_alike(old, record._replace(legend=""), True)
    assert not reads_alike(old, record._replace(legend='["dent"]'), False)
