"""What clients meet who come through the gateway, though the version answers within the cluster."""

import copy
import socket
import threading
from typing import Any

import pytest
import yaml
from cluster.network import GATEWAY_PODS
from cluster.world import KNATIVE, NAME, NAMESPACE, SETTINGS, World, kserve
from paths import ROOT

from defectline.components.common.errors import ServingError
from defectline.components.common.ports import free_port
from defectline.components.common.records import read_outcome
from defectline.components.deploy import step
from defectline.components.deploy.kserve.gateway import check
from defectline.components.deploy.kserve.gateway.check import reachable

HOST = f"{NAME}-{NAMESPACE}.example"
OURS = list(yaml.safe_load_all((ROOT / "manifests/base/network-policies.yaml").read_text()))
NOT_SERVED = "Clients who come through the gateway are not served"
reach = reachable
"""As it is, without the names of a stand-in."""


def without_the_gateway() -> list[dict[str, Any]]:
    """Our policies, in which nobody wrote where the pods of the gateway are."""
    policies = copy.deepcopy(OURS)
    for peer in policies[1]["spec"]["ingress"][0]["from"]:
        for one in peer["namespaceSelector"].get("matchExpressions", []):
            one["values"] = [name for name in one["values"] if name == "monitoring"] or ["another-gateway"]
    return policies


def put(world: World, policies: list[dict[str, Any]]) -> None:
    for policy in policies:
        world.api.put("networkpolicies", NAMESPACE, policy["metadata"]["name"], copy.deepcopy(policy))


def warned(world: World) -> str:
    return kserve(world.store, SETTINGS).deploy(world.folders[0], world.bundles[0], "run").warning


@pytest.mark.parametrize("asked", [True, False], ids=["url asked", "url not reached"])
@pytest.mark.parametrize("policies", [[], OURS], ids=["none", "ours"])
def test_a_gateway_that_leads_to_the_pods_is_not_warned_of(
    world: World, policies: list[dict[str, Any]], asked: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    put(world, policies)
    world.endpoint.names |= {HOST} if asked else set()
    assert warned(world) == ""
    world.ask(0)
    said = capsys.readouterr().out
    version = world.bundles[0].version
    assert (f"http://{HOST} leads to {version}" if asked else "cannot be reached from here") in said


@pytest.mark.parametrize(
    ("policies", "names", "fix"),
    [
        (OURS[:1], "default-deny", "to a NetworkPolicy with these pods."),
        (without_the_gateway(), "default-deny, served-ingress", "to `from` of served-ingress."),
    ],
    ids=["all closed", "another gateway"],
)
@pytest.mark.parametrize("asked", [True, False], ids=["url asked", "url not reached"])
def test_policies_that_refuse_the_gateway_are_named_and_the_version_stays(
    world: World, policies: list[dict[str, Any]], names: str, fix: str, asked: bool
) -> None:
    put(world, policies)
    world.endpoint.names |= {HOST} if asked else set()
    warning = warned(world)
    begins = f"{NOT_SERVED}: http://{HOST} gave HTTP 503" if asked else f"{NOT_SERVED}: NetworkPolicies"
    assert warning.replace("probably not", "not").startswith(begins)
    assert f"NetworkPolicies {names} of namespace vision select the pods" in warning
    assert f"(envoy-gateway-system or kserve). Add the one where its pods are {fix}" in warning
    with pytest.raises(ServingError, match="golden picture") as caught:
        world.ask(0)
    assert "HTTP 503" in caught.value.got, "the stand-in's gateway does not get through"
    assert kserve(world.store, SETTINGS).champion() == world.bundles[0].version
    assert world.unfinished() == []


def test_the_outcome_of_the_run_has_the_warning(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(world, OURS[:1])
    monkeypatch.setattr(step, "read_bundle", lambda folder: world.bundles[0])
    monkeypatch.setattr(step, "open_deployer", lambda *_: kserve(world.store, SETTINGS))
    step.deploy(world.folders[0], world.store.uri, SETTINGS.model_dump(mode="json"), "run-1", NAME)
    outcome = read_outcome(world.store, "run-1")
    assert outcome is not None
    assert (outcome.state, outcome.version) == ("deployed", world.bundles[0].version)
    told = "Clients who come through the gateway are probably not served"
    assert outcome.reason.startswith(f"every rule of the gate passed. {told}")
    # As it is found, and in the sentence that the step ends with.
    assert capsys.readouterr().out.count(told) == 2


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((503, {"error": "no healthy upstream"}), "No NetworkPolicy keeps it from the pods"),
        ((404, {"error": "no route"}), "look at its route (`kubectl get networkpolicy,httproute -n vision`)"),
        ((500, {"error": "internal error"}), "gave HTTP 500"),
    ],
)
def test_a_gateway_that_fails_by_itself_is_warned_of(
    world: World, answer: tuple[int, dict[str, Any]], text: str
) -> None:
    world.endpoint.names.add(HOST)
    world.endpoint.of_gateway = lambda model: answer
    warning = warned(world)
    assert warning.startswith(NOT_SERVED)
    assert text in warning


