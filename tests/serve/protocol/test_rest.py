"""Over HTTP, V1 and V2 give what evaluate says of the same picture, and errors in words."""

import base64
import json
import re
import struct
from io import BytesIO

import numpy as np
import pytest
import requests
from endpoints import PREDICT, b64, error_of, expected, graded, plain, plate, post, v1_body, v2_body
from fuzz import bomb
from networks import SIZE, draw
from pictures import encode, turned
from PIL import Image
from tensors import by_name, from_grpc, from_tensors, infer_request, unpack

from defectline.components.common.images.masks import decode_mask
from defectline.components.serve.sdk import messages

PNG = plate()


# Answers


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("WEBP", "image/webp"),
        ("PNG", "application/octet-stream"),
        ("PNG", "IMAGE/PNG; name=plate"),
        ("PNG", None),
    ],
)
def test_raw_bodies(served, judged, kind, content_type):
    picture = encode(draw("NG", np.random.default_rng(3))[0], kind)
    response = post(f"{served.url}/v1/models/plates:predict", picture, content_type)
    assert response.status_code == 200, response.text
    (prediction,) = response.json()["predictions"]
    assert prediction["verdict"] == "NG"
    assert plain(prediction, judged) == graded(judged, picture)


def turned_plate() -> bytes:
    return encode(Image.fromarray(draw("NG", np.random.default_rng(3), 96)[0][:80]), "JPEG", exif=turned(6))


def colours(mode: str) -> Image.Image:
    grey = Image.fromarray(draw("NG", np.random.default_rng(4))[0])
    return grey.convert(mode)


@pytest.mark.parametrize(
    "picture",
    [
        turned_plate(),
        encode(colours("RGB")),
        encode(colours("RGBA")),
        encode(colours("P")),
        encode(draw("NG", np.random.default_rng(4))[0].astype(np.uint16) << 8),
        encode(np.full((32, 32), 100, np.uint8)),
        encode(draw("NG", np.random.default_rng(4), 1500)[0]),
    ],
    ids=["turned", "RGB", "RGBA", "palette", "16 bits", "32×32", "1500×1500"],
)
def test_pictures_of_every_kind(served, judged, call, picture):
    says = graded(judged, picture)
    response = post(f"{served.url}/v1/models/plates:predict", picture, "image/png")
    (prediction,) = response.json()["predictions"]
    assert plain(prediction, judged) == says
    assert from_tensors(from_grpc(call("ModelInfer", infer_request(picture)))) == says


@pytest.mark.parametrize("size", [SIZE, 150, 40])
@pytest.mark.parametrize("label", ["OK", "NG"])
def test_other_sizes_and_good_pictures_too(served, judged, label, size):
    picture = plate(7, label, size)
    (prediction,) = post(served.url + PREDICT, picture, "image/png").json()["predictions"]
    assert decode_mask(base64.b64decode(prediction["mask_png"])).shape == (size, size)
    assert plain(prediction, judged) == graded(judged, picture)


def test_golden_pictures_of_the_bundle_get_their_sealed_masks(served, judged):
    for golden in judged.bundle.golden:
        picture = (judged.folder / "golden" / golden.file).read_bytes()
        (prediction,) = post(served.url + PREDICT, picture, golden.content_type).json()["predictions"]
        assert (prediction["verdict"], prediction["score"]) == (golden.verdict, golden.score)
        mask = (judged.folder / "golden" / golden.mask_file).read_bytes()
        assert base64.b64decode(prediction["mask_png"]) == mask


def test_v1_json(served, judged):
    pictures = [PNG, plate(7, "OK"), plate(8)]
    for sent in (pictures[:1], pictures):
        body = post(f"{served.url}/v1/models/plates:predict", v1_body(*sent)).json()
        assert [plain(p, judged) for p in body["predictions"]] == [graded(judged, p) for p in sent]


def test_v2_json(served, judged):
    pictures = [PNG, plate(7, "OK")]
    for path in ("plates", f"plates/versions/{judged.bundle.version}"):
        response = post(f"{served.url}/v2/models/{path}/infer", v2_body(*pictures, id="line-3.42"))
        body = response.json()
        assert (body["model_name"], body["model_version"]) == ("plates", judged.bundle.version)
        assert body["id"] == response.headers["x-request-id"] == "line-3.42"
        outputs = by_name(body)
        assert [from_tensors(outputs, n) for n in (0, 1)] == [graded(judged, p) for p in pictures]


