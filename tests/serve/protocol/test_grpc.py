"""Over gRPC, V2 gives what evaluate says of the same picture."""

import grpc
import pytest
from endpoints import graded, plate
from fuzz import bomb
from tensors import from_grpc, from_tensors, infer, infer_request

from defectline.components.serve.sdk import messages

PNG = plate()


@pytest.mark.parametrize("raw", [False, True], ids=["contents", "raw contents"])
def test_grpc(call, judged, raw):
    pictures = [PNG, plate(7, "OK")]
    response = call("ModelInfer", infer_request(*pictures, raw=raw))
    assert response.model_version == judged.bundle.version
    assert bool(response.raw_output_contents) == raw
    outputs = from_grpc(response)
    assert [from_tensors(outputs, n) for n in (0, 1)] == [graded(judged, p) for p in pictures]


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload", "Nothing"])
def test_nobody_can_load_and_unload_over_grpc(served, call, method):
    request = messages.RepositoryModelUnloadRequest(model_name="plates")
    with pytest.raises(grpc.RpcError) as raised:
        call(method, request)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert from_grpc(call("ModelInfer", infer_request(PNG)))["verdict"] == [b"NG"]


@pytest.mark.parametrize("body", [bomb(60_000, 60_000), bytes(12_000_000)], ids=["pixels", "bytes"])
def test_too_large_over_grpc(served, body):
    with pytest.raises(grpc.RpcError) as raised:
        infer(served.grpc, body)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
