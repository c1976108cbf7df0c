"""Every protocol of the endpoint gives, for the same picture, what evaluate says."""

import base64
import json
import shutil
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from endpoints import Running, b64, error_of, expected, plate, post, serving, v1_body, v2_body
from networks import Judged, draw, judge_model
from pictures import encode, turned
from PIL import Image

from defectline.components.common import checksums
from defectline.components.common.bundle import copy_served
from defectline.components.common.images.imaging import decode_mask
from defectline.components.serve.sdk import messages

PNG = plate()


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Judged:
    """With limits for grades."""
    judged = judge_model(tmp_path_factory.mktemp("judged") / "one")
    content = json.loads((judged.folder / "bundle.json").read_text())
    area = expected(judged, PNG)["defect_area_px"]
    content["grades"] = {"a_px": area - 1, "b_px": area}
    (judged.folder / "bundle.json").write_text(json.dumps(content))
    checksums.seal(judged.folder)
    return judged


@pytest.fixture(scope="module")
def served(judged, tmp_path_factory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("served")
    copy_served(judged.folder, folder / "model")
    with serving(folder / "model", folder / "log", "--alias", "imagesegmodel") as running:
        yield running


@pytest.fixture(scope="module")
def call(served) -> Iterator[Any]:
    """Calls a method of gRPC."""
    with grpc.insecure_channel(served.grpc) as channel:

        def call(method: str, request: Any, answer: Any = None, **more: Any) -> Any:
            kind = answer or getattr(messages, type(request).__name__.replace("Request", "Response"))
            ask = channel.unary_unary(
                f"/inference.GRPCInferenceService/{method}",
                request_serializer=lambda r: r if isinstance(r, bytes) else r.SerializeToString(),
                response_deserializer=kind.FromString,
            )
            return ask(request, timeout=30, **more)

        yield call


def infer_request(*pictures: bytes, raw: bool = False, **parameters: Any) -> messages.ModelInferRequest:
    request = messages.ModelInferRequest(model_name="plates")
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[len(pictures)])
    if raw:
        request.raw_input_contents.append(b"".join(struct.pack("<I", len(p)) + p for p in pictures))
    else:
        tensor.contents.bytes_contents.extend(pictures)
    for key, value in parameters.items():
        kind = "bool_param" if isinstance(value, bool) else "string_param"
        request.parameters[key].CopyFrom(messages.InferParameter(**{kind: value}))
    return request


def unpack(data: bytes) -> list[bytes]:
    elements, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        elements.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return elements


def graded(judged: Judged, picture: bytes) -> dict[str, Any]:
    """What evaluate says, with the grade."""
    says = expected(judged, picture)
    area, grades = says["defect_area_px"], json.loads((judged.folder / "bundle.json").read_text())["grades"]
    fits = says["verdict"] == "OK" or area <= grades["a_px"]
    return {**says, "grade": "A" if fits else "B" if area <= grades["b_px"] else "reject"}


def plain(prediction: dict[str, Any], judged: Judged) -> dict[str, Any]:
    """A V1 prediction without what differs from one request to the next."""
    assert prediction.pop("latency_ms") > 0
    assert prediction.pop("model_version") == judged.bundle.version
    return prediction


def from_tensors(outputs: dict[str, list[Any]], number: int = 0) -> dict[str, Any]:
    """A prediction as V1 has it, out of V2's outputs as Python values."""
    prediction = {key: values[number] for key, values in outputs.items()}
    prediction["regions"] = json.loads(prediction["regions"])
    mask = prediction.pop("mask")
    prediction["mask_png"] = mask if isinstance(mask, str) else b64(mask)
    return {key: value.decode() if isinstance(value, bytes) else value for key, value in prediction.items()}


def by_name(body: dict[str, Any]) -> dict[str, list[Any]]:
    assert all(output["shape"] == [len(output["data"])] for output in body["outputs"])
    return {output["name"]: output["data"] for output in body["outputs"]}


def from_grpc(response: messages.ModelInferResponse) -> dict[str, list[Any]]:
    if not response.raw_output_contents:
        fields = {"BYTES": "bytes_contents", "FP64": "fp64_contents", "INT64": "int64_contents"}
        return {o.name: list(getattr(o.contents, fields[o.datatype])) for o in response.outputs}
    assert len(response.raw_output_contents) == len(response.outputs)
    numbers = {"FP64": "<f8", "INT64": "<i8"}
    return {
        o.name: unpack(raw) if o.datatype == "BYTES" else np.frombuffer(raw, numbers[o.datatype]).tolist()
        for o, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


# The same answer over every protocol


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


def test_v1_json(served, judged):
    pictures = [PNG, plate(7, "OK"), plate(8)]
    body = post(f"{served.url}/v1/models/plates:predict", v1_body(*pictures)).json()
    assert [plain(p, judged) for p in body["predictions"]] == [graded(judged, p) for p in pictures]


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


@pytest.mark.parametrize("raw", [False, True], ids=["contents", "raw contents"])
def test_grpc(call, judged, raw):
    pictures = [PNG, plate(7, "OK")]
    response = call("ModelInfer", infer_request(*pictures, raw=raw))
    assert response.model_version == judged.bundle.version
    assert bool(response.raw_output_contents) == raw
    outputs = from_grpc(response)
    assert [from_tensors(outputs, n) for n in (0, 1)] == [graded(judged, p) for p in pictures]


def test_the_body_of_the_predecessor_under_its_name(served, judged):
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


# Descriptions


def test_metadata(served, judged, call):
    meta = requests.get(f"{served.url}/v2/models/plates", timeout=5).json()
    assert meta["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert meta["versions"] == [judged.bundle.version]
    body = post(f"{served.url}/v2/models/plates/infer", v2_body(PNG)).json()
    assert [(o["name"], o["datatype"]) for o in meta["outputs"]] == [
        (o["name"], o["datatype"]) for o in body["outputs"]
    ]
    told = call("ModelMetadata", messages.ModelMetadataRequest(name="plates"))
    assert [o.name for o in told.outputs] == [o["name"] for o in meta["outputs"]]
    assert requests.get(f"{served.url}/v2/models", timeout=5).json() == {
        "models": ["plates", "imagesegmodel"]
    }
    assert call("ServerMetadata", messages.ServerMetadataRequest()).name == "defectline"


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


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload", "Nothing"])
def test_nobody_can_load_and_unload_over_grpc(served, call, method):
    request = messages.RepositoryModelUnloadRequest(model_name="plates")
    with pytest.raises(grpc.RpcError) as raised:
        call(method, request)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert from_grpc(call("ModelInfer", infer_request(PNG)))["verdict"] == [b"NG"]


def test_grades_are_left_out_without_limits(judged, tmp_path):
    folder = tmp_path / "model"
    copy_served(judged.folder, folder)
    content = json.loads((folder / "bundle.json").read_text())
    del content["grades"]
    (folder / "bundle.json").write_text(json.dumps(content))
    checksums.seal(folder)
    shutil.copytree(folder, tmp_path / "served")
    with serving(tmp_path / "served", tmp_path / "log") as running:
        body = post(f"{running.url}/v2/models/plates/infer", v2_body(PNG)).json()
        assert "grade" not in by_name(body)
        response = post(f"{running.url}/v2/models/plates/infer", v2_body(PNG, outputs=[{"name": "grade"}]))
        assert "no limits" in error_of(response)["message"]
