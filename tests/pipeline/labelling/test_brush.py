"""Masks in Label Studio's run lengths are read again as they were."""

import numpy as np
import pytest

from defectline.components.ingest.readers.label_studio import decode_brush
from defectline.pipeline.labelling.brush import LONGEST, encode_brush


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (64, 64)])
def test_masks_of_every_kind(shape, share):
    mask = np.random.default_rng(0).random(shape) < share
    found = decode_brush(np.array(encode_brush(mask), np.uint8).tobytes(), mask.size * 4)
    np.testing.assert_array_equal(found.reshape(*shape, 4), np.repeat(mask[..., None], 4, axis=2) * 255)


@pytest.mark.parametrize("pixels", [LONGEST // 4 - 1, LONGEST // 4, LONGEST // 4 + 1, LONGEST])
def test_runs_longer_than_a_length_can_say(pixels):
    mask = np.ones((1, pixels), bool)
    mask[0, 0] = False
    found = decode_brush(np.array(encode_brush(mask), np.uint8).tobytes(), mask.size * 4)
    assert found.reshape(-1, 4)[:, 3].astype(bool).tolist() == mask[0].tolist()


def test_a_large_mask_takes_little():
    mask = np.zeros((3000, 4000), bool)
    mask[100:200, 300:400] = True
    assert len(encode_brush(mask)) < 6000
