"""What people do with Triton's client, in the environment that has it: triton_client.py HTTP GRPC PICTURE."""

import json
import sys

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

KEEPALIVE = tritonclient.grpc.KeepAliveOptions(
    keepalive_time_ms=1000, keepalive_timeout_ms=1000, keepalive_permit_without_calls=True
)


def main(http: str, grpc: str, picture: str) -> None:
    with open(picture, "rb") as file:
        encoded = np.array([file.read()], dtype=np.object_)
    pixels = np.full((64, 64, 1), 100, np.uint8)
    clients = (
        (tritonclient.http, tritonclient.http.InferenceServerClient(http)),
        (tritonclient.grpc, tritonclient.grpc.InferenceServerClient(grpc, keepalive_options=KEEPALIVE)),
    )
    found = {}
    for module, client in clients:
        name = module.__name__
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("plates")
        assert client.get_model_metadata("plates")
        for kind, datatype, data in (("file", "BYTES", encoded), ("pixels", "UINT8", pixels)):
            tensor = module.InferInput("image", data.shape, datatype)
            tensor.set_data_from_numpy(data)
            answer = client.infer("plates", [tensor], priority=1, timeout=5_000_000, sequence_id=7)
            found[f"{name} {kind}"] = [
                answer.as_numpy("verdict").ravel().tolist()[0].decode(),
                float(answer.as_numpy("score").ravel()[0]),
            ]
        tensor = module.InferInput("image", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([b"no picture"], dtype=np.object_))
        try:
            client.infer("plates", [tensor])
        except InferenceServerException as error:
            found[f"{name} error"] = error.message()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
