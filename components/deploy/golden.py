"""Ask a running endpoint for the golden pictures, and accept only the answers of the bundle."""

import base64
import binascii
import math
import ssl
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.bundle import Bundle, Golden, mask_iou
from defectline.components.common.errors import BundleError, ServingError
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.images.reading import UnreadableImage
from defectline.components.common.waiting import Retry, poll

SCORE_TOLERANCE = 0.01
MIN_MASK_IOU = 0.99
SETTLE_S = 60.0
"""After a rollout, routes still lead nowhere or to the previous version for about this long."""
PAUSE_S = 0.25
NOT_OF_THE_LINE = {"review": "false"}
"""Said with each picture, so that the predictor neither keeps it for review nor counts it in drift."""

NOT_YET = (404, 502, 503, 504)
"""What gateways and a starting predictor answer before the route leads to a loaded model."""
CHANCE = 1e-6
"""How improbable it must be that a route which gives a version its share gave it no request."""


class Address(NamedTuple):
    """Where an endpoint is asked, and how."""

    url: str
    headers: Mapping[str, str] | None = None
    transport: httpx.BaseTransport | None = None
    """What carries the requests there, where no connection to the host of the URL does."""

    def join(self, path: str) -> str:
        return f"{self.url.rstrip('/')}{path}"


@dataclass(frozen=True)
class Side:
    """A version that serves while another one does too."""

    folder: Path
    bundle: Bundle
    address: Address | None = None
    """Where it alone answers; None where it cannot be asked alone."""


class Unreachable(Retry):
    """Nothing at the address answers: that says nothing about the version there."""


def wait_until_ready(address: Address, model: str, deadline_s: float, timeout_s: float = 10) -> None:
    """Return as soon as the endpoint says that `model` is loaded.

    After `deadline_s` ServingError is raised: Unreachable where there was no answer.
    """
    url = address.join(f"/v2/models/{model}/ready")

    def attempt() -> None:
        answer = _send("GET", address, url, timeout_s)
        if answer.status_code != 200:
            raise Retry(
                f"{url} does not become ready.",
                got=_status(answer),
                expected="HTTP 200",
                fix="Read the predictor's log for the reason.",
            )

    poll(attempt, deadline_s, PAUSE_S)


def check(
    address: Address,
    model: str,
    bundle_folder: Path,
    bundle: Bundle,
    timeout_s: float = 10,
    settle_s: float = SETTLE_S,
) -> None:
    """POST every golden picture to `/v1/models/{model}:predict` and compare the answers.

    Verdict and `model_version` must be equal, the score within ±0.01, the mask's IoU at least 0.99.
    `timeout_s` holds for one request. A route that leads nowhere yet, or still to another version, is
    asked again for `settle_s` in all. Raises ServingError naming the first picture that differs.
    """
    if not bundle.golden:
        raise BundleError(
            f"Bundle {bundle.version} cannot be checked once it serves.",
            got="no golden pictures",
            expected="at least one",
            fix="Run the pipeline again with --force.",
        )
    url = address.join(f"/v1/models/{model}:predict")
    deadline = time.monotonic() + settle_s
    for golden in bundle.golden:
        left_s = deadline - time.monotonic()
        prediction = _ask(address, url, bundle_folder, golden, [bundle.version], timeout_s, left_s)
        _compare(prediction, golden, bundle_folder)


def monitor(
    model: str,
    sides: Sequence[Side],
    for_s: float,
    shared: Address | None = None,
    least_share: float = 0.01,
    timeout_s: float = 10,
    settle_s: float = SETTLE_S,
    pause_s: float = PAUSE_S,
) -> dict[str, int]:
    """Ask for golden pictures for `for_s` seconds while several versions serve the model.

    Each side is asked for its own pictures at its own address. At the `shared` one, every answer must be of
    one of the sides, and to that side's pictures the sealed one; it is asked for longer where that is needed
    to hear of a version that has the share `least_share` of the requests. Once an address answered, which may
    take `settle_s`, every failure counts. Returns how often each version answered; raises ServingError, also
    where one of them never did.
    """
    path = f"/v1/models/{model}:predict"
    versions = [side.bundle.version for side in sides]
    counts, heard = dict.fromkeys(versions, 0), dict.fromkeys(versions, 0)
    settled: set[str] = set()
    least_asked = math.log(CHANCE) / math.log1p(-least_share)
    end = time.monotonic() + for_s

    def ask(address: Address, side: Side, golden: Golden, expected: Sequence[str]) -> str:
        url = address.join(path)
        left_s = 0 if url in settled else settle_s
        prediction = _ask(address, url, side.folder, golden, expected, timeout_s, left_s)
        settled.add(url)
        version = prediction["model_version"]
        counts[version] += 1
        if version == side.bundle.version:
            _compare(prediction, golden, side.folder)
        return version

    while True:
        for side in sides:
            for golden in side.bundle.golden:
                if side.address:
                    ask(side.address, side, golden, [side.bundle.version])
                if shared:
                    heard[ask(shared, side, golden, versions)] += 1
        certain = not shared or all(heard.values()) or sum(heard.values()) >= least_asked
        if certain and time.monotonic() >= end:
            break
        time.sleep(pause_s)
    for version in versions:
        if not counts[version] or (shared and not heard[version]):
            raise ServingError(
                f"Version {version} of {model} answered nothing, so nothing is known of how it serves.",
                got=f"{sum(counts.values())} answers, all of other versions"
                if not counts[version]
                else f"none of {sum(heard.values())} answers at {shared.url if shared else ''}",
                expected="answers of every version that serves",
                fix="Check that the route of `url` leads to both versions; or set `strategy` to candidate.",
            )
    return counts


