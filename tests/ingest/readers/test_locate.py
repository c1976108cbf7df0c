"""Which picture a path in an annotation file means."""

import pytest
from pictures import objects

from defectline.components.common.errors import SourceError
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.readers.base import Listing, Marked
from defectline.components.ingest.readers.locate import Gathering, Missing, Pictures


class Bucket(FolderStorage):
    """Nothing but its name."""

    def __init__(self, uri: str):
        self.uri = uri


def pictures(*keys: str, uri: str = "s3://line/parts") -> Pictures:
    return Pictures(Listing(Bucket(uri), objects(*keys)))


@pytest.mark.parametrize(
    ("keys", "name", "at", "found"),
    [
        (["a.png"], "a.png", "all.json", "a.png"),
        (["x/a.png", "x/b.json"], "./a.png", "x/b.json", "x/a.png"),
        (["images/a.png"], "a.png", "annotations/instances_train.json", "images/a.png"),
        (
            ["images/train/a.png", "images/val/a.png"],
            "a.png",
            "annotations/instances_val.json",
            "images/val/a.png",
        ),
        (["train/a.png", "valid/a.png"], "a.png", "valid/_annotations.coco.json", "valid/a.png"),
        (["images/a.png", "masks/a.png"], "a.png", "all.json", "images/a.png"),
        (["1/a.png", "2/a.png"], "2/a.png", "all.json", "2/a.png"),
        (["pics/a.png"], "C:\\Users\\me\\a.png", "all.json", "pics/a.png"),
        (["pics/a.png"], "file:///data/pics/a.png", "all.json", "pics/a.png"),
        (["pics/a.png", "a.json"], "../pics/a.png", "labels/a.json", "pics/a.png"),
        (["pics/A.PNG"], "pics/a.png", "all.json", "pics/A.PNG"),
        (["a.png", "A.png"], "A.png", "all.json", "A.png"),
        (["Pru\u0308fling.png"], "Pr\u00fcfling.png", "all.json", "Pru\u0308fling.png"),
        (["line 2/a.png"], "line%202/a.png", "all.json", "line 2/a.png"),
        (["x/a%20b.png"], "x/a%20b.png", "all.json", "x/a%20b.png"),
        (["x/a.png"], "s3://line/parts/x/a.png", "all.json", "x/a.png"),
    ],
)
def test_a_path_is_looked_for_in_the_source(keys: list[str], name: str, at: str, found: str):
    assert pictures(*keys).find(name, at).key == found


@pytest.mark.parametrize(
    ("keys", "name", "what"),
    [
        (["a.png"], "b.png", "does not have"),
        (["a.png"], "", "does not have"),
        (["a.png"], "../..", "does not have"),
        (["a.json", "a.txt"], "a.json", "does not have"),
        (["1/a.png", "2/a.png"], "3/a.png", "several files fit"),
    ],
)
def test_what_is_not_there_or_not_clear_is_missing(keys: list[str], name: str, what: str):
    with pytest.raises(Missing, match=what):
        pictures(*keys).find(name, "all.json")


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("s3://other/parts/a.png", "--source s3://other/parts"),
        ("s3://line/parts2/a.png", "--source s3://line/parts2"),
        ("gs://line/parts/a.png", "--source gs://line/parts"),
        ("https://host/parts/a.png?token=1", "replace https://host/parts/ by nothing"),
        ("azure-blob://box/a.png", "replace azure-blob://box/ by nothing"),
    ],
)
@pytest.mark.parametrize("uri", ["s3://line/parts", "/data/parts"])
def test_urls_of_another_place_are_refused(name: str, fix: str, uri: str):
    with pytest.raises(SourceError, match="another place than the source") as error:
        pictures("a.png", uri=uri).find(name, "all.json")
    assert fix in error.value.fix
    assert not isinstance(error.value, Missing)


def test_pictures_in_another_folder_than_named_are_noted_and_unnamed_ones_counted():
    gathering = Gathering(Listing(Bucket("/data"), objects("pics/a.png", "pics/b.png", "c.png", "notes.txt")))
    for name in ("there/a.png", "pics/b.png"):
        gathering.add(name, "all.json", lambda: Marked("OK", None))
    layout = gathering.layout()
    assert [record.stem for record in layout.records] == ["pics/a", "pics/b"]
    assert layout.ignored == {"pictures that no annotation names": 1}
    assert layout.notes == (
        "all.json: 1 pictures are in another folder than it says, and were found by their names",
    )


def test_pictures_that_differ_in_their_suffix_have_different_stems():
    gathering = Gathering(Listing(Bucket("/data"), objects("a.png", "a.jpg", "b.png")))
    for name in ("a.png", "a.jpg", "b.png"):
        gathering.add(name, "all.json", lambda: Marked("OK", None))
    assert [record.stem for record in gathering.layout().records] == ["a.jpg", "a.png", "b"]


def test_where_no_picture_is_found_that_is_an_error():
    gathering = Gathering(Listing(Bucket("/data"), objects("a.png")))
    gathering.add("b.png", "all.json", lambda: Marked("OK", None))
    with pytest.raises(SourceError, match="No picture of the annotations can be used"):
        gathering.layout()