def test_v2_with_binary_data(served, judged):
    binary = struct.pack("<I", len(PNG)) + PNG
    head = {
        "inputs": [
            {
                "name": "image",
                "shape": [1, 1],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": len(binary)},
            }
        ],
        "parameters": {"binary_data_output": True},
        "outputs": [
            {"name": name} for name in ("mask", "score", "defect_area_px", "defect_area_ratio", "verdict")
        ]
        + [{"name": name, "parameters": {"binary_data": False}} for name in ("regions", "grade")],
    }
    text = json.dumps(head).encode()
    response = post(
        f"{served.url}/v2/models/plates/infer",
        text + binary,
        "application/octet-stream",
        headers={"Inference-Header-Content-Length": str(len(text))},
    )
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers["inference-header-content-length"])
    body, at, outputs = json.loads(response.content[:length]), length, {}
    assert [o["name"] for o in body["outputs"]] == [o["name"] for o in head["outputs"]]
    for output in body["outputs"]:
        if "data" in output:
            outputs[output["name"]] = output["data"]
            continue
        size = output["parameters"]["binary_data_size"]
        data = response.content[at : at + size]
        at += size
        numbers = {"FP64": "<f8", "INT64": "<i8"}
        kind = output["datatype"]
        outputs[output["name"]] = (
            unpack(data) if kind == "BYTES" else np.frombuffer(data, numbers[kind]).tolist()
        )
    assert at == len(response.content)
    assert from_tensors(outputs) == graded(judged, PNG)


def test_the_legacy_body_under_its_name(served, judged):
    for label in ("NG", "OK"):
        picture = plate(9, label, 90)
        response = post(f"{served.url}/v1/models/imagesegmodel:predict", {"image": b64(picture)})
        body = response.json()
        assert set(body) == {"defected_area", "segmented_image"}
        says = expected(judged, picture)
        assert isinstance(body["defected_area"], str)
        assert float(body["defected_area"]) == says["defect_area_ratio"]
        with Image.open(BytesIO(base64.b64decode(body["segmented_image"]))) as mask:
            assert (mask.format, mask.mode, mask.size) == ("BMP", "L", (90, 90))
            assert (np.asarray(mask) == 255 * decode_mask(base64.b64decode(says["mask_png"]))).all()


# Parameters


def test_without_mask_and_regions(served, call):
    url = f"{served.url}/v1/models/plates:predict"
    for response in (
        post(f"{url}?mask=none&regions=false", PNG, "image/png"),
        post(url, v1_body(PNG, mask="none", regions=False)),
    ):
        (prediction,) = response.json()["predictions"]
        assert prediction["verdict"] == "NG"
        assert not {"mask_png", "regions"} & set(prediction)
    without = {"verdict", "score", "grade", "defect_area_px", "defect_area_ratio"}
    body = v2_body(PNG, parameters={"mask": "none", "regions": False})
    assert set(by_name(post(f"{served.url}/v2/models/plates/infer", body).json())) == without
    assert set(from_grpc(call("ModelInfer", infer_request(PNG, mask="none", regions=False)))) == without


def test_another_threshold_for_one_request(served, judged, call):
    low, high = expected(judged, PNG, 0.05), expected(judged, PNG, 1.0)
    assert low["defect_area_px"] > high["defect_area_px"] == 0
    for threshold, says in ((0.05, low), (1.0, high)):
        responses = [
            post(f"{served.url}/v1/models/plates:predict?threshold={threshold}", PNG, "image/png"),
            post(f"{served.url}/v1/models/plates:predict", v1_body(PNG, threshold=threshold)),
        ]
        for response in responses:
            (prediction,) = response.json()["predictions"]
            assert {key: prediction[key] for key in says} == says
        outputs = from_grpc(call("ModelInfer", infer_request(PNG, threshold=str(threshold))))
        assert outputs["defect_area_px"] == [says["defect_area_px"]]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("threshold=0", "0.001 to 1"),
        ("threshold=1.5", "0.001 to 1"),
        ("threshold=nan", "0.001 to 1"),
        ("threshold=high", "0.001 to 1"),
        ("mask=jpeg", "png or none"),
        ("regions=perhaps", "true or false"),
        ("request_id=a%20b", "letters"),
        ("request_id=" + "a" * 129, "letters"),
        ("request_id=%E4%B8%AD", "letters"),
        ("treshold=0.5", "no parameter 'treshold'"),
    ],
)
def test_parameters_that_cannot_be(served, query, says):
    response = post(f"{served.url}/v1/models/plates:predict?{query}", PNG, "image/png")
    assert response.status_code == 400
    error = error_of(response)
    assert error["code"] == "invalid_request"
    assert says in error["message"]


