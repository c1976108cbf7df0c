"""Send an endpoint what it must refuse, over every protocol, and watch its memory.

    python benchmarks/fuzz.py --requests 10000 [--model store/models/defects/v…]

Starts a predictor of the model (without --model: of a network made by hand), sends truncated and damaged
pictures, bombs, random bytes, wrong types and JSON of wrong shape, and after every fiftieth a picture that
must be answered as at first. Ends with status 1 at the first answer that is an internal error, or has another
form than errors have.
"""

import argparse
import base64
import copy
import io
import json
import random
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import requests
from PIL import Image

from defectline.components.common.ports import free_port
from defectline.components.serve.sdk import messages

NAME = "plates"
JSON = "application/json"
LENGTH = "Inference-Header-Content-Length"
JUNK: list[Any] = [
    *(None, True, 0, -1, 1.5, 10**18, "", "abc", "%%%", "\u00e9", "\x00", [], {}, [[]], [None], {"a": 1}),
    *("image", "BYTES", [1], [-1], [10**9, 10**9], ["x"], {"b64": 1}, {"name": "verdict"}, "A" * 5000),
]


class Case(NamedTuple):
    """One request. `path` starts with a slash, or is a method of gRPC."""

    what: str
    path: str
    body: bytes
    headers: dict[str, str] | None = None
    may_pass: bool = False
    """Damage may have left a picture, or what was changed may not matter."""


