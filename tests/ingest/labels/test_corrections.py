"""corrections.csv: labels that people set right."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from networks import SIZE, write_source
from pictures import encode

from defectline.components.common.errors import SourceError
from defectline.components.common.images.masks import encode_mask
from defectline.components.common.legend import write_legend
from defectline.components.common.snapshot import Pair, read_pairs
from defectline.components.common.storage import Object, open_storage
from defectline.components.ingest.labels.corrections import (
    Correction,
    correct,
    parse_corrections,
    write_corrections,
)
from defectline.components.ingest.readers.base import Layout, Record, unusable
from defectline.components.ingest.step import ingest


def _object(key: str) -> Object:
    return Object(key, 1, "v")


def _layout(*keys: str) -> Layout:
    records = [Record(Path(key).stem, key.partition("/")[0], _object(key)) for key in keys]
    return Layout(records, [], Counter())


def test_a_file_is_read_as_it_was_written():
    rows = [
        Correction("OK/1.png", "NG", "corrections/1.png", "dent|scratch", "ada, of line 2", "2026-01-02"),
        Correction("NG/2.png", "OK"),
        Correction("NG/3.png", "ignore"),
    ]
    assert parse_corrections(write_corrections(rows)) == rows
    assert parse_corrections(b"\xef\xbb\xbfImage, label\r\nOK/1.png , NG\r\n\r\n") == [
        Correction("OK/1.png", "NG")
    ]
    assert parse_corrections(b"image,label\na,OK\na,NG\n") == [Correction("a", "NG")]


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b"", "the first line ''"),
        (b"id,label\n", "the first line 'id,label'"),
        (b"image,label,colour\n", "the first line"),
        (b"image,label,label\n", "the first line"),
        (b"image,label\na\n", "line 2: 'a'"),
        (b"image,label\n,OK\n", "line 2: ',OK'"),
        (b"image,label\na,good\n", "the label 'good' in line 2"),
        (b"image,label\n\xff,OK\n", "not UTF-8"),
        (b'image,label\n"a,OK\n', "unexpected end"),
    ],
)
def test_a_malformed_file_is_refused(data: bytes, got: str):
    with pytest.raises(SourceError, match=r"corrections\.csv cannot be read") as caught:
        parse_corrections(data)
    assert got in caught.value.got


def test_labels_masks_and_names_are_replaced():
    mask = _object("corrections/1.png")
    rows = [Correction("OK/1.png", "NG", mask.key, "dent|scratch"), Correction("NG/2.png", "OK")]
    done = correct(_layout("OK/1.png", "NG/2.png", "NG/3.png"), rows, {mask.key: mask})
    first, second, third = done.records
    assert (first.label, first.mask, first.legend) == ("NG", mask, write_legend(["dent", "scratch"]))
    assert (second.label, second.mask) == ("OK", None)
    assert third == _layout("NG/3.png").records[0]
    assert list(done.notes) == ["2 labels as corrections.csv says"]


def test_what_is_left_out_rejected_or_not_there():
    layout = _layout("OK/1.png", "NG/2.png")
    row = unusable("4", "has no mask", "add it", label="NG", image="NG/4.png")
    layout = layout._replace(rejected=[row])
    rows = [Correction("OK/1.png", "ignore"), Correction("NG/4.png", "OK"), Correction("NG/9.png", "OK")]
    done = correct(layout, rows, {"NG/4.png": _object("NG/4.png")})
    assert [(one.label, one.stem) for one in done.records] == [("NG", "2"), ("OK", "4")]
    assert not done.rejected
    assert list(done.notes) == [
        "1 label as corrections.csv says",
        "1 picture left out, as corrections.csv says",
        "corrections.csv names 1 that the source does not have, such as NG/9.png",
    ]


def test_two_pictures_do_not_get_one_name():
    done = correct(_layout("OK/1.png", "NG/1.png"), [Correction("OK/1.png", "NG")], {})
    assert [one.stem for one in done.records] == ["1-was-OK", "1"]


def test_a_mask_that_is_missing_stops_the_run():
    with pytest.raises(SourceError, match="is missing") as caught:
        correct(_layout("OK/1.png"), [Correction("OK/1.png", "NG", "corrections/1.png")], {})
    assert "corrections/1.png" in caught.value.got


def test_the_next_snapshot_has_them_and_no_picture_changes_its_side(tmp_path):
    source, store = write_source(tmp_path / "source"), tmp_path / "store"
    before = _rows(store, ingest(str(source), str(store), "one"))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[10:20, 10:20] = 1
    (source / "corrections").mkdir()
    (source / "corrections/a.png").write_bytes(encode_mask(mask))
    # What lies there and is not named is no picture either.
    (source / "corrections/b.png").write_bytes(encode(mask))
    good = next(key for key, row in before.items() if row.label == "OK" and row.split == "train")
    bad, other = [key for key, row in before.items() if row.label == "NG" and row.split == "train"][:2]
    rows = [
        Correction(good, "NG", "corrections/a.png"),
        Correction(bad, "OK"),
        Correction(other, "ignore"),
    ]
    (source / "corrections.csv").write_bytes(write_corrections(rows))
    after = _rows(store, ingest(str(source), str(store), "two"))
    assert (after[good].label, after[good].defect_px) == ("NG", 100)
    assert (after[bad].label, after[bad].defect_px) == ("OK", 0)
    assert after[other].status == "absent"
    assert {key: row.split for key, row in after.items()} == {key: row.split for key, row in before.items()}
    (source / "corrections.csv").unlink()
    for file in (source / "corrections").iterdir():
        file.unlink()
    again = _rows(store, ingest(str(source), str(store), "three"))
    assert {key: (row.label, row.split) for key, row in again.items() if row.accepted} == {
        key: (row.label, row.split) for key, row in before.items()
    }


def _rows(store: Path, snapshot: str) -> dict[str, Pair]:
    """Accepted pairs, and those that left, by the key of their picture."""
    pairs = read_pairs(open_storage(str(store)), snapshot)
    return {pair.image_key: pair for pair in sorted(pairs, key=lambda pair: pair.accepted)}
