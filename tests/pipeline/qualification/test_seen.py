"""Pictures that the model knows, or that come twice."""

import io

import pytest
from endpoints import plate
from networks import judge_model
from PIL import Image

from defectline.components.common.errors import SettingsError
from defectline.components.common.snapshot import read_files, read_pairs
from defectline.components.common.storage import open_storage
from defectline.pipeline.qualification.seen import digest, given_twice, known_to_model
from defectline.pipeline.qualification.study import Picture


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return judge_model(tmp_path_factory.mktemp("judged") / "one")


def write(folder, name: str, data: bytes, part: str = "p", truth: str = "OK") -> Picture:
    (folder / name).write_bytes(data)
    return Picture(folder / name, part, truth, {})


def warnings(judged, pictures, snapshot: str = "") -> list[str]:
    keys = [digest(one) for one in pictures]
    return [*known_to_model(open_storage(str(judged.store)), snapshot or judged.snapshot, pictures, keys)]


def test_what_the_model_learned_from_and_was_judged_by(judged, tmp_path):
    store = open_storage(str(judged.store))
    by_split = {pair.split: data for pair, data, _ in read_files(store, read_pairs(store, judged.snapshot))}
    # In another format it is the same picture.
    other = io.BytesIO()
    Image.open(io.BytesIO(by_split["train"])).save(other, "TIFF")
    pictures = [
        write(tmp_path, "new.png", plate(seed=901)),
        write(tmp_path, "learned.tiff", other.getvalue()),
        write(tmp_path, "judged.png", by_split["test"]),
    ]
    assert [said.partition(":")[0] for said in warnings(judged, pictures)] == [
        "The model was trained on 1 of these 3 pictures (learned.tiff)",
        "The model was judged on 1 of these 3 pictures (judged.png)",
    ]
    assert warnings(judged, pictures[:1]) == []


def test_a_snapshot_that_is_gone(judged, tmp_path):
    (said,) = warnings(judged, [write(tmp_path, "new.png", plate(seed=901))], "0" * 16)
    assert said.startswith("Nobody can tell whether the model knows these pictures")


def test_a_picture_that_comes_twice(tmp_path):
    once = [write(tmp_path, f"{seed}.png", plate(seed=seed)) for seed in (901, 902)]
    again = write(tmp_path, "again.png", plate(seed=901))
    assert [*given_twice(once, list(map(digest, once)))] == []
    (said,) = given_twice([*once, again], list(map(digest, [*once, again])))
    assert said.startswith("1 picture is given more than once (901.png and again.png), and counted each time")
    turned = again._replace(truth="NG", part="q")
    with pytest.raises(SettingsError, match="calls one picture both OK and NG") as caught:
        [*given_twice([*once, turned], list(map(digest, [*once, turned])))]
    assert caught.value.got == "901.png of p: OK and again.png of q: NG"


def test_what_is_not_a_picture_is_left_to_the_endpoint(tmp_path):
    assert digest(write(tmp_path, "x.png", b"x")) != digest(write(tmp_path, "y.png", b"y"))
