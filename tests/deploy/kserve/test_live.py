"""A service that is in the cluster: where it is asked, and what a change may meet."""

from types import SimpleNamespace
from typing import Any

import pytest
from cluster.api import Failure, Target
from cluster.world import NAME, NAMESPACE, SETTINGS, World

from defectline.components.common.errors import Conflict, ServingError
from defectline.components.deploy.golden import Address
from defectline.components.deploy.kserve import live
from defectline.components.deploy.kserve.cluster import SERVICES, Cluster
from defectline.components.deploy.kserve.live import LiveService

DOMAIN = "vision.svc.cluster.local"
STANDARD = {"url": "http://defects-vision.example", "address": {"url": f"http://defects-predictor.{DOMAIN}"}}
HEADLESS = {**STANDARD, "address": {"url": f"http://defects-predictor.{DOMAIN}:8080"}}
KNATIVE = {"url": "http://defects.vision.example", "address": {"url": f"http://defects.{DOMAIN}"}}
TAG = "http://latest-defects-predictor.vision.example"
BY_GATEWAY = {"url": "http://gateway:8080"}
BY_HOST = {**BY_GATEWAY, "host_header": "defects.factory.example"}
PROXY = "https://api/services/http:{}:80/proxy"


def live_service(inside: bool, status: dict[str, Any], settings: dict[str, Any]) -> LiveService:
    cluster: Any = SimpleNamespace(
        inside=inside, namespace=NAMESPACE, through_api=lambda service: Address(PROXY.format(service))
    )
    mode = "Knative" if status is KNATIVE else "Standard"
    metadata = {"name": NAME, "annotations": {"serving.kserve.io/deploymentMode": mode}}
    current = {"metadata": metadata, "spec": {"predictor": {}}, "status": status}
    return LiveService(cluster, current, SETTINGS.model_copy(update=settings), poll_s=0.01)


@pytest.mark.parametrize(
    ("inside", "status", "settings", "asked", "headers"),
    [
        (False, STANDARD, {}, PROXY.format("defects-predictor"), None),
        (True, STANDARD, {}, f"http://defects-predictor.{DOMAIN}", None),
        (True, HEADLESS, {}, f"http://defects-predictor.{DOMAIN}:8080", None),
        (False, STANDARD, BY_GATEWAY, "http://gateway:8080", {"Host": "defects-vision.example"}),
        (True, STANDARD, BY_HOST, "http://gateway:8080", {"Host": "defects.factory.example"}),
        (False, KNATIVE, {}, "http://defects.vision.example", None),
        (True, KNATIVE, {}, f"http://defects.{DOMAIN}", None),
    ],
)
def test_where_it_is_asked(
    inside: bool, status: dict, settings: dict, asked: str, headers: dict[str, str] | None
) -> None:
    assert live_service(inside, status, settings).address()[:2] == (asked, headers)


@pytest.mark.parametrize(
    ("inside", "status", "asked"),
    [
        (False, STANDARD, PROXY.format("defects-c1-predictor")),
        (True, STANDARD, f"http://defects-c1-predictor.{DOMAIN}"),
        (True, HEADLESS, f"http://defects-c1-predictor.{DOMAIN}:8080"),
    ],
)
def test_where_the_pods_of_a_canary_are_asked(inside: bool, status: dict, asked: str) -> None:
    for settings in ({}, BY_HOST):
        # No route leads to it alone, so no gateway does.
        found = live_service(inside, status, settings)
        assert found.address_of("defects-c1-predictor") == Address(asked)


@pytest.mark.parametrize(
    ("inside", "settings", "asked", "headers"),
    [
        (False, {}, TAG, None),
        # The outer name of a tag need not resolve within the cluster.
        (True, {}, "http://latest-defects-predictor.vision.svc", None),
        (True, BY_HOST, "http://gateway:8080", {"Host": "latest-defects-predictor.vision.example"}),
    ],
)
def test_where_a_revision_is_asked(
    inside: bool, settings: dict, asked: str, headers: dict[str, str] | None
) -> None:
    assert live_service(inside, KNATIVE, settings).address_of_tag("latest", TAG) == Address(asked, headers)


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
    world.endpoint.routes["defects.factory.example"] = NAME
    settings = {"url": world.endpoint.url, "host_header": "defects.factory.example"}
    assert world.deploy(0, SETTINGS.model_copy(update=settings)) == f"at {world.endpoint.url}"
    # Before there is a service, whether the gateway answers at all; the candidate has a host of its own.
    netloc = world.endpoint.url.removeprefix("http://")
    assert set(world.endpoint.hosts) == {
        netloc,
        "defects-candidate-vision.example",
        "defects.factory.example",
    }
    assert world.endpoint.hosts[-1] == "defects.factory.example"


# Before anything is changed: can the service be asked from here at all?


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "REACH_S", 0.2)


NOWHERE = {"url": "http://gateway.example"}
"""A name that does not resolve here."""
WRONG_HOST = {"host_header": "others.example"}


@pytest.mark.parametrize("settings", [NOWHERE, WRONG_HOST], ids=["no such name", "no such route"])
@pytest.mark.usefixtures("quick")
def test_an_address_that_does_not_lead_there_is_found_before_anything_changes(
    world: World, settings: dict[str, str]
) -> None:
    world.deploy(0)
    writes, asked = world.writes(), list(world.store.list())
    with pytest.raises(
        ServingError, match="defects cannot be asked from here, so nothing was changed"
    ) as caught:
        world.deploy(1, SETTINGS.model_copy(update={"url": world.endpoint.url, **settings}))
    assert "--url" in caught.value.fix
    assert "back" not in caught.value.what
    assert world.writes() == writes
    assert list(world.store.list()) == asked


@pytest.mark.usefixtures("quick")
def test_a_gateway_that_nothing_answers_at_is_found_before_the_first_deployment(world: World) -> None:
    with pytest.raises(ServingError, match="cannot be asked from here, so nothing was changed"):
        world.deploy(0, SETTINGS.model_copy(update=NOWHERE))
    assert world.writes() == []
    assert list(world.store.list()) == []


@pytest.mark.usefixtures("quick")
def test_a_version_whose_pods_are_gone_can_be_replaced(world: World) -> None:
    """That it does not answer says nothing about the address."""
    world.deploy(0)
    world.endpoint.live.clear()
    for plural, namespace, name in list(world.api.objects):
        if plural == "pods":
            world.api.remove(plural, namespace, name)
    world.deploy(1)
    world.ask(1)


@pytest.mark.usefixtures("quick")
def test_network_policies_that_keep_the_api_server_out_are_named(world: World) -> None:
    world.deploy(0)
    why = "error trying to reach service: dial tcp 10.0.0.7:8080: i/o timeout"

    def refuse(method: str, target: Target, query: dict[str, str]) -> None:
        if target.part == "proxy":
            raise Failure(503, "ServiceUnavailable", why)

    world.api.before = refuse
    with pytest.raises(ServingError, match="nothing was changed") as caught:
        world.deploy(1)
    assert "i/o timeout" in caught.value.got
    assert "network policies" in caught.value.fix