def picture(size: int = 64, seed: int = 0) -> bytes:
    """A PNG of noise with a bright bar."""
    pixels = np.random.default_rng(seed).integers(90, 121, (size, size), np.uint8)
    pixels[10:14, 5:40] = 250
    return _save(Image.fromarray(pixels), "PNG")


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header says so many pixels."""
    data = bytearray(picture())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def cases(seed: int) -> Iterator[Case]:
    """Requests that must be refused, without end; the same for the same seed."""
    rng = random.Random(seed)
    good = {
        kind: _save(Image.open(io.BytesIO(picture())), kind)
        for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
    }
    makers = [_raw, _v1, _v2, _v2_binary, _grpc, _other]
    while True:
        yield rng.choice(makers)(rng, good)


def _raw(rng: random.Random, good: dict[str, bytes]) -> Case:
    path, kind = f"/v1/models/{NAME}:predict", rng.choice(list(good))
    headers = {"content-type": rng.choice([f"image/{kind.lower()}", "application/octet-stream"])}
    data = good[kind]
    match rng.randrange(6):
        case 0:
            return Case("truncated", path, data[: rng.randrange(len(data))], headers, may_pass=True)
        case 1:
            flipped = bytearray(data)
            for _ in range(rng.randrange(1, 30)):
                flipped[rng.randrange(len(flipped))] = rng.randrange(256)
            return Case("damaged", path, bytes(flipped), headers, may_pass=True)
        case 2:
            return Case("random bytes", path, rng.randbytes(rng.randrange(3000)), headers)
        case 3:
            body = bomb(rng.randrange(50_000, 2**31), rng.randrange(1001, 2**31))
            return Case("bomb", path, body, headers)
        case 4:
            kinds = [
                "text/plain",
                "multipart/form-data; boundary=x",
                "application/x-www-form-urlencoded",
                JSON,
            ]
            return Case("wrong content type", path, data, {"content-type": rng.choice([*kinds, JSON])})
        case _:
            frames = [Image.fromarray(np.full((32, 32), grey, np.uint8)) for grey in (1, 2)]
            out = io.BytesIO()
            frames[0].save(out, rng.choice(["TIFF", "GIF"]), save_all=True, append_images=frames[1:])
            return Case("several frames", path, out.getvalue(), headers)


def _v1(rng: random.Random, good: dict[str, bytes]) -> Case:
    body = {"instances": [{"image": {"b64": _b64(good["PNG"])}}], "parameters": {"mask": "none"}}
    if rng.random() < 0.2:
        body = {"image": _b64(good["PNG"])}
    return _json(rng, f"/v1/models/{NAME}:predict", body)


def _v2(rng: random.Random, good: dict[str, bytes]) -> Case:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [_b64(good["PNG"])]}
    body = {"id": "a", "inputs": [tensor], "outputs": [{"name": "verdict"}], "parameters": {"mask": "none"}}
    return _json(rng, f"/v2/models/{NAME}/infer", body)


def _json(rng: random.Random, path: str, body: dict[str, Any]) -> Case:
    headers = {"content-type": JSON}
    text = json.dumps(body).encode()
    match rng.randrange(5):
        case 0:
            return Case("truncated JSON", path, text[: rng.randrange(len(text))], headers)
        case 1:
            return Case("deep JSON", path, b"[" * 50_000 + b"]" * 50_000, headers)
        case 2:
            return Case("any JSON", path, json.dumps(rng.choice(JUNK)).encode(), headers)
        case _:
            changed = _change(rng, copy.deepcopy(body))
            return Case("changed JSON", path, json.dumps(changed).encode(), headers, may_pass=True)


def _v2_binary(rng: random.Random, good: dict[str, bytes]) -> Case:
    path = f"/v2/models/{NAME}/infer"
    data = struct.pack("<I", len(good["PNG"])) + good["PNG"]
    size, length_error = len(data), 0
    match rng.randrange(4):
        case 0:
            data = data[: rng.randrange(4, len(data))]
        case 1:
            data = struct.pack("<I", rng.randrange(2**32)) + data[4:]
        case 2:
            size = rng.choice([-1, 0, size + 1, 10**15])
        case _:
            length_error = rng.choice([-(10**6), -1, 1, 10**6])
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = {LENGTH: str(len(text) + length_error), "content-type": "application/octet-stream"}
    return Case("V2 binary", path, text + data, headers)


def _grpc(rng: random.Random, good: dict[str, bytes]) -> Case:
    request = messages.ModelInferRequest(model_name=NAME)
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[1])
    data = good["PNG"]
    match rng.randrange(6):
        case 0:
            return Case("random bytes", "ModelInfer", rng.randbytes(rng.randrange(1, 2000)))
        case 1:
            tensor.contents.bytes_contents.append(data)
            flipped = bytearray(request.SerializeToString())
            for _ in range(rng.randrange(1, 10)):
                flipped[rng.randrange(len(flipped))] = rng.randrange(256)
            return Case("damaged message", "ModelInfer", bytes(flipped), may_pass=True)
        case 2:
            tensor.contents.bytes_contents.append(data[: rng.randrange(30)])
        case 3:
            tensor.datatype = rng.choice(["UINT8", "FP32", "", "bytes"])
            tensor.contents.bytes_contents.append(data)
        case 4:
            tensor.shape[0] = rng.choice([0, 2, -1, 2**62])
            tensor.contents.bytes_contents.append(data)
        case _:
            request.raw_input_contents.append(rng.randbytes(rng.randrange(200)))
    return Case("wrong tensor", "ModelInfer", request.SerializeToString())


def _other(rng: random.Random, good: dict[str, bytes]) -> Case:
    path = rng.choice(
        [
            "/v2/models/other/infer",
            "/v1/models/%00:predict",
            "/v1/models/../../etc/passwd:predict",
            f"/v2/repository/models/{NAME}/unload",
            f"/v2/models/{NAME}/versions/1/infer",
            f"/v1/models/{NAME}:predict?threshold=-1",
            f"/v1/models/{NAME}:predict?%ff=%ff",
            "/" + "a" * rng.randrange(2000),
        ]
    )
    return Case("wrong address", path, good["PNG"], {"content-type": "image/png"})


def _change(rng: random.Random, node: Any) -> Any:
    """`node` with one value below it replaced or removed."""
    if not isinstance(node, dict | list) or not node or rng.random() < 0.25:
        return rng.choice(JUNK)
    key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
    if rng.random() < 0.2:
        del node[key]
    else:
        node[key] = _change(rng, node[key])
    return node


def _save(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Caller:
    """Sends cases, and checks what comes back."""

    def __init__(self, url: str, grpc_address: str):
        self.url = url
        self._session = requests.Session()
        self._channel = grpc.insecure_channel(grpc_address)

    def close(self) -> None:
        self._session.close()
        self._channel.close()

    def send(self, case: Case) -> str:
        """The status of the answer. Raises AssertionError for one that must not be."""
        if not case.path.startswith("/"):
            return self._send_grpc(case)
        headers = {"content-type": JSON, **(case.headers or {})}
        request = requests.Request("POST", self.url, data=case.body, headers=headers)
        prepared = self._session.prepare_request(request)
        prepared.url = self.url + case.path
        response = self._session.send(prepared, timeout=60)
        said = f"{case.what}: HTTP {response.status_code} {response.text[:300]}"
        if response.status_code == 200:
            assert case.may_pass, said
            return "200"
        assert 400 <= response.status_code < 500, said
        error = response.json()
        if isinstance(error["error"], dict):
            error = error["error"]
        else:
            # V2 has the message there.
            error["message"] = error.pop("error")
        assert set(error) == {"code", "message", "request_id"}, said
        assert "Traceback" not in error["message"], said
        return str(response.status_code)

    def _send_grpc(self, case: Case) -> str:
        method = self._channel.unary_unary(f"/inference.GRPCInferenceService/{case.path}")
        try:
            method(case.body, timeout=60)
            code, allowed = "OK", ["OK"] if case.may_pass else []
        except grpc.RpcError as error:
            code, allowed = error.code().name, ["INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"]
        assert code in allowed, f"{case.what}: {code}"
        return code

    def judge(self, data: bytes) -> dict[str, Any]:
        """The prediction for a good picture."""
        address = f"{self.url}/v1/models/{NAME}:predict"
        response = self._session.post(address, data=data, headers={"content-type": "image/png"}, timeout=60)
        assert response.status_code == 200, response.text
        (prediction,) = response.json()["predictions"]
        del prediction["latency_ms"]
        return prediction


def main() -> None:
    from measuring import anonymous_mb

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.model or _by_hand(Path(temporary))
        port, grpc_port = free_port(), free_port()
        command = [sys.executable, "-m", "defectline.components.serve", "--model_dir", str(folder)]
        command += ["--model_name", NAME, "--http_port", str(port), "--enable_grpc", "true"]
        with Path(temporary, "log").open("wb") as log:
            process = subprocess.Popen([*command, "--grpc_port", str(grpc_port)], stdout=log, stderr=log)
        try:
            caller = Caller(f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}")
            _wait(process, caller.url)
            good = picture()
            first = caller.judge(good)
            # What the first requests need, they keep.
            for case, _ in zip(cases(options.seed + 1), range(500), strict=False):
                caller.send(case)
            before, begun, statuses = anonymous_mb(process.pid), time.perf_counter(), Counter[str]()
            for number, case in zip(range(options.requests), cases(options.seed), strict=False):
                statuses[caller.send(case)] += 1
                if number % 50 == 0:
                    assert caller.judge(good) == first
            seconds = time.perf_counter() - begun
            print(f"{options.requests} requests in {seconds:.0f} s: {dict(statuses.most_common())}")
            print(f"memory: {before:.0f} MB before, {anonymous_mb(process.pid):.0f} MB after (RssAnon)")
        except AssertionError as error:
            sys.exit(f"fault: {error}")
        finally:
            process.terminate()
            process.wait()


def _by_hand(folder: Path) -> Path:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
    from networks import judge_model  # type: ignore[import-not-found]

    return judge_model(folder / "one").folder


def _wait(process: subprocess.Popen, url: str) -> None:
    while process.poll() is None:
        try:
            if requests.get(f"{url}/v2/health/ready", timeout=5).status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    sys.exit("The predictor did not start.")


if __name__ == "__main__":
    main()
