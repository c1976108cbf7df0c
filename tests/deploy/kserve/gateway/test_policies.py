"""What NetworkPolicies let through, as Kubernetes defines it."""

from typing import Any

import pytest

from defectline.components.deploy.kserve.gateway.policies import (
    NAME,
    admit,
    namespaces_of_gateways,
    selecting,
    selects,
)

ENVOY = "gateway.envoyproxy.io/gatewayclass-controller"
PODS = {"defectline.dev/model-version": "v1"}


def policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"], **spec}}


@pytest.mark.parametrize(
    ("rule", "admitted"),
    [
        ({}, True),
        ({"from": []}, True),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}, True),
        ({"from": [{"namespaceSelector": {}}]}, True),
        ({"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "envoy"}}}]}, True),
        ({"from": [{"podSelector": {}}]}, False),
        ({"from": [{"namespaceSelector": {"matchLabels": {NAME: "gw"}}}]}, True),
        ({"from": [{"namespaceSelector": {"matchLabels": {NAME: "line"}}}]}, False),
        ({"ports": [{"port": 9000}]}, False),
        ({"ports": [{"port": 8000, "endPort": 8100}]}, True),
        ({"ports": [{"protocol": "UDP", "port": 8080}]}, False),
        ({"ports": [{"protocol": "TCP"}]}, True),
        ({"ports": [{"port": "http"}]}, True),
    ],
)
def test_what_a_rule_lets_in(rule: dict[str, Any], admitted: bool) -> None:
    assert admit([policy(ingress=[rule])], {NAME: "gw"}, same=False) == admitted
    # Policies add up.
    assert admit([policy(), policy(ingress=[rule])], {NAME: "gw"}, same=False) == admitted


def test_pods_of_the_same_namespace() -> None:
    inside = policy(ingress=[{"from": [{"podSelector": {}}]}])
    assert admit([inside], {NAME: "vision"}, same=True)
    assert not admit([policy()], {NAME: "vision"}, same=True)


def test_which_policies_are_about_what_reaches_the_pods() -> None:
    of_others = policy(podSelector={"matchLabels": {"app": "another"}})
    outgoing = policy(policyTypes=["Egress"])
    without_types = {"metadata": {"name": "b"}, "spec": {"podSelector": {}}}
    assert selecting([of_others, outgoing, without_types, policy()], PODS) == [without_types, policy()]


@pytest.mark.parametrize(
    ("operator", "values", "label", "taken"),
    [
        ("Exists", [], "a", True),
        ("Exists", [], None, False),
        ("DoesNotExist", [], None, True),
        ("In", ["a", "b"], "a", True),
        ("In", ["b"], "a", False),
        ("In", ["b"], None, False),
        ("NotIn", ["b"], "a", True),
        ("NotIn", ["b"], None, True),
        ("NotIn", ["b"], "b", False),
    ],
)
def test_label_selectors(operator: str, values: list[str], label: str | None, taken: bool) -> None:
    selector = {"matchExpressions": [{"key": "k", "operator": operator, "values": values}]}
    assert selects(selector, {"k": label} if label else {}) == taken
    assert selects(None, {})
    assert not selects({**selector, "matchLabels": {"other": "x"}}, {"k": "a"})


@pytest.mark.parametrize(
    ("controller", "namespaces"),
    [
        (ENVOY, ["envoy-gateway-system", "kserve"]),
        ("istio.io/gateway-controller", ["istio-ingress", "istio-system", "kserve"]),
        ("example.com/another", []),
    ],
)
def test_where_the_pods_of_a_gateway_may_run(controller: str, namespaces: list[str]) -> None:
    parents = [{"controllerName": controller, "parentRef": {"name": "gw", "namespace": "kserve"}}]
    route = {"metadata": {"namespace": "vision"}, "status": {"parents": parents}}
    assert namespaces_of_gateways(route) == namespaces
    assert namespaces_of_gateways({"metadata": {}}) == []
