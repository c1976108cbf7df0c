"""Files as cameras and people make them: the endpoint judges what ingest reads, and refuses alike."""

import numpy as np
import pytest
from camera_files import CASES, CameraFile
from endpoints import PREDICT, error_of, plain, post
from pictures import encode

from defectline.components.common.images.reading import decode_image

SENT = [case for case in CASES if len(case.data) < 3_000_000]


def test_most_are_small_enough_to_be_sent():
    assert len(SENT) > 0.9 * len(CASES)


@pytest.mark.parametrize("case", SENT, ids=lambda case: case.id)
def test_the_endpoint_answers_as_ingest_reads(served, judged, case: CameraFile):
    response = post(served.url + PREDICT, case.data, "application/octet-stream")
    if case.pixels is None:
        assert response.status_code == 400, response.text
        error = error_of(response)
        assert error["code"] == "invalid_image"
        assert case.words in error["message"]
        return
    assert response.status_code == 200, response.text
    grey = decode_image(case.data)[..., 0]
    if not case.near:
        # Conversion to grey is Pillow's, of the right colours.
        assert np.array_equal(grey, decode_image(encode(case.pixels))[..., 0])
    upright = post(served.url + PREDICT, encode(grey), "image/png")
    (says,), (wanted,) = response.json()["predictions"], upright.json()["predictions"]
    assert plain(says, judged) == plain(wanted, judged)
