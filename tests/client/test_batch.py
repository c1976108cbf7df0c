"""Many images at once: which are found, how results are named and written."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import encode
from PIL import Image

from defectline.client import Client, Prediction
from defectline.client.batch import Inspected, find_images, inspect_all, overlay_names, write_csv
from defectline.components.common.errors import ServingError, SettingsError
from defectline.components.common.images.masks import encode_mask
from defectline.components.common.inference.inspection import answer, to_prediction


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """OK/0.png to OK/2.png and NG/0.png to NG/2.png, which are not looked into."""
    for label in ("OK", "NG"):
        (tmp_path / label).mkdir()
        for number in range(3):
            (tmp_path / label / f"{number}.png").write_bytes(b"")
    return tmp_path


def test_a_csv_has_names_that_are_no_text_as_they_are(tmp_path):
    picture = Path(os.fsdecode(b"bad\xff.png"))
    failed = Inspected(picture, None, ServingError("a", got="b", expected="c", fix="d"))
    write_csv([failed], tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_bytes().splitlines()[1].startswith(b"bad\xff.png,")


def test_a_picture_with_two_names_is_one(pictures, monkeypatch):
    monkeypatch.chdir(pictures)
    named = ["OK/0.png", str(pictures / "OK/0.png"), "NG/../OK/0.png", "NG/1.png"]
    assert find_images(named) == [Path("OK/0.png"), Path("NG/1.png")]


def test_pictures_are_found_once_and_in_order(pictures, monkeypatch):
    monkeypatch.chdir(pictures)
    for name in (".hidden.png", "notes.txt", "9.JPG"):
        (pictures / "OK" / name).write_bytes(b"")
    (pictures / "OK/below").mkdir()
    (pictures / "OK/below/deep.png").write_bytes(b"")
    (pictures / "odd[1].png").write_bytes(b"")
    assert find_images(["OK"]) == [Path(f"OK/{name}") for name in ("0.png", "1.png", "2.png", "9.JPG")]
    assert find_images(["**/*.png"])[-1] == Path("odd[1].png")
    assert Path("OK/below/deep.png") in find_images(["**/*.png"])
    assert find_images(["odd[1].png", "missing.png", "odd[1].png"]) == [
        Path("odd[1].png"),
        Path("missing.png"),
    ]
    for name in ("*.bmp", "OK/below/none"):
        (pictures / "OK/below/none").mkdir(exist_ok=True)
        with pytest.raises(SettingsError, match="no images"):
            find_images([name])


def test_every_overlay_has_a_name_of_its_own():
    paths = [
        Path(name) for name in ("/a/OK/1.png", "/b/OK/1.png", "/a/NG/1.png", "/a/OK/1.bmp", "/a/ok/1.png")
    ]
    assert list(overlay_names(paths).values()) == [
        "OK-1.png",
        "OK-1-2.png",
        "NG-1.png",
        "OK-1-3.png",
        "ok-1-4.png",
    ]


def test_what_was_done_before_the_endpoint_went_away_is_kept(pictures):
    found = to_prediction(answer(np.zeros((8, 8), np.uint16), 0.5, 2))

    class Leaving(Client):
        """Answers twice."""

        left = 2

        def inspect(self, image):
            if not self.left:
                raise ServingError("gone", got="", expected="", fix="")
            self.left -= 1
            return Prediction(**found, model_version="v1", latency_ms=1)

    paths = sorted(pictures.glob("*/*.png"))
    inspected = inspect_all(Leaving("http://localhost"), paths, jobs=1)
    assert [one.image for one in inspected.done] == paths[:2]
    assert str(inspected.stopped).startswith("gone")


def test_overlays_show_the_region_of_interest_which_is_asked_for_once_a_version(pictures):
    found = to_prediction(answer(np.zeros((8, 8), np.uint16), 0.5, 2))
    half = np.ones((8, 8), np.uint8)
    half[:, 4:] = 0
    first, others = (encode(np.full((8, 8), value, np.uint8)) for value in (200, 100))
    paths = sorted(pictures.glob("*/*.png"))
    for path in paths:
        path.write_bytes(first if path == paths[0] else others)
    asked = []

    class Switching(Client):
        """Another version, without a region, answers from the second image on."""

        def inspect(self, image):
            return Prediction(**found, model_version="v1" if image == first else "v2", latency_ms=1)

        def roi(self, version=""):
            asked.append(version)
            return encode_mask(half) if version == "v1" else None

    inspect_all(Switching("http://localhost"), paths, overlays=pictures / "drawn")
    assert sorted(asked) == ["v1", "v2"]
    right = {
        path.name: int(np.asarray(Image.open(path).convert("L"))[-1, 447])
        for path in (pictures / "drawn").iterdir()
    }
    assert len(right) == 6
    assert right == dict.fromkeys(right, 100) | {"NG-0.png": 80}


def test_overlays_without_opencv_are_refused_before_an_image_is_sent(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "defectline.client.overlay", raising=False)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SettingsError, match="not installed") as caught:
        inspect_all(Client("http://localhost"), [], overlays=tmp_path)
    assert caught.value.got == "no cv2"
    assert caught.value.fix.endswith("Or leave --overlays out.")
