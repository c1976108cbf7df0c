"""Ask a running endpoint for the golden pictures, and accept only the answers of the bundle."""

import base64
import binascii
import ssl
import time
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.bundle import Bundle, Golden, mask_iou
from defectline.components.common.errors import BundleError, ServingError
from defectline.components.common.images.imaging import UnreadableImage, decode_mask
from defectline.components.common.waiting import Retry, poll

SCORE_TOLERANCE = 0.01
MIN_MASK_IOU = 0.99
SETTLE_S = 60.0
"""After a rollout, routes still lead nowhere or to the previous version for about this long."""
PAUSE_S = 0.25

NOT_YET = (404, 502, 503, 504)
"""What gateways and a starting predictor answer before the route leads to a loaded model."""


def wait_until_ready(
    url: str,
    model: str,
    deadline_s: float,
    timeout_s: float = 10,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Return as soon as the endpoint says that `model` is loaded; ServingError after `deadline_s`."""
    address = f"{url.rstrip('/')}/v2/models/{model}/ready"

    def attempt() -> None:
        answer = _send("GET", address, timeout_s, headers)
        if answer.status_code != 200:
            raise Retry(
                f"{address} does not become ready.",
                got=_status(answer),
                expected="HTTP 200",
                fix="Read the predictor's log for the reason.",
            )

    poll(attempt, deadline_s, PAUSE_S)


def check(
    url: str,
    model: str,
    bundle_folder: Path,
    bundle: Bundle,
    timeout_s: float = 10,
    headers: Mapping[str, str] | None = None,
    settle_s: float = SETTLE_S,
) -> None:
    """POST every golden picture to `{url}/v1/models/{model}:predict` and compare the answers.

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
    address = f"{url.rstrip('/')}/v1/models/{model}:predict"
    deadline = time.monotonic() + settle_s
    for golden in bundle.golden:
        left_s = deadline - time.monotonic()
        prediction = _ask(address, bundle_folder, golden, [bundle.version], timeout_s, headers, left_s)
        _compare(prediction, golden, bundle_folder)


def monitor(
    url: str,
    model: str,
    served: Sequence[tuple[Path, Bundle]],
    for_s: float,
    timeout_s: float = 10,
    headers: Mapping[str, str] | None = None,
    settle_s: float = SETTLE_S,
) -> dict[str, int]:
    """Ask for golden pictures for `for_s` seconds while several versions share the requests.

    Every answer must be of a version in `served` (bundle folders with their bundles), and to that
    version's own pictures the sealed one; each picture is asked for at least once. Once one was answered,
    which may take `settle_s`, every failure counts. Returns how often each version answered; raises
    ServingError.
    """
    address = f"{url.rstrip('/')}/v1/models/{model}:predict"
    counts = {bundle.version: 0 for _, bundle in served}
    end, settled = time.monotonic() + for_s, False
    while True:
        for folder, bundle in served:
            for golden in bundle.golden:
                left_s = 0 if settled else settle_s
                prediction = _ask(address, folder, golden, counts, timeout_s, headers, left_s)
                settled = True
                counts[prediction["model_version"]] += 1
                if prediction["model_version"] == bundle.version:
                    _compare(prediction, golden, folder)
        if time.monotonic() >= end:
            return counts
        time.sleep(PAUSE_S)


def _ask(
    address: str,
    folder: Path,
    golden: Golden,
    versions: Collection[str],
    timeout_s: float,
    headers: Mapping[str, str] | None,
    settle_s: float,
) -> dict[str, Any]:
    """The prediction of one of the `versions` for a golden picture of the bundle in `folder`."""
    picture = (folder / "golden" / golden.file).read_bytes()
    sent = {**(headers or {}), "Content-Type": golden.content_type}
    return poll(
        lambda: _prediction(_send("POST", address, timeout_s, sent, picture), golden, versions),
        settle_s,
        PAUSE_S,
    )


def _send(
    method: str, address: str, timeout_s: float, headers: Mapping[str, str] | None, body: bytes | None = None
) -> httpx.Response:
    try:
        # A connection of its own for each request: all requests of one connection may go to one pod.
        # A redirect would lead to a login page, and turn the POST into a GET.
        return httpx.request(
            method,
            address,
            content=body,
            headers=headers,
            timeout=timeout_s,
            follow_redirects=False,
            verify=_trusted(),
        )
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
        raise ServingError(
            f"{address} cannot be asked.",
            got=str(error),
            expected="an address such as http://defects.vision.example.com",
            fix="Correct `url`.",
        ) from error
    except httpx.RequestError as error:
        raise Retry(
            f"{address} does not answer.",
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
    mask = decode_mask((folder / "golden" / golden.mask_file).read_bytes())
    try:
        verdict, score = prediction["verdict"], float(prediction["score"])
        answered = decode_mask(base64.b64decode(prediction["mask_png"], validate=True))
    except (KeyError, TypeError, ValueError, binascii.Error, UnreadableImage) as error:
        raise _refused(golden, f"unusable: {error!r}", "verdict, score and mask_png") from error
    if verdict != golden.verdict:
        raise _refused(golden, f"verdict {verdict}", f"verdict {golden.verdict}")
    # Scores come in thousandths, so the half of one hides no difference; turned round, NaN fails too.
    if not abs(score - golden.score) < SCORE_TOLERANCE + 0.0005:
        raise _refused(golden, f"score {score:g}", f"score {golden.score:g} ± {SCORE_TOLERANCE}")
    if answered.shape != mask.shape:
        raise _refused(golden, f"a mask of {_size(answered)}", f"a mask of {_size(mask)}")
    iou = mask_iou(answered == 1, mask == 1)
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
