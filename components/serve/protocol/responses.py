"""Responses: judged pictures → the bodies of every protocol. No I/O."""

import base64
import io
import struct
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
from PIL import Image

from defectline.components.common.images.colours import encode_classes
from defectline.components.common.inference.inspection import Answer, judge_score
from defectline.components.common.prediction import Verdict
from defectline.components.serve.protocol.errors import ApiError
from defectline.components.serve.protocol.requests import OUTPUTS, InferenceRequest
from defectline.components.serve.sdk import messages

DATATYPES = {name: {float: "FP64", int: "INT64"}.get(kind, "BYTES") for name, kind in OUTPUTS.items()}
"""Of the V2 outputs; each has one element an image: lists and objects are sent as JSON, `mask` as PNG."""
NUMPY = {"FP64": "<f8", "INT64": "<i8"}
CONTENTS = {"FP64": "fp64_contents", "INT64": "int64_contents", "BYTES": "bytes_contents"}


MISSING = {
    "mask": "mask is none",
    "grade": "the model has no limits for grades",
    "class_areas_px": "the model knows one class of defects",
}
"""Why an output may not be there."""


class ImageResult(NamedTuple):
    """The answer for one picture."""

    prediction: dict[str, Any]
    """Of `to_prediction`, without the mask."""
    mask: bytes | None
    """Encoded as the request says; None where it wants none."""
    latency_ms: float


class InferenceResponse(NamedTuple):
    """The answer to one request."""

    results: Sequence[ImageResult]
    model_name: str
    """The name in the request: the model's own, or an alias."""
    model_version: str
    request_id: str
    part: "PartResult | None" = None
    """Of all pictures together, where the request asks for it."""


class PartResult(NamedTuple):
    """One verdict for the pictures of one part."""

    verdict: Verdict
    score: float


def judge_part(
    scores: Sequence[float], how: Literal["any", "mean"], threshold: float, ng_from: float | None
) -> PartResult:
    """By the highest of the pictures' scores, which gives the worst of their verdicts, or by their mean."""
    score = max(scores) if how == "any" else round(sum(scores) / len(scores), 6)
    return PartResult(judge_score(score, threshold, ng_from), score)


def encode(found: Answer, kind: Literal["png", "bmp", "none"]) -> bytes | None:
    """The mask as a PNG of `encode_classes`, as an 8-bit BMP of 0 and 255, or not at all."""
    if kind == "none":
        return None
    if kind == "png":
        return encode_classes(found.mask, found.classes)
    out = io.BytesIO()
    Image.fromarray((found.mask > 0) * np.uint8(255)).save(out, "BMP")
    return out.getvalue()


def to_v1(request: InferenceRequest, response: InferenceResponse) -> dict[str, Any]:
    """The body of V1, as JSON."""
    predictions = []
    for result in response.results:
        prediction = dict(result.prediction)
        if not request.parameters.regions:
            del prediction["regions"]
        if result.mask is not None:
            prediction["mask_png"] = base64.b64encode(result.mask).decode()
        prediction |= {"model_version": response.model_version, "latency_ms": result.latency_ms}
        predictions.append(prediction)
    body = {"predictions": predictions, "request_id": response.request_id}
    return body | ({"part": response.part._asdict()} if response.part else {})


def to_legacy(response: InferenceResponse) -> dict[str, str]:
    """The body of the endpoint that this one replaces."""
    (result,) = response.results
    return {
        "defected_area": str(result.prediction["defect_area_ratio"]),
        "segmented_image": base64.b64encode(result.mask or b"").decode(),
    }


class Tensor(NamedTuple):
    name: str
    values: list[Any]
    binary: bool

    @property
    def datatype(self) -> str:
        return DATATYPES[self.name]

    def packed(self) -> bytes:
        """The values as the protocol packs them."""
        if self.datatype != "BYTES":
            return np.asarray(self.values, NUMPY[self.datatype]).tobytes()
        return b"".join(struct.pack("<I", len(value)) + value for value in self.values)


def _tensors(request: InferenceRequest, response: InferenceResponse) -> list[Tensor]:
    """The requested outputs, or all that there are."""
    there = {}
    for name in OUTPUTS:
        if name == "mask":
            values: list[Any] = [result.mask for result in response.results]
        elif name == "regions" and request.outputs is None and not request.parameters.regions:
            continue
        else:
            values = [result.prediction.get(name) for result in response.results]
        if any(value is None for value in values):
            continue
        there[name] = [_element(value) for value in values]
    if request.outputs is None:
        return [Tensor(name, values, request.binary) for name, values in there.items()]
    for output in request.outputs:
        if output.name not in there:
            raise ApiError(
                "invalid_request",
                f"There is no {output.name} to send: {MISSING[output.name]}.",
            )
    return [Tensor(output.name, there[output.name], output.binary) for output in request.outputs]


def _element(value: Any) -> Any:
    """A field as an element of its tensor: a number, or bytes."""
    if isinstance(value, str):
        return value.encode()
    return orjson.dumps(value) if isinstance(value, list | dict) else value


def _told(request: InferenceRequest, response: InferenceResponse) -> dict[str, str | float]:
    """V2's parameters of the answer."""
    told: dict[str, str | float] = {"ignored": ", ".join(request.ignored)} if request.ignored else {}
    if response.part:
        told |= {"part_verdict": response.part.verdict, "part_score": response.part.score}
    return told


def to_v2(request: InferenceRequest, response: InferenceResponse) -> tuple[bytes, int | None]:
    """The body of V2 over REST, and how many bytes of it are JSON where binary data follow.

    In JSON a mask is base64.
    """
    outputs: list[dict[str, Any]] = []
    binary = []
    for tensor in _tensors(request, response):
        output: dict[str, Any] = {
            "name": tensor.name,
            "shape": [len(tensor.values)],
            "datatype": tensor.datatype,
        }
        if tensor.binary:
            binary.append(tensor.packed())
            output["parameters"] = {"binary_data_size": len(binary[-1])}
        elif tensor.name == "mask":
            output["data"] = [base64.b64encode(value).decode() for value in tensor.values]
        elif tensor.datatype == "BYTES":
            output["data"] = [value.decode() for value in tensor.values]
        else:
            output["data"] = tensor.values
        outputs.append(output)
    text = orjson.dumps(
        {
            "model_name": response.model_name,
            "model_version": response.model_version,
            "id": response.request_id,
            "outputs": outputs,
            **({"parameters": told} if (told := _told(request, response)) else {}),
        }
    )
    return b"".join([text, *binary]), len(text) if binary else None


def to_grpc(request: InferenceRequest, response: InferenceResponse) -> messages.ModelInferResponse:
    """V2 over gRPC: raw contents where the request's were raw, for all outputs alike."""
    message = messages.ModelInferResponse(
        model_name=response.model_name, model_version=response.model_version, id=response.request_id
    )
    for name, value in _told(request, response).items():
        message.parameters[name].string_param = str(value)
    for tensor in _tensors(request, response):
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=[len(tensor.values)])
        if request.binary:
            message.raw_output_contents.append(tensor.packed())
        else:
            getattr(output.contents, CONTENTS[tensor.datatype]).extend(tensor.values)
    return message
