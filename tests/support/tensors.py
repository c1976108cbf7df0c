"""V2: requests over gRPC, and predictions out of its tensors."""

import json
import struct
from typing import Any

import grpc
import numpy as np
from endpoints import b64

from defectline.components.serve.sdk import messages


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


def infer(address: str, *pictures: bytes, name: str = "plates") -> messages.ModelInferResponse:
    request = messages.ModelInferRequest(model_name=name)
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[len(pictures)])
    tensor.contents.bytes_contents.extend(pictures)
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        return messages.ModelInferResponse.FromString(call(request.SerializeToString(), timeout=60))


def unpack(data: bytes) -> list[bytes]:
    elements, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        elements.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return elements


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
