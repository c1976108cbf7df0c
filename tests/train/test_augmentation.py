"""Random changes of training images."""

import numpy as np
import pytest
from keras import ops

from defectline.components.train.augmentation import Augment
from defectline.components.train.settings import Augmentation

NOTHING = {"flip": False, "turn": False, "brightness": 0.0, "contrast": 0.0}
SIZE = 24


def changed(pictures: np.ndarray, masks: np.ndarray, **settings) -> tuple[np.ndarray, np.ndarray]:
    augment = Augment(0, Augmentation(**settings))
    images, truths = augment(ops.array(pictures, "float32"), ops.array(masks, "float32"))
    return np.array(images), np.array(truths)


@pytest.fixture
def marked() -> tuple[np.ndarray, np.ndarray]:
    """64 pictures (S, S, 1), each with a light block off the middle that its mask has."""
    rng = np.random.default_rng(0)
    masks = np.zeros((64, SIZE, SIZE), np.float32)
    for mask in masks:
        y, x = rng.integers(4, 14, 2)
        mask[y : y + 6, x : x + 4] = 1
    return (100 + 50 * masks)[..., None], masks


@pytest.mark.parametrize(
    "settings",
    [{}, {"gamma": 0.5}, {"blur": 0.1}, {"noise": 0.01}],
    ids=lambda chosen: " ".join(chosen) or "defaults",
)
def test_a_mask_is_turned_with_its_picture(marked, settings):
    pictures, masks = marked
    images, truths = changed(pictures, masks, **settings)
    assert set(np.unique(truths)) == {0, 1}
    assert not np.array_equal(truths, masks)
    for image, truth in zip(images[..., 0], truths, strict=True):
        # The contrast is never turned around.
        assert np.array_equal(image > (image.min() + image.max()) / 2, truth == 1)
    assert images.min() >= 0
    assert images.max() <= 255


def test_with_all_of_it_off_nothing_changes(marked):
    images, truths = changed(*marked, **NOTHING)
    assert np.array_equal(images, marked[0])
    assert np.array_equal(truths, marked[1])


def test_orientations():
    """A corner that is lit tells where a picture was turned to, the one beside it whether it was mirrored."""
    picture = np.zeros((200, 4, 4, 1), np.float32)
    picture[:, 0, 0], picture[:, 0, 3] = 200, 100
    masks = np.zeros((200, 4, 4), np.float32)

    def found(**settings: bool) -> set[bytes]:
        images, _ = changed(picture, masks, **{**NOTHING, **settings})
        return {image.round().astype(np.uint8).tobytes() for image in images}

    def turned(image: np.ndarray) -> set[bytes]:
        return {np.rot90(image, k).astype(np.uint8).tobytes() for k in range(4)}

    rotations, mirrored = turned(picture[0]), turned(picture[0, :, ::-1])
    assert found(turn=True) == rotations
    assert found(flip=True, turn=True) == rotations | mirrored
    assert len(found(flip=True)) == 4
    assert found(flip=True) & mirrored


@pytest.mark.parametrize("settings", [{"rotation": 180.0}, {"zoom": 0.3}, {"rotation": 30.0, "zoom": 0.2}])
def test_a_mask_is_moved_with_its_picture(marked, settings):
    images, truths = changed(*marked, **NOTHING, **settings)
    assert set(np.unique(truths)) == {0, 1}
    light = images[..., 0] > 125
    # Along its outline, the picture is interpolated and the mask is not.
    assert (light != (truths == 1)).mean() < 0.03
    assert light.any(axis=(1, 2)).all()
    assert (truths != marked[1]).any(axis=(1, 2)).mean() > 0.5


def test_sizes_and_directions_of_what_is_moved(marked):
    pictures, masks = marked
    _, truths = changed(pictures, masks, **NOTHING, zoom=0.5)
    areas = truths.sum(axis=(1, 2)) / masks.sum(axis=(1, 2))
    assert 0.3 < areas.min() < 0.7
    assert 1.5 < areas.max() < 1.6**2 + 0.2
    _, truths = changed(pictures, masks, **NOTHING, rotation=20.0)
    areas = truths.sum(axis=(1, 2)) / masks.sum(axis=(1, 2))
    assert 0.8 < areas.min() < areas.max() < 1.2


def test_light(marked):
    pictures, masks = marked
    ground = pictures[0, 0, 0, 0]
    for settings, low, high in (
        ({"brightness": 0.1}, ground - 25.5, ground + 25.5),
        ({"gamma": 0.2}, 255 * (ground / 255) ** 1.2, 255 * (ground / 255) ** (1 / 1.2)),
    ):
        images, _ = changed(pictures, masks, **{**NOTHING, **settings})
        corners = images[:, 0, 0, 0]
        assert low - 0.01 <= corners.min() < corners.max() <= high + 0.01
        assert corners.max() - corners.min() > (high - low) / 2


def test_noise_and_blur(marked):
    pictures, masks = marked
    images, _ = changed(pictures, masks, **NOTHING, noise=0.1)
    noise = (images - pictures).std(axis=(1, 2, 3))
    assert 0 < noise.min() < 5
    assert 15 < noise.max() < 27
    images, _ = changed(pictures, masks, **NOTHING, blur=1.0)
    steps = abs(np.diff(images[..., 0], axis=2)).max(axis=(1, 2))
    assert 15 < steps.min() < 25
    assert 40 < steps.max() <= 50
    # The border is blurred with what is beside it, not with black.
    assert np.allclose(images[:, 0, 0, 0], 100, atol=1e-3)
