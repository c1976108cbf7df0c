"""Requests: the bodies of every protocol → pictures and parameters. No I/O."""

import base64
import binascii
import math
import struct
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import orjson
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from PIL import Image

from defectline.components.common.images.reading import open_header
from defectline.components.common.prediction import Prediction
from defectline.components.serve.protocol.errors import ApiError
from defectline.components.serve.protocol.parameters import (
    EXPECTED,
    IGNORED,
    REQUEST_ID,
    Parameters,
    parameters_of,
)
from defectline.components.serve.protocol.pixels import pictures_of_pixels
from defectline.components.serve.sdk import messages

MAX_PICTURES = 64
"""In one request: it is answered as a whole, so more would only make others wait."""
INPUT = "image"
DOUBLE_PARAM, UINT64_PARAM, FIXED64 = 4, 5, 1
"""Numbers of fields of InferParameter, and how a double is written."""
OUTPUTS: dict[str, Any] = {
    "mask" if name == "mask_png" else name: field.annotation
    for name, field in Prediction.model_fields.items()
    if name not in ("model_version", "latency_ms")
}
"""Of V2 → their type in a Prediction. The version is a field of V2's own."""

V1_BODY = '{"instances": [{"image": {"b64": "…"}}]} or {"image": "…"}'
V2_BODY = '{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["…base64…"]}]}'

Protocol = Literal["v1_raw", "v1_json", "legacy", "v2_json", "v2_binary", "grpc"]


class Output(NamedTuple):
    name: str
    binary: bool


class InferenceRequest(NamedTuple):
    """One request of any protocol."""

    protocol: Protocol
    pictures: list[bytes]
    """Encoded as PNG, JPEG, …; at least one, at most MAX_PICTURES."""
    parameters: Parameters
    outputs: list[Output] | None = None
    """V2: the requested ones, in this order; None for all."""
    ignored: Sequence[str] = ()
    """V2: parameters that were sent and mean nothing here."""
    binary: bool = False
    """V2: outputs are sent as bytes after the JSON, or in raw_output_contents."""

    @property
    def mask(self) -> Literal["png", "bmp", "none"]:
        """How to encode the mask."""
        if self.protocol == "legacy":
            return "bmp"
        if self.outputs is not None and all(output.name != "mask" for output in self.outputs):
            return "none"
        return self.parameters.mask


def new_request_id(given: str | None = None) -> str:
    """The caller's id, where it is one, else a new one."""
    return given if given and REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def check_size(picture: bytes, max_pixels: int) -> int:
    """The number of pixels by a picture's header, before any are decoded. Raises ApiError for too many.

    A picture without a readable header passes, as 0: decoding says better what is wrong.
    """
    try:
        with open_header(picture) as header:
            width, height = header.size
    except Image.DecompressionBombError:
        raise ApiError("too_large", f"The picture is too large. {_cut(max_pixels)}") from None
    except Exception:
        # Damage makes Pillow's readers raise almost anything.
        return 0
    if width * height > max_pixels:
        raise ApiError("too_large", f"The picture is too large: {width}×{height} pixels. {_cut(max_pixels)}")
    return width * height


def check_sizes(pictures: Sequence[bytes], max_pixels: int) -> list[int]:
    """The pixels of each picture by its header. Raises ApiError for more than `max_pixels` in all."""
    sizes = [check_size(picture, max_pixels) for picture in pictures]
    if sum(sizes) > max_pixels:
        raise ApiError(
            "too_large",
            f"The pictures are too large: {sum(sizes) / 1e6:.1f} megapixels together. "
            f"Send at most {max_pixels / 1e6:g} in one request.",
        )
    return sizes


def _cut(max_pixels: int) -> str:
    return f"Cut it into parts of at most {max_pixels / 1e6:g} megapixels."


def read_raw(body: bytes, query: Mapping[str, str]) -> InferenceRequest:
    """V1 with the picture itself as its body."""
    return InferenceRequest("v1_raw", [body], parameters_of(query))


def read_v1(body: bytes, query: Mapping[str, str]) -> InferenceRequest:
    """V1 JSON, or the legacy body."""
    content = _json_object(body, V1_BODY)
    parameters = parameters_of(query, _object(content.get("parameters"), "parameters"))
    if "instances" not in content and "image" in content:
        return InferenceRequest("legacy", [_picture(content["image"], V1_BODY)], parameters)
    instances = content.get("instances")
    if not isinstance(instances, list):
        raise _wrong_body(V1_BODY)
    _check_count(len(instances), V1_BODY)
    pictures = []
    for instance in instances:
        if not isinstance(instance, dict) or not isinstance(instance.get("image"), dict):
            raise _wrong_body(V1_BODY)
        pictures.append(_picture(instance["image"].get("b64"), V1_BODY))
    return InferenceRequest("v1_json", pictures, parameters)


