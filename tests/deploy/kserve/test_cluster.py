"""The Kubernetes API: permissions, conflicts, and what is said where it does not answer."""

from pathlib import Path

import pytest
import yaml
from cluster.api import ApiServer, Target
from cluster.world import KNATIVE, NAME, NAMESPACE, SECRET, SETTINGS, TWO, World, kserve
from paths import ROOT
from servers import free_port

from defectline.components.common.errors import ServingError
from defectline.components.deploy.kserve.cluster import SERVICES, Cluster, needed_permissions
from defectline.components.deploy.kserve.settings import KServeSettings

MANIFESTS = ROOT / "manifests/base"


LOOKED_AT = {
    ("get", "", "serviceaccounts"),
    ("get", "", "secrets"),
    ("list", "", "resourcequotas"),
    ("get", "", "namespaces"),
    ("list", "serving.kserve.io", "inferenceservices"),
    ("list", "serving.kserve.io", "servingruntimes"),
}
"""Permissions that are not needed to deploy."""
BY_GATEWAY = {
    ("list", "networking.k8s.io", "networkpolicies"),
    ("get", "gateway.networking.k8s.io", "httproutes"),
}
"""In Standard mode, where the URL cannot be asked and policies select the pods."""
OF_ISTIO = {("list", "security.istio.io", "authorizationpolicies")}
"""Only where a pod says that one of them refuses."""
CLEARED = {("delete", "serving.kserve.io", "servingruntimes")}
"""Only where a ServingRuntime is old enough."""
BEYOND = {("list", "serving.kserve.io", "clusterstoragecontainers")}
"""What no Role of a namespace can grant: it is looked at where an administrator deploys."""


@pytest.mark.parametrize("settings", [TWO, KNATIVE], ids=["Standard", "Knative"])
def test_the_role_grants_what_is_asked_for_and_it_is_enough(world: World, settings: KServeSettings) -> None:
    role = next(
        doc for doc in yaml.safe_load_all((MANIFESTS / "role.yaml").read_text()) if doc["kind"] == "Role"
    )
    granted = {
        (verb, group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    needed = {tuple(permission) for permission in needed_permissions(settings, inside=False)}
    assert needed | LOOKED_AT <= granted
    canary = TWO.model_copy(update={"strategy": "canary"})
    all_settings = (TWO, KNATIVE, canary)
    assert (
        granted
        == {one for each in all_settings for one in needed_permissions(each, inside=False)}
        | LOOKED_AT
        | CLEARED
        | BY_GATEWAY
        | OF_ISTIO
    )
    policies = (MANIFESTS / "network-policies.yaml").read_text()
    for policy in yaml.safe_load_all(policies):
        world.api.put("networkpolicies", NAMESPACE, policy["metadata"]["name"], policy)
    used = set()

    def watch(method: str, target: Target, query: dict[str, str]) -> None:
        verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(method)
        resource = f"{target.plural}/{target.part}" if target.part else target.plural
        used.add((verb or ("get" if target.name else "list"), target.group, resource))

    world.api.before = watch
    world.script(0, "crash")
    with pytest.raises(ServingError):
        world.deploy(0, settings)
    world.script(0, "healthy")
    world.deploy(0, settings)
    world.script(1, "crash", only=NAME)
    with pytest.raises(ServingError):
        world.deploy(1, settings)
    by_gateway = BY_GATEWAY if settings.deployment_mode == "Standard" else set()
    assert used == needed | LOOKED_AT | BEYOND | by_gateway


def test_kserve_is_not_installed(world: World) -> None:
    world.api.missing = {"serving.kserve.io"}
    with pytest.raises(ServingError, match="KServe is not installed"):
        world.deploy(0)


def test_a_status_that_changes_all_the_time_is_not_a_conflict(world: World) -> None:
    world.deploy(0)
    left = 3

    def churn(method: str, target: Target, query: dict[str, str]) -> None:
        nonlocal left
        if method == "PATCH" and left > 0:
            left -= 1
            world.api.put("inferenceservices", NAMESPACE, NAME, world.service(), spec_changed=False)

    world.api.before = churn
    world.deploy(1)
    assert left == 0
    world.ask(1)


def test_no_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ServingError, match="No cluster is configured"):
        Cluster(NAMESPACE)


@pytest.mark.parametrize(
    "text",
    [
        b"hello there",
        b"- a",
        b"apiVersion: v1\nkind: Pod",
        b"current-context: a\ncontexts: 3",
        b"current-context: a\ncontexts:\n- name: a\n  context: hello\nclusters: []\nusers: []",
        b"\xff\xfe\x00",
        b"a: [",
        b"",
    ],
)
def test_a_file_that_is_not_a_kubeconfig(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: bytes
) -> None:
    (tmp_path / "kubeconfig").write_bytes(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with pytest.raises(ServingError, match="No cluster is configured") as caught:
        Cluster(NAMESPACE)
    assert "Set KUBECONFIG" in caught.value.fix


def test_no_cluster_at_the_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = ApiServer()
    api.url = f"http://127.0.0.1:{free_port()}"
    api.write_kubeconfig(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ServingError, match="The cluster cannot be reached"):
        Cluster(NAMESPACE).get(SERVICES, NAME)


def test_credentials_that_the_cluster_does_not_know(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (tmp_path / "kubeconfig").read_text().replace("token-of", "expired-token-of")
    (tmp_path / "expired").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "expired"))
    with pytest.raises(ServingError, match="401 Unauthorized"):
        kserve(world.store, SETTINGS).champion()


def test_no_value_of_a_secret_is_kept(world: World) -> None:
    found = Cluster(NAMESPACE).secret(SECRET)
    assert found is not None
    assert set(found["data"].values()) == {""}


PROXY = {("get", "", "services/proxy"), ("create", "", "services/proxy")}


@pytest.mark.parametrize(
    ("settings", "inside", "by_proxy"),
    [
        (SETTINGS, False, True),
        (SETTINGS, True, False),
        (SETTINGS.model_copy(update={"url": "http://gateway"}), False, False),
        (TWO.model_copy(update={"url": "http://gateway", "strategy": "canary"}), False, True),
        (KNATIVE, False, False),
    ],
)
def test_the_right_to_ask_through_the_api_server_is_needed_where_nothing_else_leads_there(
    settings: KServeSettings, inside: bool, by_proxy: bool
) -> None:
    needed = {tuple(permission) for permission in needed_permissions(settings, inside)}
    assert (needed >= PROXY) == by_proxy


@pytest.mark.parametrize(("kubeconfig", "inside"), [(True, False), (False, True)])
def test_a_pod_with_a_kubeconfig_means_the_cluster_that_it_names(
    world: World, monkeypatch: pytest.MonkeyPatch, kubeconfig: bool, inside: bool
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    if kubeconfig:
        cluster = Cluster(NAMESPACE)
        assert cluster.inside == inside
        assert cluster.get(SERVICES, NAME) is None
    else:
        monkeypatch.delenv("KUBECONFIG")
        # This machine has no service account's token.
        with pytest.raises(ServingError, match="No cluster is configured"):
            Cluster(NAMESPACE)
