"""Golden answers are asked for over HTTP and compared; the stand-in answers what the bundle says."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import SIZE, make_bundle
from cluster.endpoint import Endpoint
from servers import free_port

from defectline.components.common.bundle import Bundle
from defectline.components.common.errors import BundleError, ServingError
from defectline.components.common.images.imaging import encode_mask
from defectline.components.deploy.golden import check, monitor, wait_until_ready


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


@pytest.fixture
def endpoint(bundle: Bundle, folder: Path) -> Iterator[Endpoint]:
    endpoint = Endpoint()
    endpoint.add(folder, bundle)
    endpoint.live["defects"] = bundle.version
    with endpoint.running():
        yield endpoint


def test_the_sealed_answers_are_accepted(endpoint: Endpoint, folder: Path, bundle: Bundle) -> None:
    wait_until_ready(f"{endpoint.url}/", "defects", 5)
    check(endpoint.url, "defects", folder, bundle, headers={"Host": "defects.factory.example"})
    assert endpoint.hosts[-1] == "defects.factory.example"


def test_a_score_within_the_tolerance_is_accepted(endpoint: Endpoint, folder: Path, bundle: Bundle) -> None:
    one = bundle.model_copy(update={"golden": [bundle.golden[1]]})
    for score in (bundle.golden[1].score - 0.01, bundle.golden[1].score + 0.01):
        endpoint.changes = {"score": score}
        check(endpoint.url, "defects", folder, one)


def _mask(rows: int) -> str:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:rows] = 1
    return base64.b64encode(encode_mask(mask)).decode()


@pytest.mark.parametrize(
    ("changes", "picture", "got", "expected"),
    [
        ({"verdict": "OK"}, "NG.png", "verdict OK", "verdict NG"),
        ({"verdict": "NG"}, "OK.png", "verdict NG", "verdict OK"),
        ({"score": 0.042}, "OK.png", "score 0.042", "score 0.031 ± 0.01"),
        ({"score": float("nan")}, "OK.png", "score nan", "score 0.031"),
        ({"mask_png": _mask(1)}, "OK.png", "IoU 0.000", "IoU ≥ 0.99"),
        (
            {"mask_png": base64.b64encode(encode_mask(np.zeros((9, 8), np.uint8))).decode()},
            "OK.png",
            "8×9",
            "",
        ),
        ({"mask_png": "%"}, "OK.png", "unusable", "verdict, score and mask_png"),
        ({"mask_png": None}, "OK.png", "unusable", "verdict, score and mask_png"),
        ({"score": None}, "OK.png", "unusable", "verdict, score and mask_png"),
    ],
)
def test_the_first_picture_that_differs_is_named(
    endpoint: Endpoint,
    folder: Path,
    bundle: Bundle,
    changes: dict[str, Any],
    picture: str,
    got: str,
    expected: str,
) -> None:
    endpoint.changes = changes
    with pytest.raises(ServingError) as caught:
        check(endpoint.url, "defects", folder, bundle)
    assert picture in caught.value.what
    assert got in caught.value.got
    assert expected in caught.value.expected


def test_a_route_that_leads_nowhere_yet_is_asked_again(
    endpoint: Endpoint, folder: Path, bundle: Bundle
) -> None:
    endpoint.lost = 3
    check(endpoint.url, "defects", folder, bundle)
    assert endpoint.lost == 0


def test_another_version_is_asked_again_and_then_refused(
    endpoint: Endpoint, folder: Path, bundle: Bundle
) -> None:
    endpoint.live["defects"] = "v20200101-000000-former"
    with pytest.raises(ServingError, match="model_version v20200101-000000-former"):
        check(endpoint.url, "defects", folder, bundle, settle_s=0.6)
    assert len(endpoint.hosts) >= 2


def test_a_wrong_answer_is_not_asked_again(endpoint: Endpoint, folder: Path, bundle: Bundle) -> None:
    endpoint.changes = {"verdict": "?"}
    with pytest.raises(ServingError):
        check(endpoint.url, "defects", folder, bundle, settle_s=60)
    assert len(endpoint.hosts) == 1


def test_a_model_that_never_becomes_ready(endpoint: Endpoint) -> None:
    with pytest.raises(ServingError, match=r"models/others/ready does not become ready(.|\n)*HTTP 404"):
        wait_until_ready(endpoint.url, "others", 0.3)


def test_an_address_that_does_not_answer(folder: Path, bundle: Bundle) -> None:
    with pytest.raises(ServingError, match="does not answer"):
        check(f"http://127.0.0.1:{free_port()}", "defects", folder, bundle, settle_s=0.3)


def test_what_is_not_an_address(folder: Path, bundle: Bundle) -> None:
    with pytest.raises(ServingError, match="cannot be asked"):
        check("defects.example.com", "defects", folder, bundle)


def test_a_bundle_without_golden_pictures_cannot_be_checked(folder: Path, bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no golden pictures"):
        check("http://127.0.0.1", "defects", folder, bundle.model_copy(update={"golden": []}))


def test_a_monitored_endpoint_is_asked_for_the_pictures_of_each_version(
    endpoint: Endpoint, folder: Path, bundle: Bundle, tmp_path: Path
) -> None:
    other = make_bundle(tmp_path / "other", seed=1)
    endpoint.add(tmp_path / "other", other)
    endpoint.lost = 2
    counts = monitor(endpoint.url, "defects", [(folder, bundle), (tmp_path / "other", other)], for_s=0)
    # Both versions' pictures once, and every answer from the one that serves.
    assert counts == {bundle.version: 4, other.version: 0}


def test_once_one_was_answered_every_failure_counts(endpoint: Endpoint, folder: Path, bundle: Bundle) -> None:
    answer = endpoint.answer

    def lose_the_route(host: str, path: str, picture: bytes) -> tuple[int, dict[str, Any]]:
        endpoint.lost = len(endpoint.asked)
        return answer(host, path, picture)

    endpoint.answer = lose_the_route  # type: ignore[method-assign]
    with pytest.raises(ServingError, match="HTTP 404"):
        monitor(endpoint.url, "defects", [(folder, bundle)], for_s=0)
    assert len(endpoint.asked) == 1


def test_an_answer_of_a_version_that_should_not_serve_ends_the_monitoring(
    endpoint: Endpoint, folder: Path, bundle: Bundle
) -> None:
    endpoint.live["defects"] = "v20200101-000000-former"
    with pytest.raises(ServingError, match="model_version v20200101-000000-former"):
        monitor(endpoint.url, "defects", [(folder, bundle)], for_s=0, settle_s=0)
