"""A service that is in the cluster: where it is asked, and what a change may meet."""

from types import SimpleNamespace
from typing import Any

import pytest
from cluster.world import NAME, NAMESPACE, SETTINGS, World

from defectline.components.common.errors import Conflict
from defectline.components.deploy.kserve.cluster import SERVICES, Cluster
from defectline.components.deploy.kserve.live import LiveService

STATUS = {"url": "http://defects.vision.example", "address": {"url": "http://defects.vision.svc"}}
OWN = "http://latest-defects.vision.example"
BY_GATEWAY = {"url": "http://gateway:8080"}
BY_HOST = {**BY_GATEWAY, "host_header": "defects.factory.example"}


@pytest.mark.parametrize(
    ("inside", "settings", "url", "asked", "headers"),
    [
        (False, {}, "", STATUS["url"], None),
        (True, {}, "", "http://defects.vision.svc", None),
        (True, {}, OWN, OWN, None),
        (False, BY_GATEWAY, "", "http://gateway:8080", {"Host": "defects.vision.example"}),
        (True, BY_HOST, "", "http://gateway:8080", {"Host": "defects.factory.example"}),
        (True, BY_HOST, OWN, "http://gateway:8080", {"Host": "latest-defects.vision.example"}),
    ],
)
def test_where_it_is_asked(
    inside: bool, settings: dict[str, Any], url: str, asked: str, headers: dict[str, str] | None
) -> None:
    cluster: Any = SimpleNamespace(inside=inside)
    current = {"metadata": {"name": NAME}, "status": STATUS}
    live = LiveService(cluster, current, SETTINGS.model_copy(update=settings), poll_s=0.01)
    assert live.address(url) == (asked, headers)


def test_a_change_is_refused_where_another_process_was_first(world: World) -> None:
    world.deploy(0)
    cluster = Cluster(NAMESPACE)
    services = [cluster.get(SERVICES, NAME), cluster.get(SERVICES, NAME)]
    first, second = (LiveService(cluster, found, SETTINGS, 0.01) for found in services if found)
    assert first.name == NAME
    first.change({"spec": {"predictor": {"minReplicas": 2}}})
    assert first.current["spec"]["predictor"]["minReplicas"] == 2
    with pytest.raises(Conflict, match="Another process is deploying defects"):
        second.change({"spec": {"predictor": {"minReplicas": 3}}})
    assert world.spec()["predictor"]["minReplicas"] == 2


def test_a_route_that_lags_behind_is_not_a_failure(world: World) -> None:
    world.deploy(0)
    world.script(1, "lost")
    world.deploy(1)
    assert world.endpoint.lost == 0
    world.ask(1)


def test_a_gateway_is_asked_by_its_host_header(world: World) -> None:
    settings = {"url": world.endpoint.url, "host_header": "defects.vision.example"}
    assert world.deploy(0, SETTINGS.model_copy(update=settings)) == f"at {world.endpoint.url}"
    # The candidate has a host of its own.
    netloc = world.endpoint.url.removeprefix("http://")
    assert set(world.endpoint.hosts) == {netloc, "defects.vision.example"}
    assert world.endpoint.hosts[-1] == "defects.vision.example"
