"""Is the endpoint what it should be, and does it refuse what it should: rows of IQ and OQ."""

import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from defectline.components.common.bundle import Bundle
from defectline.components.common.errors import DefectlineError
from defectline.components.common.storage import Storage, checksums
from defectline.components.common.storage.checksums import sha256_file
from defectline.components.common.trust.keys import Trusted
from defectline.components.deploy.golden import MIN_MASK_IOU, SCORE_TOLERANCE, Address, check
from defectline.pipeline.catalog.chain import verify_version
from defectline.pipeline.qualification.endpoint import Endpoint
from defectline.pipeline.versions import versions

REPEATS = 3
TIMEOUT_S = 60


class Row(NamedTuple):
    what: str
    passed: bool | None
    """None for what is told and not judged."""
    found: str


def installation(
    client: Endpoint, version: str, storage: Storage, folder: Path | None, trusted: Sequence[Trusted]
) -> Iterator[Row]:
    """What serves, and whether its chain holds. `folder` has the bundle of `version`; None where the store
    has none."""
    yield Row("endpoint", None, f"{client.url}, model {client.name}, version {version}")
    yield Row("asked from", None, f"{platform.node()}, {platform.system()} {platform.machine()}")
    yield Row("software here", None, ", ".join(f"{name} {found}" for name, found in versions() if found))
    if folder is None:
        yield Row("bundle", False, f"{storage.uri} has no bundle of {version}")
        return
    yield Row("bundle", None, f"SHA-256 of its list of files: {sha256_file(folder / checksums.NAME)}")
    try:
        chain = verify_version(storage, client.name, version, trusted)
    except DefectlineError as error:
        yield Row("chain", False, error.reason)
        return
    broken = chain.broken
    how = "signatures and seals" if chain.signed else "seals; no key was given"
    says = (
        f"{broken.name} of {broken.version}: {broken.says}"
        if broken
        else f"{len(chain.links)} links, none broken, by {how}"
    )
    yield Row("chain", broken is None, says)


def operation(client: Endpoint, picture: bytes, folder: Path | None, bundle: Bundle | None) -> Iterator[Row]:
    """Golden answers, the same answer again, and what must be refused."""
    if folder and bundle:
        yield _golden(client, folder, bundle)
    answers = [client.inspect(picture, review=False) for _ in range(REPEATS)]
    same = {one.model_copy(update={"latency_ms": 0.0}).model_dump_json() for one in answers}
    differ = "all alike" if len(same) == 1 else f"{len(same)} of them different"
    yield Row("the same picture again", len(same) == 1, f"{REPEATS} answers, {differ}; all must be alike")
    model = f"{client.url}/v1/models/{client.name}"
    refused = {
        "what is not a picture": (f"{model}:predict", b"not a picture", (400, 415, 422)),
        "an empty body": (f"{model}:predict", b"", (400, 411, 415, 422)),
        "half a picture": (f"{model}:predict", picture[: len(picture) // 2], (400, 415, 422)),
        "another model": (f"{client.url}/v1/models/none-of-that-name:predict", picture, (404,)),
    }
    headers = {"Content-Type": "image/png", **(client.headers or {})}
    for what, (url, body, wanted) in refused.items():
        try:
            status = httpx.post(url, content=body, headers=headers, timeout=TIMEOUT_S).status_code
        except httpx.HTTPError as error:
            yield Row(f"{what} is refused", False, f"no answer: {type(error).__name__}")
            continue
        allowed = f"HTTP {' or '.join(map(str, wanted))}"
        yield Row(f"{what} is refused", status in wanted, f"HTTP {status}; it must be {allowed}")


def _golden(client: Endpoint, folder: Path, bundle: Bundle) -> Row:
    try:
        check(Address(client.url, client.headers), client.name, folder, bundle, settle_s=0)
    except DefectlineError as error:
        return Row("golden answers", False, error.reason)
    count = len(bundle.golden)
    says = (
        f"{count} {'picture' if count == 1 else 'pictures'} answered as sealed: the same verdict, a score "
        f"within {SCORE_TOLERANCE}, a mask with IoU ≥ {MIN_MASK_IOU}"
    )
    return Row("golden answers", True, says)