def test_request_ids_come_back(served, call):
    url = f"{served.url}/v1/models/plates:predict"
    given = [
        post(url, PNG, "image/png", headers={"x-request-id": "cam-1"}),
        post(f"{url}?request_id=cam-1", PNG, "image/png", headers={"x-request-id": "other"}),
        post(url, v1_body(PNG, request_id="cam-1")),
        post(url, b"no picture", "image/png", headers={"x-request-id": "cam-1"}),
    ]
    assert [response.headers["x-request-id"] for response in given] == ["cam-1"] * 4
    assert [response.json().get("request_id") for response in given[:3]] == ["cam-1"] * 3
    assert error_of(given[3])["request_id"] == "cam-1"
    made = {post(url, PNG, "image/png").headers["x-request-id"] for _ in range(2)}
    made.add(post(url, PNG, "image/png", headers={"x-request-id": "not one"}).headers["x-request-id"])
    assert len(made) == 3
    assert all(len(id_) == 32 for id_ in made)
    request = infer_request(PNG)
    request.id = "cam-2"
    assert call("ModelInfer", request).id == "cam-2"
    assert call("ModelInfer", infer_request(PNG), metadata=(("x-request-id", "cam-3"),)).id == "cam-3"


def test_v2_sends_the_outputs_that_were_asked_for(served, call):
    url = f"{served.url}/v2/models/plates/infer"
    body = post(url, v2_body(PNG, outputs=[{"name": "score"}, {"name": "verdict"}])).json()
    assert list(by_name(body)) == ["score", "verdict"]
    request = infer_request(PNG)
    request.outputs.add(name="verdict")
    assert from_grpc(call("ModelInfer", request)) == {"verdict": [b"NG"]}
    response = post(url, v2_body(PNG, outputs=[{"name": "area"}]))
    assert "no output 'area'" in error_of(response)["message"]
    response = post(url, v2_body(PNG, outputs=[{"name": "mask"}], parameters={"mask": "none"}))
    assert response.status_code == 400
    assert "mask is none" in error_of(response)["message"]


# Health and addresses


def test_readiness_over_every_protocol(served, judged, call):
    for path in (
        "v1/models/plates",
        "v2/health/ready",
        "v2/models/imagesegmodel/ready",
        f"v2/models/plates/versions/{judged.bundle.version}/ready",
    ):
        response = requests.get(f"{served.url}/{path}", timeout=5)
        assert response.status_code == 200
        assert response.json()["ready"] is True
    assert call("ServerLive", messages.ServerLiveRequest()).live
    assert call("ServerReady", messages.ServerReadyRequest()).ready
    assert call("ModelReady", messages.ModelReadyRequest(name="plates")).ready


def test_the_region_of_interest(framed, served, judged, roi):
    version = judged.bundle.version
    for path in ("plates/roi", f"plates/versions/{version}/roi"):
        found = requests.get(f"{framed.url}/v2/models/{path}", timeout=60)
        assert (found.status_code, found.headers["content-type"]) == (200, "image/png")
        assert np.array_equal(decode_mask(found.content), roi)
        none = requests.get(f"{served.url}/v2/models/{path}", timeout=60)
        assert (none.status_code, none.content) == (204, b"")
    for path in ("others/roi", "plates/versions/v1/roi"):
        assert error_of(requests.get(f"{framed.url}/v2/models/{path}", timeout=60))["code"] == "not_found"