def _ask(
    address: Address,
    url: str,
    folder: Path,
    golden: Golden,
    versions: Collection[str],
    timeout_s: float,
    settle_s: float,
) -> dict[str, Any]:
    """The prediction of one of the `versions` for a golden picture of the bundle in `folder`."""
    picture = (folder / "golden" / golden.file).read_bytes()

    def attempt() -> dict[str, Any]:
        answer = _send("POST", address, url, timeout_s, picture, golden.content_type)
        return _prediction(answer, golden, versions)

    return poll(attempt, settle_s, PAUSE_S)


def _send(
    method: str,
    address: Address,
    url: str,
    timeout_s: float,
    body: bytes | None = None,
    content_type: str = "",
) -> httpx.Response:
    sent = dict(address.headers or {}) | ({"Content-Type": content_type} if content_type else {})
    try:
        # A connection of its own for each request: all requests of one connection may go to one pod.
        # A redirect would lead to a login page, and turn the POST into a GET.
        with httpx.Client(
            transport=address.transport, timeout=timeout_s, follow_redirects=False, verify=_trusted()
        ) as client:
            query = NOT_OF_THE_LINE if body else None
            return client.request(method, url, params=query, content=body, headers=sent)
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
        raise ServingError(
            f"{url} cannot be asked.",
            got=str(error),
            expected="an address such as http://defects.vision.example.com",
            fix="Correct `url`.",
        ) from error
    except httpx.RequestError as error:
        raise Unreachable(
            f"{url} does not answer.",
            got=str(error) or type(error).__name__,
            expected=f"an answer within {timeout_s:g} s",
            fix="Check that this machine can reach the address, or set `url` and `host_header`.",
        ) from error


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates that are trusted, which take 30 ms to load."""
    return httpx.create_ssl_context()


def _prediction(answer: httpx.Response, golden: Golden, versions: Collection[str]) -> dict[str, Any]:
    """The one prediction in an answer of one of the right versions."""
    if answer.status_code != 200:
        kind = Retry if answer.status_code in NOT_YET else ServingError
        raise _refused(golden, _status(answer), "HTTP 200", kind)
    try:
        (prediction,) = answer.json()["predictions"]
        got = prediction["model_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _refused(golden, _status(answer), "JSON with one prediction and its model_version") from error
    if got not in versions:
        raise _refused(golden, f"model_version {got}", f"model_version {' or '.join(versions)}", Retry)
    return prediction


def _compare(prediction: Mapping[str, Any], golden: Golden, folder: Path) -> None:
    """Raise ServingError for the first thing that is not as `golden` of the bundle in `folder` says."""
    mask = decode_mask((folder / "golden" / golden.mask_file).read_bytes(), numbered=True)
    try:
        verdict, score = prediction["verdict"], float(prediction["score"])
        mask_png = base64.b64decode(prediction["mask_png"], validate=True)
        answered = decode_mask(mask_png, numbered=True)
    except (KeyError, TypeError, ValueError, binascii.Error, UnreadableImage) as error:
        raise _refused(golden, f"unusable: {error!r}", "verdict, score and mask_png") from error
    if verdict != golden.verdict:
        raise _refused(golden, f"verdict {verdict}", f"verdict {golden.verdict}")
    # Scores come in thousandths, so the half of one hides no difference; turned round, NaN fails too.
    if not abs(score - golden.score) < SCORE_TOLERANCE + 0.0005:
        raise _refused(golden, f"score {score:g}", f"score {golden.score:g} ± {SCORE_TOLERANCE}")
    if answered.shape != mask.shape:
        raise _refused(golden, f"a mask of {_size(answered)}", f"a mask of {_size(mask)}")
    iou = mask_iou(answered > 0, mask > 0)
    if iou < MIN_MASK_IOU:
        raise _refused(golden, f"a mask with IoU {iou:.3f}", f"a mask with IoU ≥ {MIN_MASK_IOU}")


def _refused(
    golden: Golden, got: str, expected: str, kind: type[ServingError] = ServingError
) -> ServingError:
    return kind(
        f"The endpoint does not give the answer of the bundle for golden picture {golden.file}.",
        got=got,
        expected=expected,
        fix="Check that the predictor's image is of the same release as the pipeline, then deploy again.",
    )


def _status(answer: httpx.Response) -> str:
    return f"HTTP {answer.status_code} {answer.text[:200]}".strip()


def _size(mask: NDArray[np.uint8]) -> str:
    return f"{mask.shape[1]}×{mask.shape[0]}"
