"""Bodies of every protocol → pictures and parameters."""

import base64
import json
import struct
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


def test_base64_as_shells_browsers_and_the_web_write_it():
    picture = bytes(range(200, 256)) + b"\xff\xfe"
    plain, wrapped = base64.b64encode(picture).decode(), base64.encodebytes(picture).decode()
    safe = base64.urlsafe_b64encode(picture).decode()
    assert "\n" in wrapped
    assert "_" in safe
    assert safe.endswith("=")
    for text in (plain, wrapped, safe, safe.rstrip("="), f"data:image/png;base64,{plain}"):
        assert read_v1(json.dumps({"image": text}).encode(), {}).pictures == [picture], text
    wrong = {
        "data:image/png,%89PNG": "data URL without base64",
        "A*AA": "not valid base64",
        "AAAAA": "not valid base64",
        7: "not valid base64",
    }
    for text, says in wrong.items():
        with pytest.raises(ApiError, match=says):
            read_v1(json.dumps({"image": text}).encode(), {})


def test_too_many_pictures():
    body = b'{"instances": [%s]}' % b",".join([b'{"image": {"b64": "AAAA"}}'] * (MAX_PICTURES + 1))
    with pytest.raises(ApiError) as refused:
        read_v1(body, {})
    assert refused.value.http == 413
    size = {"binary_data_size": 400}
    tensor = {"name": "image", "datatype": "BYTES", "shape": [100], "parameters": size}
    body = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(ApiError) as refused:
        read_v2(body + bytes(400), str(len(body)), {})
    assert refused.value.http == 413


def test_the_body_wins_over_the_query():
    asked = read_v1(
        b'{"image": "AAAA", "parameters": {"threshold": 0.7}}', {"threshold": "0.2", "mask": "none"}
    )
    assert (asked.parameters.threshold, asked.parameters.mask) == (0.7, "none")


def test_what_clients_send_for_other_servers_is_ignored_and_told():
    sent = {"priority": 1, "timeout": 5000, "sequence_id": 7, "threshold": 0.5}
    asked, _ = read_v2(json.dumps(v2_body(b"one", parameters=sent)).encode(), None, {})
    assert asked.ignored == ("timeout", "priority", "sequence_id")
    assert asked.parameters.threshold == 0.5
    with pytest.raises(ApiError, match="no parameter 'treshold'"):
        read_v2(json.dumps(v2_body(b"one", parameters={"treshold": 1})).encode(), None, {})


def test_numbers_over_grpc_come_in_kinds_that_the_sdk_does_not_know():
    """Field 4 of a parameter is a double in Triton's messages, 5 an unsigned number."""
    request = infer_request(b"one")
    request.parameters["threshold"].MergeFromString(b"\x21" + struct.pack("<d", 0.25))
    request.parameters["priority"].MergeFromString(b"\x28\x02")
    asked, _ = read_grpc(request)
    assert (asked.parameters.threshold, asked.ignored) == (0.25, ("priority",))


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