def test_the_model_says_that_it_is_ready_and_others_are_not_found(served):
    told = requests.get(f"{served.url}/v1/models/plates", timeout=5).json()
    assert told == {"name": "plates", "ready": True}
    assert requests.get(f"{served.url}/v2/models/other/ready", timeout=5).status_code == 404
    response = requests.post(f"{served.url}/v1/models/other:predict", json={}, timeout=5)
    assert response.status_code == 404
    assert "other" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "v2/models/other/ready", 404),
        ("GET", "v1/models/other", 404),
        ("GET", "v2/models/plates/versions/v1/ready", 404),
        ("POST", "v1/models/other:predict", 404),
        ("POST", "v1/models/plates:explain", 405),
        ("POST", "v2/models/other/infer", 404),
        ("POST", "v2/repository/models/plates/unload", 404),
        ("POST", "v2/repository/models/plates/load", 404),
        ("POST", "v2/repository/index", 404),
        ("GET", "nothing/here", 404),
        ("GET", "v1/models/plates:predict", 405),
        ("DELETE", "v1/models/plates", 405),
        ("POST", "v2/health/live", 405),
        ("PUT", "v2/models/plates/infer", 405),
    ],
)
def test_addresses_where_nothing_is(served, method, path, status):
    response = requests.request(method, f"{served.url}/{path}", timeout=5)
    assert response.status_code == status
    assert error_of(response)["code"] == ("not_found" if status == 404 else "method_not_allowed")
    assert (status == 405) == ("allow" in response.headers)


def test_nobody_can_unload_the_model(served):
    response = requests.post(f"{served.url}/v2/repository/models/plates/unload", timeout=5)
    assert response.status_code == 404
    assert error_of(response)["code"] == "not_found"
    assert post(served.url + PREDICT, PNG, "image/png").status_code == 200


# Bad bodies


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (b"", "image/png", "0 bytes"),
        (b"", "application/json", "not valid JSON"),
        (np.random.default_rng(0).bytes(5000), "image/png", "5000 bytes"),
        (PNG[: len(PNG) // 2], "image/png", "damaged"),
        (bomb(60_000, 60_000), "image/png", "too large"),
        (b"{", "application/json", "not valid JSON"),
        (b"\xff\xd8\xff", "application/json", "not valid JSON"),
        (b"[]", "application/json", "cannot be used|list|object"),
        (b"7", "application/json", "cannot be used|object"),
        (b"{}", "application/json", "Expected"),
        (b'{"pictures": []}', "application/json", "Expected"),
        (b'{"instances": 3}', "application/json", "(?i)expected"),
        (b'{"instances": "abc"}', "application/json", "(?i)expected"),
        (b'{"instances": {"image": 1}}', "application/json", "(?i)expected"),
        (b'{"instances": null}', "application/json", "(?i)expected"),
        (b'{"instances": []}', "application/json", "no picture"),
        (b'{"instances": [1]}', "application/json", "(?i)expected"),
        (b'{"instances": [{"image": {"b64": 5}}]}', "application/json", "(?i)expected"),
        (b'{"instances": [{"image": {"b64": "%%%"}}]}', "application/json", "(?i)expected"),
        ('{"instances": [{"image": {"b64": "\u00e9"}}]}'.encode(), "application/json", "(?i)expected"),
        (json.dumps(v1_body(b"no picture")).encode(), "application/json", "10 bytes"),
        (json.dumps(v1_body(PNG, b"")).encode(), "application/json", "0 bytes"),
        (PNG, "application/json", "not valid JSON"),
        (b"no picture", "application/octet-stream", "10 bytes"),
    ],
)
def test_bad_bodies_are_refused_in_words(served, body, content_type, says):
    response = post(served.url + PREDICT, body, content_type)
    assert 400 <= response.status_code < 500, response.text
    error = response.json()["error"]["message"]
    assert re.search(says, error), error
    assert "Traceback" not in error
    assert "Error :" not in error
    assert len(error) < 500


def test_after_all_that_it_still_answers(served):
    assert post(served.url + PREDICT, PNG, "image/png").status_code == 200


def test_a_picture_that_is_too_large(served):
    for body, content_type in [
        (encode(np.zeros((4000, 4001), np.uint8)), "image/png"),
        (bomb(60_000, 60_000), "image/png"),
        (v1_body(PNG, bomb(4000, 4001)), None),
    ]:
        response = post(served.url + PREDICT, body, content_type)
        assert response.status_code == 413
        assert "at most 16 megapixels" in error_of(response)["message"]
