"""Files as cameras and people make them: ingest reads the right pixels, or says what is unusual."""

import numpy as np
import pytest
from camera_files import CASES, HEIGHT, WIDTH, CameraFile
from pictures import encode

from defectline.components.common.images.reading import decode_image
from defectline.components.common.snapshot import Pair
from defectline.components.ingest.checks import check_pair


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_ingest_reads_it_right_or_says_why_not(case: CameraFile):
    pair = Pair("OK/1", "OK", "accepted", "i", "m")
    shape = (HEIGHT, WIDTH) if case.pixels is None else case.pixels.shape[:2]
    found = check_pair(pair, case.data, encode(np.zeros(shape, np.uint8))).pair
    if case.pixels is None:
        assert found.status == "rejected"
        assert case.words in found.reason
        assert found.fix
        return
    assert (found.status, found.reason) == ("accepted", "")
    assert case.note in found.note
    assert bool(case.note) == bool(found.note)
    pixels = decode_image(case.data, 3)
    assert pixels.shape == case.pixels.shape
    assert np.abs(pixels.astype(int) - case.pixels).max() <= case.near