def test_policies_that_seem_to_let_the_gateway_in_are_named_where_it_gets_no_answer(world: World) -> None:
    put(world, OURS)
    world.endpoint.names.add(HOST)
    world.endpoint.of_gateway = lambda model: (503, {"error": "upstream connect error"})
    assert "NetworkPolicies default-deny, served-ingress select the pods: do they admit" in warned(world)


@pytest.mark.parametrize("status", [302, 401, 403])
def test_a_gateway_that_asks_for_a_login_is_not_warned_of(
    world: World, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    world.endpoint.names.add(HOST)
    world.endpoint.of_gateway = lambda model: (status, {"error": "who are you?"})
    assert warned(world) == ""
    assert "is not known without a login" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"action": "ALLOW"}, True),
        ({"selector": {"matchLabels": {"app": "another"}}}, False),
        ({"targetRefs": [{"kind": "Gateway", "name": "gw"}]}, False),
    ],
)
def test_an_authorization_policy_that_refuses_the_gateway_is_named(
    world: World, spec: dict[str, Any], named: bool
) -> None:
    world.api.put("authorizationpolicies", NAMESPACE, "lines-only", {"spec": spec})
    world.endpoint.names.add(HOST)
    world.endpoint.of_gateway = lambda model: (403, {"error": "RBAC: access denied"})
    warning = warned(world)
    assert (warning != "") == named
    assert ("AuthorizationPolicies lines-only of namespace vision hold for the pods" in warning) == named


def test_a_gateway_that_is_slow_to_learn_of_the_pods_is_waited_for(world: World) -> None:
    answers = iter([(503, {"error": "no healthy upstream"})] * 2)
    world.endpoint.names.add(HOST)
    world.endpoint.of_gateway = lambda model: next(answers, None)
    deployer = kserve(world.store, SETTINGS)
    deployer.gateway_s = 60
    assert deployer.deploy(world.folders[0], world.bundles[0], "run").warning == ""


@pytest.mark.parametrize("knative", [True, False], ids=["Knative", "url"])
def test_what_was_checked_through_the_gateway_is_not_asked_again(world: World, knative: bool) -> None:
    by_url = SETTINGS.model_copy(update={"url": world.endpoint.url})
    settings = KNATIVE if knative else by_url
    done = kserve(world.store, settings).deploy(world.folders[0], world.bundles[0], "run")
    assert done.warning == ""
    assert not any("networkpolicies" in line for line in world.api.requests)


@pytest.mark.parametrize(
    "denied", [{("list", "networkpolicies")}, {("get", "httproutes")}], ids=["policies", "routes"]
)
def test_without_the_rights_nothing_is_guessed(world: World, denied: set[tuple[str, str]]) -> None:
    put(world, OURS[:1])
    world.api.denied = denied
    assert warned(world) == ""
    world.endpoint.names.add(HOST)
    warning = kserve(world.store, SETTINGS).deploy(world.folders[1], world.bundles[1], "run").warning
    assert warning.startswith(f"{NOT_SERVED}: http://{HOST} gave HTTP 503")


def test_labels_of_the_gateways_namespace_count_where_they_may_be_read(world: World) -> None:
    put(world, without_the_gateway())
    labels = {"metadata": {"labels": {"defectline.dev/line": "true"}}}
    world.api.put("namespaces", "", GATEWAY_PODS, labels)
    assert warned(world) == ""
    world.ask(0)


def test_an_api_server_that_is_away_by_then_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*_: object) -> None:
        raise ServingError("The cluster cannot be reached.", got="silence", expected="", fix="")

    monkeypatch.setattr(check, "_policies", away)
    assert warned(world) == ""
    assert "was not looked at: The cluster cannot be reached. silence" in capsys.readouterr().out


def test_what_listens_is_reached_and_what_does_not_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert reach("127.0.0.1", server.getsockname()[1], 60)
    assert not reach("127.0.0.1", free_port(), 0.1)
    found = threading.Event()

    def slow(*_: object, **__: object) -> None:
        found.wait(60)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    assert not reach("defects-vision.example", 80, 0.05)
    found.set()
