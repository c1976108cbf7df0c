"""PASCAL VOC and segmentation masks of CVAT and Datumaro."""

from pathlib import Path

import numpy as np
import pytest
from labelled import listing, same, truth, unpack, write_files
from layouts import numbers, part_of, picture
from parts import HEIGHT, PARTS, WIDTH
from pictures import encode, take
from PIL import Image

from defectline.components.common.errors import SourceError
from defectline.components.common.legend import Names
from defectline.components.common.snapshot import read_files, read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.readers import voc
from defectline.components.ingest.readers.base import Sidecar

LABEL_MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nscratch:250,50,83::\ndent:51,221,255::\n"
SIZE = (2, 3)


def mask(*rows: list[int] | list[tuple[int, int, int]], mode: str = "L", palette: bool = False) -> bytes:
    picture = Image.fromarray(np.array(rows, np.uint8), mode)
    if palette:
        picture = picture.convert("P")
        picture.putdata(np.array(rows).ravel().tolist())
        picture.putpalette([part for colour in voc.colours(256) for part in colour])
    return encode(picture)


def drawn(root: Path, data: bytes, files: dict[str, str]) -> dict[str, list[tuple[int, int]]]:
    """Where the classes of a mask are, as (row, column)."""
    found = listing(
        write_files(root, {"JPEGImages/a.jpg": b"", "SegmentationClass/a.png": data, **files}),
    )
    (record,) = voc.read(found).records
    classes = truth(record, found, SIZE)
    return {name: [(int(y), int(x)) for y, x in np.argwhere(pixels)] for name, pixels in classes.items()}


@pytest.mark.parametrize("export", ["voc", "voc_numbers"])
def test_an_export_of_datumaro(tmp_path: Path, export: str):
    found = listing(unpack(export, tmp_path))
    assert voc.fits(found) == "SegmentationClass/ is that of PASCAL VOC"
    layout = voc.read(found)
    assert len(layout.records) == len(PARTS)
    for record in layout.records:
        part = PARTS[record.stem]
        assert same(truth(record, found), part.truth)
        assert record.split == {"val": "validation"}.get(part.split, part.split)
        assert record.label == ("" if part.boxes else "OK")
    assert (layout.rejected, layout.ignored) == ([], {})


BLACK, SCRATCH, DENT, VOID = (0, 0, 0), (250, 50, 83), (51, 221, 255), (224, 224, 192)


