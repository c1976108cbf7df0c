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
from defectline.components.common.images.masks import encode_mask
from defectline.components.deploy.golden import Address, Side, check, monitor, wait_until_ready


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
    wait_until_ready(Address(f"{endpoint.url}/"), "defects", 5)
    check(Address(endpoint.url, {"Host": "defects.factory.example"}), "defects", folder, bundle)
    assert endpoint.hosts[-1] == "defects.factory.example"


def test_a_score_within_the_tolerance_is_accepted(endpoint: Endpoint, folder: Path, bundle: Bundle) -> None:
    one = bundle.model_copy(update={"golden": [bundle.golden[1]]})
    for score in (bundle.golden[1].score - 0.01, bundle.golden[1].score + 0.01):
        endpoint.changes = {"score": score}
        check(Address(endpoint.url), "defects", folder, one)


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
        check(Address(endpoint.url), "defects", folder, bundle)
    assert picture in caught.value.what
    assert got in caught.value.got
    assert expected in caught.value.expected


def test_a_route_that_leads_nowhere_yet_is_asked_again(
    endpoint: Endpoint, folder: Path, bundle: Bundle
) -> None:
    endpoint.lost = 3
    check(Address(endpoint.url), "defects", folder, bundle)
    assert endpoint.lost == 0


def test_another_version_is_asked_again_and_then_refused(
    endpoint: Endpoint, folder: Path, bundle: Bundle
) -> None:
    endpoint.live["defects"] = "v20200101-000000-former"
    with pytest.raises(ServingError, match="model_version v20200101-000000-former"):
        check(Address(endpoint.url), "defects", folder, bundle, settle_s=0.6)
    assert len(endpoint.hosts) >= 2


def test_a_wrong_answer_is_not_asked_again(endpoint: Endpoint, folder: Path, bundle: Bundle) -> None:
    endpoint.changes = {"verdict": "?"}
    with pytest.raises(ServingError):
        check(Address(endpoint.url), "defects", folder, bundle, settle_s=60)
    assert len(endpoint.hosts) == 1


def test_a_model_that_never_becomes_ready(endpoint: Endpoint) -> None:
    with pytest.raises(ServingError, match=r"models/others/ready does not become ready(.|\n)*HTTP 404"):
        wait_until_ready(Address(endpoint.url), "others", 0.3)


def test_an_address_that_does_not_answer(folder: Path, bundle: Bundle) -> None:
    with pytest.raises(ServingError, match="does not answer"):
        check(Address(f"http://127.0.0.1:{free_port()}"), "defects", folder, bundle, settle_s=0.3)


def test_what_is_not_an_address(folder: Path, bundle: Bundle) -> None:
    with pytest.raises(ServingError, match="cannot be asked"):
        check(Address("defects.example.com"), "defects", folder, bundle)


def test_a_bundle_without_golden_pictures_cannot_be_checked(folder: Path, bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no golden pictures"):
        check(Address("http://127.0.0.1"), "defects", folder, bundle.model_copy(update={"golden": []}))


# Two versions at once.


@pytest.fixture
def sides(endpoint: Endpoint, folder: Path, bundle: Bundle, tmp_path: Path) -> list[Side]:
    """The version that serves, and a new one beside it, which no request through the route reaches."""
    new = make_bundle(tmp_path / "new", seed=1)
    endpoint.add(tmp_path / "new", new)
    endpoint.by_host = {"stable.svc": bundle.version, "canary.svc": new.version}
    by_host = [Address(endpoint.url, {"Host": host}) for host in endpoint.by_host]
    return [Side(folder, bundle, by_host[0]), Side(tmp_path / "new", new, by_host[1])]


def versions(sides: list[Side]) -> list[str]:
    return [side.bundle.version for side in sides]


def test_each_version_is_asked_for_its_pictures_where_it_alone_answers(
    endpoint: Endpoint, sides: list[Side]
) -> None:
    endpoint.lost = 2
    assert monitor("defects", sides, for_s=0) == dict.fromkeys(versions(sides), 2)
    assert set(endpoint.hosts) == {"stable.svc", "canary.svc"}


@pytest.mark.parametrize("share", [1, 50, 99])
def test_through_a_route_it_is_asked_until_both_versions_answered(
    endpoint: Endpoint, sides: list[Side], share: int
) -> None:
    """Where the share is so small that at first only one of them answers, too."""
    first, second = versions(sides)
    endpoint.shares["defects"] = second, share
    alone = [Side(side.folder, side.bundle) for side in sides]
    shared = Address(endpoint.url)
    least = min(share, 100 - share) / 100
    counts = monitor("defects", alone, 0, shared, least, pause_s=0)
    assert counts[first] > 0
    assert counts[second] > 0


@pytest.mark.parametrize("alone", [True, False])
def test_a_version_that_never_answers_is_not_called_right(
    endpoint: Endpoint, sides: list[Side], alone: bool
) -> None:
    """The route leads to one of them only, whether or not both answer at addresses of their own."""
    _, second = versions(sides)
    asked = [Side(side.folder, side.bundle, side.address if alone else None) for side in sides]
    with pytest.raises(ServingError, match=f"Version {second} of defects answered nothing"):
        monitor("defects", asked, 0, Address(endpoint.url), least_share=0.5, pause_s=0)


def test_a_version_without_pictures_answers_nothing(sides: list[Side]) -> None:
    new = sides[1].bundle.model_copy(update={"golden": []})
    with pytest.raises(ServingError, match=f"Version {new.version} of defects answered nothing"):
        monitor("defects", [sides[0], Side(sides[1].folder, new, sides[1].address)], 0)


@pytest.mark.parametrize("which", [0, 1])
def test_a_version_that_answers_only_errors_ends_the_monitoring(
    endpoint: Endpoint, sides: list[Side], which: int
) -> None:
    endpoint.broken.add(("defects", versions(sides)[which]))
    with pytest.raises(ServingError, match="HTTP 500"):
        monitor("defects", sides, for_s=0)


def test_once_one_was_answered_every_failure_counts(endpoint: Endpoint, sides: list[Side]) -> None:
    answer = endpoint.answer

    def lose_the_route(host: str, path: str, picture: bytes) -> tuple[int, dict[str, Any]]:
        endpoint.lost = len(endpoint.asked)
        return answer(host, path, picture)

    endpoint.answer = lose_the_route  # type: ignore[method-assign]
    with pytest.raises(ServingError, match="HTTP 404"):
        monitor("defects", sides, for_s=0)
    assert len(endpoint.asked) == 1


def test_an_answer_of_a_version_that_should_not_serve_ends_the_monitoring(
    endpoint: Endpoint, sides: list[Side]
) -> None:
    endpoint.live["defects"] = "v20200101-000000-former"
    with pytest.raises(ServingError, match="model_version v20200101-000000-former"):
        monitor("defects", sides, 0, Address(endpoint.url), settle_s=0)
