"""VisA as it is published."""

from pathlib import Path

import pytest
from labelled import listing, truth, write_files
from pictures import encode, mask, noise

from defectline.components.common.errors import SourceError
from defectline.components.ingest.readers import visa

DATA = {
    "Data/Images/Normal/0000.JPG": encode(noise(0), "JPEG"),
    "Data/Images/Anomaly/000.JPG": encode(noise(1), "JPEG"),
    "Data/Images/Anomaly/001.JPG": encode(noise(2), "JPEG"),
    "Data/Masks/Anomaly/000.png": encode((mask(True) > 0) * mask(True) // 85),
    "Data/Masks/Anomaly/001.png": encode(mask(True)),
}
ANNOTATIONS = """image,label,mask
candle/Data/Images/Normal/0000.JPG,normal,
candle/Data/Images/Anomaly/000.JPG,wax melded,candle/Data/Masks/Anomaly/000.png
candle/Data/Images/Anomaly/001.JPG,"melt, scratch",candle/Data/Masks/Anomaly/001.png
"""
SPLIT = """object,split,label,image,mask
candle,train,normal,candle/Data/Images/Normal/0000.JPG,
candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png
candle,test,anomaly,candle/Data/Images/Anomaly/001.JPG,candle/Data/Masks/Anomaly/001.png
pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,
"""


def below(folder: str, files: dict[str, bytes]) -> dict[str, bytes | str]:
    return {f"{folder}/{key}": data for key, data in files.items()}


def test_an_object_with_its_own_table_names_its_defects(tmp_path: Path):
    found = listing(write_files(tmp_path, {**DATA, "image_anno.csv": ANNOTATIONS}))
    assert visa.fits(found) == "image_anno.csv and Data/Images/ are those of VisA"
    layout = visa.read(found)
    assert [(one.stem, one.label, one.legend, one.split) for one in layout.records] == [
        ("Normal/0000", "OK", "", ""),
        ("Anomaly/000", "NG", '"wax melded"', ""),
        ("Anomaly/001", "NG", '"combined"', ""),
    ]
    # The masks hold 3 and 255: both are the whole of what is marked.
    for record in layout.records[1:]:
        ((_, drawn),) = truth(record, found).items()
        assert (drawn == (mask(True) > 0)).all()
    assert (layout.rejected, layout.ignored) == ([], {})
    assert "split is by hash" in layout.notes[0]


def test_one_object_below_the_table_of_splits(tmp_path: Path):
    found = listing(write_files(tmp_path, {**below("candle", DATA), "split_csv/1cls.csv": SPLIT}))
    layout = visa.read(found)
    assert [one.legend for one in layout.records] == ["", '"defect"', '"defect"']
    assert layout.ignored == {"rows for other objects": 1}


def test_of_several_objects_one_is_asked_for(tmp_path: Path):
    files = {**below("candle", DATA), **below("pcb1", DATA), "split_csv/1cls.csv": SPLIT}
    found = listing(write_files(tmp_path, files))
    assert visa.fits(found)
    with pytest.raises(SourceError, match="several objects") as caught:
        visa.read(found)
    assert caught.value.got == "candle, pcb1"


def test_missing_files_are_named(tmp_path: Path):
    files = {**DATA, "image_anno.csv": ANNOTATIONS}
    del files["Data/Masks/Anomaly/000.png"], files["Data/Images/Normal/0000.JPG"]
    layout = visa.read(listing(write_files(tmp_path, files)))
    assert [(row.id, row.reason) for row in layout.rejected] == [
        ("OK/Normal/0000", "image_anno.csv, line 2: no file Data/Images/Normal/0000.JPG."),
        ("NG/Anomaly/000", "image_anno.csv, line 3: no file Data/Masks/Anomaly/000.png."),
    ]


def test_a_row_that_names_no_mask_needs_none(tmp_path: Path):
    table = ANNOTATIONS.replace("candle/Data/Masks/Anomaly/000.png", "")
    layout = visa.read(listing(write_files(tmp_path, {**DATA, "image_anno.csv": table})))
    assert [(one.stem, one.label) for one in layout.records if not one.mask] == [
        ("Normal/0000", "OK"),
        ("Anomaly/000", "NG"),
    ]


def test_another_table_is_explained(tmp_path: Path):
    found = listing(write_files(tmp_path, {**DATA, "image_anno.csv": "picture;label\n"}))
    with pytest.raises(SourceError, match="cannot be read") as caught:
        visa.read(found)
    assert "no column image, label, mask" in caught.value.got


def test_other_sources_do_not_fit(tmp_path: Path):
    assert not visa.fits(listing(write_files(tmp_path, DATA)))
