"""Enhancing and resizing pictures and masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import noise
from pydantic import ValidationError

from defectline.components.common.images.imaging import (
    ImagingSettings,
    enhance,
    find_window,
    prepare_image,
    prepare_mask,
)

GREY = noise(0)
COLOUR = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(224, 224), (16, 16), (100, 300), (1, 1)])
def test_enhancing_keeps_shape_and_type(shape: tuple[int, int], channels: int):
    image = np.random.default_rng(0).integers(0, 256, (*shape, channels), np.uint8)
    before = image.copy()
    out = enhance(image)
    assert (out.shape, out.dtype) == (image.shape, np.uint8)
    assert np.array_equal(image, before)


def test_enhancing_widens_a_bright_point_by_one_pixel():
    image = np.zeros((56, 56, 1), np.uint8)
    image[28, 28] = 255
    ys, xs = np.nonzero(enhance(image)[..., 0] == enhance(image).max())
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (27, 29, 27, 29)


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(64, 64), (32, 32), (224, 100), (20, 500), (1, 1)])
def test_a_prepared_picture_has_the_networks_shape(shape: tuple[int, int], channels: int, enhanced: bool):
    settings = ImagingSettings(image_size=64, channels=channels, enhance=enhanced)
    image = np.random.default_rng(0).integers(0, 256, (*shape, channels), np.uint8)
    out = prepare_image(image, settings)
    assert (out.shape, out.dtype, out.flags.c_contiguous) == ((64, 64, channels), np.uint8, True)
    assert prepare_mask(image[..., 0] % 2, settings).shape == (64, 64)


def test_a_picture_of_the_networks_size_stays_as_it_is():
    settings = ImagingSettings(image_size=32)
    image = noise(0, 32)
    assert np.array_equal(prepare_image(image[..., None], settings)[..., 0], image)
    assert np.array_equal(prepare_mask(image % 2, settings), image % 2)


def test_shrinking_averages_and_growing_interpolates():
    settings = ImagingSettings(image_size=32)
    image = noise(0, 64)
    means = image.reshape(32, 2, 32, 2).mean(axis=(1, 3))
    assert np.abs(prepare_image(image[..., None], settings)[..., 0] - means).max() <= 0.5
    ramp = np.repeat(np.arange(0, 160, 10, dtype=np.uint8)[None], 16, axis=0)
    assert (np.diff(prepare_image(ramp[..., None], settings)[0, :, 0].astype(int)) >= 0).all()


def test_a_narrow_picture_is_averaged_too():
    """A side that shrinks beside one that grows: a line scan of 16×640 with a thin bright line."""
    settings = ImagingSettings(image_size=64)
    for column in range(300, 311):
        image = np.zeros((16, 640), np.uint8)
        image[:, column] = 250
        assert prepare_image(image[..., None], settings).max() == 25
        assert prepare_mask((image > 0).astype(np.uint8), settings).sum() == 64


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    place=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
def test_a_defect_of_one_pixel_never_vanishes(height: int, width: int, place: tuple[float, float]):
    truth = np.zeros((height, width), np.uint8)
    y, x = int(place[0] * height), int(place[1] * width)
    truth[y, x] = 1
    found = prepare_mask(truth, ImagingSettings(image_size=64))
    ys, xs = np.nonzero(found)
    assert set(np.unique(found)) == {0, 1} or height * width == 1
    assert abs((ys.mean() + 0.5) / 64 - (y + 0.5) / height) <= 1 / 64
    assert abs((xs.mean() + 0.5) / 64 - (x + 0.5) / width) <= 1 / 64


def test_an_empty_mask_stays_empty_and_a_full_one_full():
    for size in (16, 64, 200):
        for value in (0, 1):
            out = prepare_mask(np.full((size, size), value, np.uint8), ImagingSettings(image_size=64))
            assert (out == value).all()


FIT = ImagingSettings(image_size=64, resize="fit")


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((64, 64), (0, 0, 64, 64)),
        ((500, 500), (0, 0, 64, 64)),
        ((100, 300), (21, 0, 21, 64)),
        ((300, 100), (0, 21, 64, 21)),
        ((10, 20), (16, 0, 32, 64)),
        ((3, 40_000), (31, 0, 1, 64)),
        ((1, 1), (0, 0, 64, 64)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_fitted_picture_keeps_its_aspect_and_the_rest_does_not_count(shape, window, channels):
    settings = FIT.model_copy(update={"channels": channels})
    assert find_window(*shape, settings) == window
    image = np.full((*shape, channels), 90, np.uint8)
    assert np.array_equal(prepare_image(image, settings), np.full((64, 64, channels), 90))
    mask = prepare_mask(np.ones(shape, np.uint8), settings)
    top, left, height, width = window
    assert (mask[top : top + height, left : left + width] == 1).all()
    assert (mask == 1).sum() == height * width
    assert set(np.unique(mask)) <= {1, 255}


def test_a_circle_is_stretched_to_an_ellipse_or_fitted_as_a_circle():
    y, x = np.mgrid[:120, :360]
    circle = ((y - 60) ** 2 + (x - 180) ** 2 < 50**2).astype(np.uint8)
    for resize, height, width in (("stretch", 53, 18), ("fit", 18, 18)):
        settings = ImagingSettings(image_size=64, resize=resize)
        ys, xs = np.nonzero(prepare_mask(circle, settings) == 1)
        assert abs(np.ptp(ys) + 1 - height) <= 1
        assert abs(np.ptp(xs) + 1 - width) <= 1
        image = prepare_image(circle[..., None] * np.uint8(200), settings)[..., 0]
        assert np.array_equal(image[ys, xs] > 40, np.ones(len(ys), bool))
        # What is beyond the image shows it mirrored: no edge is there that looks like a scratch.
        assert abs(np.diff(image[:, 32].astype(int))).max() < 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 100},
        {"image_size": 0},
        {"image_size": 4096},
        {"channels": 2},
        {"enhanced": True},
        {"resize": "crop"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, int]):
    with pytest.raises(ValidationError):
        ImagingSettings(**wrong)


def test_shrinking_keeps_every_class_and_lets_nothing_eat_a_defect():
    mask = np.zeros((320, 320), np.uint8)
    mask[:160] = 255
    mask[10, 10] = 3  # a pixel within what does not count
    mask[200:240, 100:140] = 1
    mask[200:240, 139:141] = 2  # a thin line at its edge
    shrunk = prepare_mask(mask, ImagingSettings(image_size=32))
    assert set(np.unique(shrunk)) == {0, 1, 2, 3, 255}
    assert shrunk[1, 1] == 3
    assert (shrunk[20:24, 10:13] == 1).all()
    assert (shrunk[:16] == 255).sum() == 16 * 32 - 1
    # Of both classes in a pixel the one that covers more of it counts.
    mask[200:240, 130:134], mask[200:240, 134:141] = 1, 2
    assert (prepare_mask(mask, ImagingSettings(image_size=32))[20:24, 13] == 2).all()
