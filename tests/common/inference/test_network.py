"""The network on pictures of every size, whole and in tiles, on several threads; files that are not one."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import SIZE, draw, write_network
from PIL import Image

from defectline.components.common.bundle import mask_iou
from defectline.components.common.errors import BundleError
from defectline.components.common.images.imaging import ImagingSettings, frame_grid
from defectline.components.common.images.reading import UnreadableImage
from defectline.components.common.inference.inspection import (
    answer,
)
from defectline.components.common.inference.network import TILE_BATCH, Network


@pytest.fixture(scope="module")
def load(tmp_path_factory) -> Callable[..., Network]:
    def load(
        channels: int = 1,
        cut: float = 40.0,
        tile: bool = False,
        resize: Literal["stretch", "fit"] = "stretch",
    ) -> Network:
        xml = tmp_path_factory.mktemp("network") / "model.xml"
        write_network(xml, SIZE, channels, cut)
        imaging = ImagingSettings(image_size=SIZE, channels=channels, tile=tile, resize=resize)
        return Network(xml, imaging)

    return load


@pytest.fixture(scope="module")
def network(load) -> Network:
    return load()


def _pictures(count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.stack([draw(("OK", "NG")[n % 2], rng)[0][..., None] for n in range(count)])


def _png(image: np.ndarray) -> bytes:
    out = BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def test_one_picture_or_many_give_the_same_bits(network):
    pictures = _pictures(7)
    together = network.probabilities(pictures)
    assert together.shape == (7, SIZE, SIZE)
    for index in range(7):
        np.testing.assert_array_equal(network.probabilities(pictures[index : index + 1])[0], together[index])


def test_the_network_computes_in_float32_on_every_processor(network):
    # bfloat16 is OpenVINO's default where the processor has it, which this one may not.
    for ready in (network._engine._alone, network._engine._shared):
        assert str(ready.compiled.get_property("INFERENCE_PRECISION_HINT")) == "<Type: 'float32'>"


def test_several_threads_give_the_same_bits(network):
    pictures = _pictures(40)
    alone = [network.probabilities(picture[None]) for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        beside = list(pool.map(lambda picture: network.probabilities(picture[None]), pictures))
    for one, other in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(one, other)


GIVEN_UP = """
import signal, sys, threading
from pathlib import Path
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.inference.network import Network
signal.signal(signal.SIGHUP, lambda *_: print("heard"))
networks = [Network(Path(sys.argv[1]), ImagingSettings(image_size=int(sys.argv[2])), threads=2)]
thread = threading.Thread(target=networks.clear)
thread.start()
thread.join()
signal.raise_signal(signal.SIGHUP)
"""


def test_a_network_may_be_given_up_in_another_thread_than_it_came_in(tmp_path):
    """OpenVINO's end unmaps the stack on which the thread of its start takes signals."""
    write_network(tmp_path / "model.xml", SIZE, 1, 40.0)
    script = [sys.executable, "-c", GIVEN_UP, tmp_path / "model.xml", str(SIZE)]
    assert subprocess.run(script, capture_output=True, text=True, check=True).stdout == "heard\n"


@pytest.mark.parametrize("size", [(64, 64), (200, 150), (31, 400), (7, 7), (1, 1), (3, 40_000)])
def test_an_answer_has_the_size_of_its_picture(network, size):
    """Sizes are height and width; the last is longer than OpenCV's remapping takes."""
    image = np.full(size, 100, np.uint8)
    assert network.score_map(_png(image)).shape == size


def test_a_defect_is_found_where_it_is_in_a_larger_picture(network):
    image, mask = draw("NG", np.random.default_rng(1), size=3 * SIZE)
    judged = answer(network.score_map(_png(image)), 0.5, 20)
    assert mask_iou(judged.mask == 1, mask > 0) > 0.5
    assert len(judged.regions) == 1


@pytest.mark.parametrize("size", [(SIZE, SIZE), (64, 64), (200, 150), (31, 400), (7, 7), (1, 1), (3, 40_000)])
def test_an_answer_to_a_fitted_picture_has_its_size(load, size):
    image = np.full(size, 100, np.uint8)
    assert load(resize="fit").score_map(_png(image)).shape == size


@pytest.mark.parametrize("across", [False, True])
def test_a_defect_is_found_where_it_is_in_a_fitted_picture(load, across):
    mask = np.zeros((2 * SIZE, 5 * SIZE), np.uint8)
    mask[100:115, 200:215] = 1
    mask = np.ascontiguousarray(mask.T) if across else mask
    image = (100 + 120 * mask).astype(np.uint8)
    judged = answer(load(resize="fit").score_map(_png(image)), 0.5, 20)
    assert mask_iou(judged.mask == 1, mask > 0) > 0.5
    assert len(judged.regions) == 1


@pytest.fixture(scope="module")
def tiled(load) -> Network:
    return load(tile=True)


@pytest.mark.parametrize("size", [(64, 64), (200, 150), (31, 400), (7, 7), (1, 1), (65, 64), (3, 40_000)])
def test_an_answer_in_tiles_has_the_size_of_its_picture(tiled, size):
    assert tiled.score_map(_png(np.full(size, 100, np.uint8))).shape == size


