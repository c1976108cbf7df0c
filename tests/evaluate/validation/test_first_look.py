"""Whether most tiles need no second look is decided on validation frames, and only where they say enough."""

from pathlib import Path

import numpy as np
import pytest
from networks import SIZE, write_network
from pictures import encode

from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.inference.network import Network
from defectline.components.common.snapshot import Pair
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.evaluate.validation import first_look
from defectline.components.evaluate.validation.calibration import OperatingPoint
from defectline.components.evaluate.validation.first_look import FEWEST_FOUND, choose_first_look

POINT = OperatingPoint(0.5, 4, None)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Network:
    file = tmp_path_factory.mktemp("network") / "model.xml"
    write_network(file, SIZE, 1, 40.0)
    return Network(file, ImagingSettings(image_size=SIZE, tile=True))


def frame(side: int, spots: int = 1, width: int = 6) -> bytes:
    pixels = np.full((side, side), 100, np.uint8)
    for spot in range(spots):
        top, left = 30 + 97 * (spot % 6), 40 + 61 * (spot // 6)
        pixels[top : top + width, left : left + width] = 255
    return encode(pixels)


@pytest.fixture
def choose(network, monkeypatch, tmp_path: Path):
    def choose(*frames: bytes):
        rows = [(Pair(f"NG/{number}", "NG", "accepted", ""), data, b"") for number, data in enumerate(frames)]
        monkeypatch.setattr(first_look, "read_files", lambda storage, pairs: iter(rows))
        return choose_first_look(network, POINT, FolderStorage(tmp_path), [row[0] for row in rows])

    return choose


def test_spots_that_half_resolution_sees(choose, network):
    found = choose(*[frame(600)] * FEWEST_FOUND, frame(600, spots=0))
    assert 0.1 < found.level <= 0.5
    assert "% of the tiles are judged" in found.why


def test_small_frames_say_nothing(choose):
    found = choose(*[frame(600)] * (FEWEST_FOUND - 1), *[frame(100)] * 20)
    assert found.level is None
    assert found.why.startswith(f"only {FEWEST_FOUND - 1} large validation frames have a find")


def test_where_most_tiles_are_suspected_it_saves_nothing(choose):
    found = choose(*[frame(600, spots=54)] * FEWEST_FOUND)
    assert found.level is None
    assert "would save too little" in found.why


def test_a_find_that_leaves_no_sign(choose, network, monkeypatch):
    whole = network.glance

    def blind(pixels, level):
        seen = whole(pixels, level)
        return seen and seen._replace(score_map=seen.score_map * 0)

    monkeypatch.setattr(network, "glance", blind)
    found = choose(*[frame(600)] * FEWEST_FOUND)
    assert found == (None, "at half resolution, not every find leaves a sign")