@pytest.mark.parametrize(
    ("data", "files", "classes"),
    [
        # Colours of a label map, as CVAT writes them; the border of VOC does not count.
        (
            mask([BLACK, SCRATCH, SCRATCH], [DENT, VOID, BLACK], mode="RGB"),
            {"labelmap.txt": LABEL_MAP},
            {"scratch": [(0, 1), (0, 2)], "dent": [(1, 0)], "ignore": [(1, 1)]},
        ),
        # Numbers in the order of the label map.
        (
            mask([0, 1, 1], [2, 255, 0]),
            {"labelmap.txt": LABEL_MAP},
            {"scratch": [(0, 1), (0, 2)], "dent": [(1, 0)], "ignore": [(1, 1)]},
        ),
        # A palette of which the label map has other colours: its numbers count.
        (mask([0, 1, 1], [2, 255, 0], palette=True), {"labelmap.txt": LABEL_MAP}, None),
        # Where the colours are those of the label map, they count, whatever their order in the palette.
        (
            mask([0, 1, 1], [2, 255, 0], palette=True),
            {"labelmap.txt": "dent:0,128,0::\nscratch:128,0,0::\nbackground:0,0,0::\n"},
            None,
        ),
        # White is a colour of the label map here, and not the 255 that does not count.
        (
            mask([0, 255, 255], [0, 0, 0]),
            {"labelmap.txt": "background:0,0,0::\nscratch:255,255,255::\n"},
            {"scratch": [(0, 1), (0, 2)]},
        ),
        (mask([0, 255, 255], [0, 0, 0]), {"labelmap.txt": LABEL_MAP}, {"ignore": [(0, 1), (0, 2)]}),
        # The background need not be black, nor come first.
        (
            mask([(0, 128, 0), DENT, DENT], [BLACK, BLACK, BLACK], mode="RGB"),
            {"labelmap.txt": "dent:51,221,255::\nbackground:0,128,0::\n"},
            {"dent": [(0, 1), (0, 2)]},
        ),
        # What labelme's script writes.
        (
            mask([0, 1, 1], [2, 255, 0], palette=True),
            {"class_names.txt": "_background_\nscratch\ndent\n"},
            None,
        ),
        # Names as Datumaro writes them where a project has none of its own colours.
        (
            mask([0, 1, 1], [2, 255, 0], palette=True),
            {"labelmap.txt": "# label:color_rgb:parts:actions\nbackground:::\nscratch:::\ndent:::\n"},
            None,
        ),
        # Nothing names the numbers.
        (
            mask([(0, 0, 0), (128, 0, 0), (0, 0, 0)], [(0, 128, 0), VOID, BLACK], mode="RGB"),
            {},
            {"value 1": [(0, 1)], "value 2": [(1, 0)], "value 255": [(1, 1)]},
        ),
        (mask([0, 255, 255], [0, 0, 0]), {}, {"ignore": [(0, 1), (0, 2)]}),
        (
            mask([0, 1, 1], [2, 255, 0], palette=True),
            {"classes.csv": "value,name\n1,scratch\n2,dent\n"},
            None,
        ),
        (mask([0, 0, 0], [0, 0, 0]), {}, {}),
        # A label may say that it does not count.
        (
            mask([0, 1, 1], [0, 0, 0]),
            {"labelmap.txt": "background:::\nignored:::\n"},
            {"ignore": [(0, 1), (0, 2)]},
        ),
    ],
)
def test_what_a_mask_means(
    tmp_path: Path, data: bytes, files: dict[str, str], classes: dict[str, list[tuple[int, int]]] | None
):
    usual = {"scratch": [(0, 1), (0, 2)], "dent": [(1, 0)], "ignore": [(1, 1)]}
    assert drawn(tmp_path, data, files) == (usual if classes is None else classes)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (mask([BLACK, (1, 2, 3), BLACK], [BLACK, BLACK, BLACK], mode="RGB"), r"the colours \(1,2,3\)"),
        (mask([0, 7, 9], [0, 0, 0]), "the numbers 7, 9"),
        (b"no picture", "not a picture"),
    ],
)
def test_a_mask_with_values_that_have_no_label(tmp_path: Path, data: bytes, what: str):
    with pytest.raises(SourceError, match=what):
        drawn(tmp_path, data, {"labelmap.txt": LABEL_MAP})


def test_the_size_has_to_fit(tmp_path: Path):
    found = listing(write_files(tmp_path, {"JPEGImages/a.jpg": b"", "SegmentationClass/a.png": mask([0, 0])}))
    (record,) = voc.read(found).records
    with pytest.raises(SourceError, match="mask 2×1, image 3×2"):
        truth(record, found, SIZE)


def test_other_labels_are_another_version(tmp_path: Path):
    versions = set()
    for names in (LABEL_MAP, LABEL_MAP.replace("dent", "dust")):
        files = {"JPEGImages/a.jpg": b"", "SegmentationClass/a.png": mask([0, 0]), "labelmap.txt": names}
        (record,) = voc.read(listing(write_files(tmp_path, files))).records
        assert isinstance(record.mask, Sidecar)
        versions.add(record.mask.version)
    assert len(versions) == 2


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("scratch:0,0,0::\ndent:1,1,1::\n", "does not say what the background is"),
        ("background:0,0::\n", "cannot be read"),
    ],
)
def test_a_label_map_that_cannot_be_used(tmp_path: Path, text: str, what: str):
    with pytest.raises(SourceError, match=what):
        drawn(tmp_path, mask([0, 0, 0], [0, 0, 0]), {"labelmap.txt": text})


