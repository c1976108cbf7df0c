"""Bodies of every protocol → pictures and parameters."""

import base64
import json
from typing import Any

import pytest
from endpoints import b64, v1_body, v2_body
from fuzz import bomb, picture
from tensors import infer_request

from defectline.components.serve.protocol.errors import ApiError
from defectline.components.serve.protocol.requests import (
    MAX_PICTURES,
    check_size,
    check_sizes,
    read_grpc,
    read_v1,
    read_v2,
)


def test_a_picture_is_refused_by_its_header():
    check_size(picture(), 64 * 64)
    check_size(b"no picture", 1)
    for data in (bomb(60_000, 60_000), bomb(10_000, 5_001), picture(65)):
        with pytest.raises(ApiError, match="too large") as refused:
            check_size(data, 64 * 64)
        assert refused.value.http == 413


def test_pictures_of_one_request_count_together():
    assert check_sizes([picture()] * 4, 4 * 64 * 64) == [64 * 64] * 4
    with pytest.raises(ApiError, match="together") as refused:
        check_sizes([picture()] * 5, 4 * 64 * 64)
    assert refused.value.http == 413


def test_base64_may_be_wrapped_but_is_no_data_url():
    wrapped = base64.encodebytes(bytes(100)).decode()
    assert "\n" in wrapped
    assert read_v1(json.dumps({"image": wrapped}).encode(), {}).pictures == [bytes(100)]
    wrong = {"data:image/png;base64,AAAA": "data URL", "A*AA": "not valid base64", 7: "not valid base64"}
    for text, says in wrong.items():
        with pytest.raises(ApiError, match=says):
            read_v1(json.dumps({"image": text}).encode(), {})


def test_too_many_pictures():
    body = b'{"instances": [%s]}' % b",".join([b'{"image": {"b64": "AAAA"}}'] * (MAX_PICTURES + 1))
    with pytest.raises(ApiError) as refused:
        read_v1(body, {})
    assert refused.value.http == 413
    with pytest.raises(ApiError) as refused:
        read_v2(b'{"inputs": [{"parameters": {"binary_data_size": 400}}]}' + bytes(400), "55", {})
    assert refused.value.http == 413


def test_the_body_wins_over_the_query():
    asked = read_v1(
        b'{"image": "AAAA", "parameters": {"threshold": 0.7}}', {"threshold": "0.2", "mask": "none"}
    )
    assert (asked.parameters.threshold, asked.parameters.mask) == (0.7, "none")


def test_every_protocol_is_read_into_the_same_request():
    pictures = [b"one", b"two"]
    v1 = read_v1(json.dumps(v1_body(*pictures, threshold=0.5)).encode(), {})
    body = v2_body(*pictures, parameters={"threshold": 0.5}, id="a")
    v2, id_ = read_v2(json.dumps(body).encode(), None, {})
    over_grpc, _ = read_grpc(infer_request(*pictures, threshold="0.5"))
    assert id_ == "a"
    assert [request.protocol for request in (v1, v2, over_grpc)] == ["v1_json", "v2_json", "grpc"]
    for request in (v1, v2, over_grpc):
        assert request._replace(protocol="grpc") == over_grpc


def test_the_mask_is_encoded_only_where_it_is_sent():
    def mask(body: dict[str, Any]) -> str:
        return read_v2(json.dumps(body).encode(), None, {})[0].mask

    assert mask(v2_body(b"one")) == "png"
    assert mask(v2_body(b"one", parameters={"mask": "none"})) == "none"
    assert mask(v2_body(b"one", outputs=[{"name": "verdict"}])) == "none"
    assert mask(v2_body(b"one", outputs=[{"name": "mask"}])) == "png"
    assert read_v1(json.dumps({"image": b64(b"one")}).encode(), {}).mask == "bmp"