def read_v2(
    body: bytes, json_length: str | None, query: Mapping[str, str]
) -> tuple[InferenceRequest, str | None]:
    """V2 over REST, and its id. `json_length` is the header Inference-Header-Content-Length: what follows
    so many bytes of JSON is the binary data of the inputs, in their order."""
    text, rest = body, b""
    if json_length is not None:
        if not json_length.isascii() or not json_length.isdigit() or len(json_length) > 12:
            raise ApiError("invalid_request", "Inference-Header-Content-Length is not a number of bytes.")
        if int(json_length) > len(body):
            raise ApiError(
                "invalid_request",
                f"Inference-Header-Content-Length is {int(json_length)}, the body has {len(body)} bytes.",
            )
        text, rest = body[: int(json_length)], body[int(json_length) :]
    content = _json_object(text, V2_BODY)
    given = dict(_object(content.get("parameters"), "parameters"))
    ignored = tuple(name for name in IGNORED if given.pop(name, None) is not None)
    binary = _flag(given.pop("binary_data_output", False), "binary_data_output")
    outputs = None
    if content.get("outputs") is not None:
        outputs = [_output(item, binary) for item in _list(content["outputs"], "outputs")] or None
    inputs = _list(content.get("inputs"), "inputs")
    if len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _wrong_body(V2_BODY)
    tensor = inputs[0]
    size = _object(tensor.get("parameters"), "parameters of the input").get("binary_data_size")
    elements: list[Any] | bytes
    if size is None:
        if rest:
            raise ApiError(
                "invalid_request", f"{len(rest)} bytes follow the JSON, but no input has a binary_data_size."
            )
        elements = _list(tensor.get("data"), "data")
    else:
        if type(size) is not int or size != len(rest):
            raise ApiError(
                "invalid_request", f"binary_data_size is not the {len(rest)} bytes that follow the JSON."
            )
        elements = rest
    pictures = _tensor(tensor.get("name"), tensor.get("datatype"), tensor.get("shape"), elements)
    request_id = content.get("id")
    if request_id is not None and not (isinstance(request_id, str) and REQUEST_ID.fullmatch(request_id)):
        raise ApiError("invalid_request", f"The id cannot be used. Expected {EXPECTED['request_id']}.")
    return (
        InferenceRequest(
            "v2_json" if size is None else "v2_binary",
            pictures,
            parameters_of(query, given),
            outputs,
            ignored,
            binary,
        ),
        request_id,
    )


def parse_grpc(message: type, data: bytes) -> Any:
    """The protocol buffer of class `message` in `data`."""
    try:
        return message.FromString(data)  # type: ignore[attr-defined]
    except DecodeError:
        raise ApiError("invalid_request", f"The bytes are not a {message.__name__}.") from None


def read_grpc(request: messages.ModelInferRequest) -> tuple[InferenceRequest, str | None]:
    """V2 over gRPC, and its id."""
    if len(request.inputs) != 1:
        raise ApiError("invalid_request", f"{len(request.inputs)} inputs. Expected one, {INPUT}.")
    tensor = request.inputs[0]
    raw = list(request.raw_input_contents)
    if len(raw) > 1 or (raw and tensor.HasField("contents")):
        raise ApiError("invalid_request", "The data come twice. Send contents or raw_input_contents.")
    plain = list(tensor.contents.bytes_contents or tensor.contents.uint_contents)
    elements: list[Any] | bytes = raw[0] if raw else plain
    pictures = _tensor(tensor.name, tensor.datatype, list(tensor.shape), elements)
    given = {key: _parameter(value) for key, value in request.parameters.items()}
    ignored = tuple(name for name in IGNORED if given.pop(name, None) is not None)
    outputs = [_named(output.name, bool(raw)) for output in request.outputs] or None
    if request.id and not REQUEST_ID.fullmatch(request.id):
        raise ApiError("invalid_request", f"The id cannot be used. Expected {EXPECTED['request_id']}.")
    parsed = InferenceRequest("grpc", pictures, parameters_of(given), outputs, ignored, bool(raw))
    return parsed, request.id or None


