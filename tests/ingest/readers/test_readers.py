"""Which layout a source has."""

from pathlib import Path

import pytest
from labelled import write_files
from pictures import encode, mask, noise, write_source

from defectline.components.common.errors import SourceError
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.readers import FORMATS, choose
from defectline.components.ingest.readers.base import Listing, Reader
from defectline.components.ingest.settings import IngestSettings


def listing(source: Path) -> Listing:
    storage = FolderStorage(source)
    return Listing(storage, storage.list_all())


def put(source: Path, **files: bytes) -> Path:
    for key, data in files.items():
        path = source / key.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return source


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_can_be_asked_for(name: str, tmp_path: Path):
    write_source(tmp_path, range(1))
    reader: Reader
    reader, why = choose(listing(tmp_path), name)
    assert name == reader.NAME
    assert reader.EXPECTED
    assert why == f"layout={name}"
    assert IngestSettings.model_validate({"layout": name}).layout == name


def test_the_four_folders_are_found(tmp_path: Path):
    reader, why = choose(listing(write_source(tmp_path, range(2))))
    assert (reader.NAME, why) == ("folders", "the folders OK/, OK_MSK/, NG/, NG_MSK/")


def test_masks_in_two_folders_are_found(tmp_path: Path):
    source = put(tmp_path, images__a_DOT_png=encode(noise(1)), masks__a_DOT_png=encode(mask(True)))
    reader, why = choose(listing(source))
    assert (reader.NAME, why) == ("folders", "1 pictures, 1 with a mask of their name in masks/")


def test_two_that_fit_are_named(tmp_path: Path):
    write_source(tmp_path, range(2))
    (tmp_path / "labels.csv").write_text("image,label,mask\nOK/00000_OK_Image.png,OK,\n")
    with pytest.raises(SourceError, match="more than one layout") as caught:
        choose(listing(tmp_path))
    assert "folders: the folders OK/" in caught.value.got
    assert "csv: " in caught.value.got
    assert "layout=csv" in caught.value.fix
    assert choose(listing(tmp_path), "csv")[0].NAME == "csv"


def test_what_no_reader_knows_is_refused_with_all_layouts(tmp_path: Path):
    with pytest.raises(SourceError, match="The source is empty"):
        choose(listing(tmp_path))
    (tmp_path / "a.png").write_bytes(encode(noise(1)))
    with pytest.raises(SourceError, match="The source has another layout") as caught:
        choose(listing(tmp_path))
    assert caught.value.got == "1 file, a.png"
    assert "a folder OK/ of good images, NG/" in caught.value.expected
    assert "COCO" in caught.value.expected


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"images": [', "export.json is not whole: Expecting value: line 1 column 13"),
        (b"\xff\xfe{}", "export.json is not whole: "),
        (b'{"shapes": 1, "tags": 2}', "export.json has the keys shapes, tags"),
        (b"{}", "export.json has the keys of an empty object"),
        (b"[1, 2]", "export.json is a list of 2 entries"),
        (b"7", "export.json holds one value"),
    ],
)
def test_an_annotation_file_that_no_reader_takes_is_named(tmp_path: Path, data: bytes, said: str):
    write_files(tmp_path, {"a.png": encode(noise(1)), "export.json": data})
    with pytest.raises(SourceError, match="another layout") as caught:
        choose(listing(tmp_path))
    assert caught.value.got.startswith("2 files, such as a.png; ")
    assert said in caught.value.got


def test_xml_that_no_reader_takes_is_named(tmp_path: Path):
    write_files(tmp_path, {"a.png": encode(noise(1)), "b.xml": b"<note/>", "c.xml": b"<anno"})
    with pytest.raises(SourceError, match="another layout") as caught:
        choose(listing(tmp_path))
    assert "b.xml is XML with <note>; c.xml is not whole: " in caught.value.got