def test_a_frame_of_one_tile_is_answered_as_without_tiles(network, tiled):
    for picture in _pictures(4):
        data = _png(picture[..., 0])
        np.testing.assert_array_equal(tiled.score_map(data), network.score_map(data))


@pytest.mark.parametrize("at", [(100, 70), (64, 5), (0, 0), (130, 20), (31, 44)])
def test_a_defect_on_a_seam_is_one_region_with_its_own_area(tiled, at):
    """A scratch of 3×100 px is longer than a tile, wherever it lies on the grid."""
    y, x = at
    frame = np.full((200, 180), 100, np.uint8)
    frame[y : y + 3, x : x + 100] = 250
    judged = answer(tiled.score_map(_png(frame)), 0.5, 20)
    assert len(judged.regions) == 1
    assert judged.regions[0].bbox == (x, y, 100, 3)
    assert judged.regions[0].area_px == 300


def test_colour_frames_in_tiles(load):
    frame = np.full((150, 150, 3), 100, np.uint8)
    frame[60:66, 10:140] = 255
    judged = answer(load(channels=3, tile=True).score_map(_png(frame)), 0.5, 20)
    assert [region.bbox for region in judged.regions] == [(10, 60, 130, 6)]


def test_tiles_go_through_the_network_in_bounded_batches(load, monkeypatch):
    tiled, sizes = load(tile=True), []
    engine = tiled._engine
    monkeypatch.setattr(tiled, "_engine", lambda batch: sizes.append(len(batch)) or engine(batch))
    tiled.score_map(_png(np.full((70, 1000), 100, np.uint8)))
    assert max(sizes) == TILE_BATCH
    assert sum(sizes) == len(frame_grid(70, 1000, tiled.imaging).positions)


@pytest.mark.parametrize("channels", [1, 3])
def test_after_a_first_look_few_tiles_are_judged_and_the_find_is_the_same(load, monkeypatch, channels):
    frame = np.full((401, 500, *([3] if channels == 3 else [])), 100, np.uint8)
    frame[120:126, 200:206] = 255
    whole, looked, sizes = load(channels=channels, tile=True), load(channels=channels, tile=True), []
    looked.first_look = 0.1
    engine = looked._engine
    monkeypatch.setattr(looked, "_engine", lambda batch: sizes.append(len(batch)) or engine(batch))
    found, first = (network.maps(_png(frame)) for network in (whole, looked))
    tiles = len(frame_grid(401, 500, whole.imaging).positions)
    assert sum(sizes) < 0.35 * tiles
    assert len(first.features) == sum(sizes)
    assert len(found.features) == tiles
    np.testing.assert_array_equal(first.score_map[100:146, 180:226], found.score_map[100:146, 180:226])
    assert answer(first.score_map, 0.5, 20).regions == answer(found.score_map, 0.5, 20).regions != []


def test_a_frame_of_few_tiles_needs_no_first_look(load, tiled):
    looked = load(tile=True)
    looked.first_look = 0.1
    data = _png(np.random.default_rng(0).integers(0, 256, (100, 60), np.uint8))
    np.testing.assert_array_equal(looked.score_map(data), tiled.score_map(data))


def test_a_frame_too_narrow_for_tiles_is_said_so(tiled):
    with pytest.raises(UnreadableImage, match="long and narrow"):
        tiled.score_map(_png(np.zeros((4_000_000, 1), np.uint8)))


def test_colour_pictures(load):
    image = np.full((SIZE, SIZE, 3), 100, np.uint8)
    image[20:26, 10:30] = 255
    judged = answer(load(channels=3).score_map(_png(image)), 0.5, 20)
    assert judged.regions[0].bbox == (10, 20, 20, 6)


def test_what_is_no_picture_is_said_so(network):
    with pytest.raises(UnreadableImage, match="10 bytes"):
        network.score_map(b"no picture")


def test_a_network_that_diverged_is_refused(load):
    with pytest.raises(BundleError, match="NaN"):
        load(cut=float("nan")).probabilities(_pictures(1))


def test_a_file_that_openvino_cannot_read_is_refused(tmp_path: Path):
    xml = tmp_path / "model.xml"
    xml.write_text("<net name='broken'/>")
    with pytest.raises(BundleError, match=r"model\.xml cannot be loaded"):
        Network(xml, ImagingSettings(image_size=SIZE))


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_picture_or_are_refused(network, data):
    with pytest.raises(UnreadableImage):
        network.score_map(data)


@pytest.mark.parametrize(
    ("network", "got", "expected"),
    [
        ({"size": 96, "channels": 1}, "it takes 96×96×1", "64×64×1"),
        ({"size": 64, "channels": 3}, "it takes 64×64×3", "64×64×1"),
        ({"size": 64, "channels": 1, "defects": 2}, "it gives 64×64×3", "64×64×2"),
    ],
)
def test_a_network_for_other_pictures_or_classes_is_refused(tmp_path, network, got, expected):
    write_network(tmp_path / "model.xml", cut=40.0, **network)
    with pytest.raises(BundleError, match="other pictures or classes") as caught:
        Network(tmp_path / "model.xml", ImagingSettings(image_size=64))
    assert caught.value.got == got
    assert caught.value.expected.startswith(expected)
