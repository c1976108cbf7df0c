"""labels.csv."""

from pathlib import Path

import pytest
from labelled import listing, write_files

from defectline.components.common.errors import SourceError
from defectline.components.ingest.readers import csv_list
from defectline.components.ingest.readers.base import Layout

FULL = """image,label,mask,class,group,split
cam/1.png,OK,,,part 7,train
cam/2.png,NG,masks/2.png,scratch,part 8,val
cam/3.png,,masks/3.png,scratch; dent,,test
"""
FILES = dict.fromkeys(["cam/1.png", "cam/2.png", "cam/3.png", "masks/2.png", "masks/3.png", "x.txt"], b"")


def read(root: Path, table: str | bytes, name: str = "labels.csv", **more: bytes) -> Layout:
    found = listing(write_files(root, {**FILES, **more, name: table}))
    assert csv_list.fits(found)
    return csv_list.read(found)


def test_a_row_says_what_is_known_of_a_picture(tmp_path: Path):
    layout = read(tmp_path, FULL)
    assert [
        (one.stem, one.label, one.mask and one.mask.key, one.legend, one.group, one.split)
        for one in layout.records
    ] == [
        ("cam/1", "OK", None, "", "part 7", "train"),
        ("cam/2", "NG", "masks/2.png", '"scratch"', "part 8", "validation"),
        ("cam/3", "", "masks/3.png", '["scratch", "dent"]', "", "test"),
    ]
    assert layout.ignored == {"files that labels.csv does not name": 1}
    assert not layout.rejected


@pytest.mark.parametrize(
    "table",
    [
        "\ufeffMask;Image;Label\nmasks/2.png;cam/2.png;ng\n;cam/1.png;Good\n".encode(),
        b"image\tlabel\tmask\r\n./cam/2.png\tbad\tmasks\\2.png\r\n\r\ncam/1.png\tok\t\r\n",
        b"image,mask\ncam/2.png,masks/2.png\ncam/1.png,\n",
        b"image,label,mask\nHERE/cam/2.png,NG,HERE/masks/2.png\ncam/1.png,OK,\n",
    ],
)
def test_tables_as_programs_write_them(tmp_path: Path, table: bytes):
    layout = read(tmp_path, table.replace(b"HERE", listing(tmp_path).source.uri.encode()), name="Labels.csv")
    found = {one.stem: (one.label, one.mask and one.mask.key) for one in layout.records}
    assert found == {
        "cam/1": ("OK", None),
        "cam/2": ("" if b"label" not in table.lower() else "NG", "masks/2.png"),
    }


def test_names_that_differ_in_their_suffix_alone(tmp_path: Path):
    layout = read(tmp_path, "image,label\ncam/1.png,OK\ncam/1.jpg,OK\n", **{"cam/1.jpg": b""})
    assert [one.stem for one in layout.records] == ["cam/1.png", "cam/1.jpg"]


@pytest.mark.parametrize(
    ("row", "reason", "fix"),
    [
        ("cam/9.png,OK,,", "no file cam/9.png.", "Add"),
        ("CAM/1.PNG,OK,,", "no file CAM/1.PNG.", "Write cam/1.png"),
        ("1.png,OK,,", "no file 1.png.", "Write cam/1.png"),
        ("cam/1.png,NG,masks/1.png,", "no file masks/1.png.", ""),
        ("cam/1.png,,,", "neither a label nor a mask.", "Write OK"),
        ("cam/2.png,NG,masks/2.png," + ";".join(map(str, range(33))), "33 classes.", "at most 32"),
    ],
)
def test_a_row_that_cannot_be_used_is_rejected(tmp_path: Path, row: str, reason: str, fix: str):
    layout = read(tmp_path, f"image,label,mask,class\n{row}\ncam/3.png,NG,masks/3.png,\n")
    assert [one.stem for one in layout.records] == ["cam/3"]
    (rejected,) = layout.rejected
    assert rejected.reason == f"labels.csv, line 2: {reason}"
    assert fix in rejected.fix


@pytest.mark.parametrize(
    ("table", "legend"),
    [
        ("image,label\ncam/1.png,NG\n", ""),
        ("image,label,mask,class\ncam/1.png,,,dent\n", '"dent"'),
        ("image,mask,class\ncam/1.png,,dent;scratch\n", '["dent", "scratch"]'),
    ],
)
def test_a_defect_needs_no_mask(tmp_path: Path, table: str, legend: str):
    (record,) = read(tmp_path, table).records
    assert (record.label, record.mask, record.legend) == ("NG", None, legend)


@pytest.mark.parametrize(
    ("table", "what", "got", "fix"),
    [
        ("image,lable\n", "column 'lable'", "image,lable", "Rename the column to label"),
        ("image,label,notes\n", "column 'notes'", "notes", "Remove the column."),
        ("image,group\n", "cannot be read", "image,group", ""),
        ("label,mask\n", "cannot be read", "label,mask", ""),
        ("", "cannot be read", "the columns ", ""),
        ("image,label,label\n", "cannot be read", "a column twice", ""),
        ("image,label\na.png\n", "cannot be read", "1 columns in line 2", ""),
        ("image,label\n,OK\n", "cannot be read", "no image in line 2", ""),
        ("image,label\na.png,scratch\n", "in the column label", "line 2: scratch", "column class"),
        ("image,label,split\na.png,OK,dev\n", "in the column split", "line 2: dev", "by hash"),
        (
            "image,label\na.png,OK\nb.png,OK\na.png,NG\n",
            "twice",
            "a.png in the lines 2 and 4",
            "scratch;dent",
        ),
        ("image,label\ns3://other/a.png,OK\n", "another place", "s3://other/a.png", "Copy"),
        ("image,label\n/data/a.png,OK\n", "one machine", "/data/a.png", "Remove the beginning"),
        ("image,label\nC:\\data\\a.png,OK\n", "one machine", "C:\\data", "Remove the beginning"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(tmp_path: Path, table: str, what: str, got: str, fix: str):
    with pytest.raises(SourceError, match=what) as caught:
        read(tmp_path, table)
    assert got in caught.value.got
    assert fix in caught.value.fix


def test_bytes_that_are_not_a_table(tmp_path: Path):
    with pytest.raises(SourceError, match="cannot be read") as caught:
        read(tmp_path, b"image,label\n\xff\xfe,OK\n")
    assert "not UTF-8" in caught.value.got


def test_a_source_without_the_table_does_not_fit(tmp_path: Path):
    found = listing(write_files(tmp_path, {"sub/labels.csv": "image,label\n"}))
    assert not csv_list.fits(found)
    with pytest.raises(SourceError, match=r"no labels.csv"):
        csv_list.read(found)


@pytest.mark.parametrize("kind", ["good", "OK"])
@pytest.mark.parametrize("columns", ["image,mask,class", "image,label,mask,class"])
def test_a_class_that_means_good_is_not_a_defect(tmp_path: Path, kind: str, columns: str):
    empty = "," * columns.count(",")
    (one,) = read(tmp_path, f"{columns}\ncam/1.png{empty}{kind}\n").records
    assert (one.label, one.legend) == ("OK", "")
