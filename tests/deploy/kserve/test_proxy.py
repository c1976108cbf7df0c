"""The endpoint is asked through the API server, with this account's rights, which it does not get to see."""

import httpx
import pytest
from cluster.world import NAME, SETTINGS, World, kserve

from defectline.components.common.errors import ServingError
from defectline.components.deploy import golden
from defectline.components.deploy.kserve.cluster import Cluster
from defectline.components.deploy.kserve.proxy import ServiceProxy

SERVICE = f"{NAME}-predictor"


def ask(world: World, which: int, service: str = SERVICE) -> None:
    address = Cluster(SETTINGS.namespace).through_api(service)
    golden.check(address, NAME, world.folders[which], world.bundles[which], settle_s=0)


def test_the_pods_are_reached_where_no_name_resolves(world: World) -> None:
    world.deploy(0)
    with pytest.raises(golden.Unreachable):
        golden.wait_until_ready(golden.Address("http://defects-vision.example"), NAME, 0)
    world.endpoint.headers.clear()
    ask(world, 0)
    types = [golden.content_type for golden in world.bundles[0].golden]
    assert [headers["content-type"] for headers in world.endpoint.headers] == types
    assert not any("authorization" in headers for headers in world.endpoint.headers)


def test_deploying_without_the_right_is_refused_before_anything_is_done(world: World) -> None:
    world.api.denied = {("create", "services/proxy")}
    with pytest.raises(ServingError, match="may not deploy") as caught:
        world.deploy(0)
    assert "create services/proxy" in caught.value.got
    assert world.writes() == []


def test_the_right_is_named_where_the_api_server_refuses(world: World) -> None:
    world.deploy(0)
    world.api.denied = {("create", "services/proxy")}
    with pytest.raises(ServingError, match="refuses to ask the endpoint through the API server") as caught:
        ask(world, 0)
    assert 'cannot create resource "services/proxy"' in caught.value.got
    assert "--url" in caught.value.fix


def test_what_the_endpoint_itself_refuses_is_its_own_answer(world: World) -> None:
    world.deploy(0)
    world.endpoint.answer = lambda *asked: (403, {"error": "who are you?"})  # type: ignore[method-assign]
    with pytest.raises(ServingError, match="does not give the answer of the bundle") as caught:
        ask(world, 0)
    assert "who are you?" in caught.value.got


def test_a_service_without_pods_and_one_that_is_not_there(world: World) -> None:
    world.deploy(0)
    world.endpoint.live.clear()
    with pytest.raises(ServingError) as caught:
        ask(world, 0)
    assert "no endpoints available for service" in caught.value.got
    with pytest.raises(ServingError) as caught:
        ask(world, 0, "others-predictor")
    assert 'services \\"others-predictor\\" not found' in caught.value.got


def test_an_api_server_that_is_away_is_not_an_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(SETTINGS.namespace)
    address = cluster.through_api(SERVICE)
    transport = address.transport
    assert isinstance(transport, ServiceProxy)
    away = httpx.URL(address.url).copy_with(port=1)
    with pytest.raises(golden.Unreachable, match="does not answer"):
        golden.wait_until_ready(golden.Address(str(away), None, transport), NAME, 0)


def test_a_whole_deployment_and_the_way_back(world: World) -> None:
    for which in (0, 1):
        world.deploy(which)
    assert world.roll_back() == world.bundles[0].version
    # Not one request needed a name of the gateway.
    assert set(world.endpoint.hosts) == {
        f"{name}-predictor.vision.svc" for name in (NAME, f"{NAME}-candidate")
    }
    assert kserve(world.store, SETTINGS).champion() == world.bundles[0].version