def _parameter(value: messages.InferParameter) -> Any:
    if kind := value.WhichOneof("parameter_choice"):
        return getattr(value, kind)
    # Kinds that Triton's clients have and the messages of KServe's SDK have not.
    for field in UnknownFieldSet(value):
        if field.field_number == DOUBLE_PARAM and field.wire_type == FIXED64:
            return struct.unpack("<d", struct.pack("<Q", field.data))[0]
        if field.field_number == UINT64_PARAM:
            return field.data
    return ""


def _tensor(name: Any, datatype: Any, shape: Any, data: list[Any] | bytes) -> list[bytes]:
    """The pictures of the input tensor; `data` are its elements, or the bytes that it comes in."""
    if name != INPUT or datatype not in ("BYTES", "UINT8"):
        raise ApiError(
            "invalid_request",
            f"Expected one input, {INPUT}: BYTES with encoded pictures, or UINT8 with the pixels of decoded "
            "ones.",
        )
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 2**31 for side in shape):
        raise ApiError("invalid_request", "The shape is not a list of sizes.")
    if datatype == "UINT8":
        if len(shape) == 4 and shape[0] > MAX_PICTURES:
            raise _too_many()
        return pictures_of_pixels(shape, data)
    elements = _unpack(data) if isinstance(data, bytes) else _flat(data)
    _check_count(len(elements), V2_BODY)
    if not shape or math.prod(shape) != len(elements):
        raise ApiError(
            "invalid_request",
            f"The shape is for {math.prod(shape) if shape else 0} pictures, the data has {len(elements)}.",
        )
    return [item if isinstance(item, bytes) else _picture(item, V2_BODY) for item in elements]


def _unpack(data: bytes) -> list[bytes]:
    """The elements of a BYTES tensor: each follows its length, four bytes, little-endian."""
    elements: list[bytes] = []
    at = 0
    while at < len(data):
        if len(elements) == MAX_PICTURES:
            raise _too_many()
        start = at + 4
        length = struct.unpack_from("<I", data, at)[0] if start <= len(data) else len(data)
        at = start + length
        if at > len(data):
            raise ApiError(
                "invalid_request",
                "The binary data ends within an element. Each element follows its length, as four bytes.",
            )
        elements.append(data[start:at])
    return elements


def _output(item: Any, binary: bool) -> Output:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ApiError("invalid_request", 'An output is not an object such as {"name": "verdict"}.')
    parameters = _object(item.get("parameters"), "parameters of an output")
    return _named(item["name"], _flag(parameters.get("binary_data", binary), "binary_data"))


def _named(name: str, binary: bool) -> Output:
    if name not in OUTPUTS:
        raise ApiError(
            "invalid_request", f"There is no output {name[:40]!r}. Expected some of {', '.join(OUTPUTS)}."
        )
    return Output(name, binary)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ApiError("invalid_request", f"{name} is not true or false.")
    return value


def _flat(data: list[Any]) -> list[Any]:
    """The elements of a tensor in JSON, which may be nested as its shape is."""
    if any(isinstance(item, list) for item in data):
        return [part for item in data for part in (item if isinstance(item, list) else [item])]
    return data


def _json_object(body: bytes, expected: str) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ApiError("invalid_request", f"The body is not valid JSON. Expected {expected}.") from None
    if not isinstance(content, dict):
        raise _wrong_body(expected)
    return content


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ApiError("invalid_request", f"{name} is not a JSON object.")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ApiError("invalid_request", f"{name} is not a list. Expected {V2_BODY}.")
    return value


def _picture(text: Any, expected: str) -> bytes:
    try:
        if isinstance(text, str) and text.startswith("data:"):
            head, _, text = text.partition(",")
            if not head.endswith(";base64"):
                raise ApiError("invalid_request", "A picture is a data URL without base64.")
        # Encoders of mail and shells break lines; those of the web write two letters otherwise, and leave the
        # padding out.
        plain = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (AttributeError, TypeError, ValueError, binascii.Error):
        raise ApiError("invalid_request", f"A picture is not valid base64. Expected {expected}.") from None


def _check_count(count: int, expected: str) -> None:
    if not count:
        raise ApiError("invalid_request", f"The body has no picture. Expected {expected}.")
    if count > MAX_PICTURES:
        raise _too_many()


def _too_many() -> ApiError:
    return ApiError("too_large", f"The request has too many pictures. Send at most {MAX_PICTURES} at once.")


def _wrong_body(expected: str) -> ApiError:
    return ApiError("invalid_request", f"The body cannot be used. Expected {expected}.")