def test_pictures_without_a_mask(tmp_path: Path):
    files = {f"JPEGImages/{name}.jpg": b"" for name in ("drawn", "good one", "unlabelled")}
    files |= {"SegmentationClass/drawn.png": b"", "SegmentationClass/gone.png": b""}
    unlisted = voc.read(listing(write_files(tmp_path, files)))
    assert [(row.id, row.reason) for row in unlisted.rejected] == [
        ("gone", "No picture of that name."),
        ("good one", "No mask of that name."),
        ("unlabelled", "No mask of that name."),
    ]
    # CVAT puts names with spaces into quotation marks.
    lists = {"ImageSets/Segmentation/default.txt": 'drawn\n"good one"\n'}
    listed = voc.read(listing(write_files(tmp_path, lists)))
    assert [(one.stem, one.label) for one in listed.records] == [("drawn", ""), ("good one", "OK")]
    assert listed.ignored == {"pictures without a mask that no list names": 1}


def test_a_picture_in_two_splits(tmp_path: Path):
    files = {"SegmentationClass/a.png": b"", "JPEGImages/a.jpg": b""}
    files |= {f"ImageSets/Segmentation/{split}.txt": b"a\n" for split in ("train", "val", "trainval")}
    with pytest.raises(SourceError, match="two splits") as caught:
        voc.read(listing(write_files(tmp_path, files)))
    assert caught.value.got == "a in train and validation"


def test_pictures_may_lie_in_another_folder(tmp_path: Path):
    files = [
        "VOC2012/SegmentationClass/sub/a.png",
        "VOC2012/pictures/sub/a.bmp",
        "VOC2012/SegmentationObject/sub/a.png",
    ]
    layout = voc.read(listing(write_files(tmp_path, dict.fromkeys(files, b""))))
    assert [(one.stem, one.image.key) for one in layout.records] == [("sub/a", "VOC2012/pictures/sub/a.bmp")]
    assert layout.ignored == {"files in SegmentationObject/": 1}


def test_several_sets_and_boxes_are_refused(tmp_path: Path):
    files = dict.fromkeys(
        [f"{year}/{name}" for year in ("a", "b") for name in ("SegmentationClass/1.png",)], b""
    )
    found = listing(write_files(tmp_path / "several", files))
    assert voc.fits(found)
    with pytest.raises(SourceError, match="several sets") as caught:
        voc.read(found)
    assert caught.value.got == "a, b"
    found = listing(write_files(tmp_path / "boxes", {"JPEGImages/1.jpg": b"", "Annotations/1.xml": b""}))
    assert voc.fits(found)
    with pytest.raises(SourceError, match="boxes, but no masks") as caught:
        voc.read(found)
    assert caught.value.got == "Annotations/1.xml"


def test_what_an_older_labelme_writes(tmp_path: Path):
    files = [
        "JPEGImages/a.jpg",
        "SegmentationClass/a.npy",
        "SegmentationClassPNG/a.png",
        "SegmentationClassVisualization/a.jpg",
    ]
    layout = voc.read(listing(write_files(tmp_path, dict.fromkeys(files, b""))))
    assert [(one.stem, one.mask and one.mask.key) for one in layout.records] == [
        ("a", "SegmentationClassPNG/a.png")
    ]
    assert layout.ignored == {"files in SegmentationClass/": 1, "files in SegmentationClassVisualization/": 1}


@pytest.mark.parametrize(("most", "classes"), [(1, ("defect",)), (2, ("1", "2"))])
def test_numbers_that_nothing_names(
    tmp_path: Path, store: FolderStorage, most: int, classes: tuple[str, ...]
):
    files: dict[str, bytes | str] = {}
    for part in PARTS.values():
        files[f"JPEGImages/{part.name}.png"] = picture(part)
        files[f"SegmentationClass/{part.name}.png"] = encode(np.minimum(numbers(part), most))
    taken = take(write_files(tmp_path / "source", files), store)
    assert taken.classes == classes
    for pair, _, data in read_files(store, read_pairs(store, taken.id)):
        drawn = Names.of(store, taken, [pair]).truth(data, (HEIGHT, WIDTH), pair)
        assert (drawn == np.minimum(numbers(part_of(pair.id)), most)).all()


def test_another_label_map_is_read_again(tmp_path: Path, store: FolderStorage):
    source = unpack("voc", tmp_path / "source")
    assert take(source, store).classes == ("dent", "scratch")
    text = (source / "labelmap.txt").read_text()
    (source / "labelmap.txt").write_text(text.replace("dent", "dust"))
    assert take(source, store).classes == ("scratch", "dust")
