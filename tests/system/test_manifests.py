"""What `kubectl apply -k` would send to a cluster: valid by schema, and no more than it has to be."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cloudcoil.models.istio.security.v1 as istio
import cloudcoil.models.prometheus_operator.v1 as prometheus
import kubernetes_validate
import promql_parser
import pytest
import yaml
from cluster.admission import ENFORCE, refusal
from commands import call
from kubeflow_trainer_api.models import TrainerV1alpha1TrainingRuntime
from paths import ROOT
from pydantic import BaseModel, ValidationError

MANIFESTS = ROOT / "manifests"
KUBERNETES = ("1.32", "1.37")
"""The oldest that KServe 0.21 runs on, and the newest whose schemas are there."""
OVERLAYS = sorted(path.parent.name for path in (MANIFESTS / "overlays").glob("*/kustomization.yaml"))
CUSTOM: dict[tuple[str, str], type[BaseModel]] = {
    ("trainer.kubeflow.org/v1alpha1", "TrainingRuntime"): TrainerV1alpha1TrainingRuntime,
    ("monitoring.coreos.com/v1", "PodMonitor"): prometheus.PodMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): prometheus.PrometheusRule,
    ("security.istio.io/v1", "RequestAuthentication"): istio.RequestAuthentication,
    ("security.istio.io/v1", "AuthorizationPolicy"): istio.AuthorizationPolicy,
}
UNCHECKED = {
    ("route.openshift.io/v1", "Route"),
    ("gateway.networking.k8s.io/v1", "Gateway"),
    ("gateway.networking.k8s.io/v1", "GatewayClass"),
}
"""Kinds of which no package has the schema."""

Manifest = dict[str, Any]


@cache
def render(folder: str) -> tuple[Manifest, ...]:
    """What kustomize makes of a folder below manifests/."""
    kubectl = Path(sys.executable).with_name("kubectl")
    made = subprocess.run([kubectl, "kustomize", MANIFESTS / folder], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert not made.stderr, "kustomize warns"
    return tuple(yaml.safe_load_all(made.stdout))


def everything() -> Iterator[tuple[str, Manifest]]:
    """Every object of the base, of every overlay, and of the files that are applied by themselves."""
    for folder in ("base", "monitoring", "training", *(f"overlays/{name}" for name in OVERLAYS)):
        yield from ((folder, found) for found in render(folder))
    files = [path for name in ("secrets", "jobs", "policies") for path in MANIFESTS.glob(f"{name}/*.yaml")]
    for path in [*files, MANIFESTS / "overlays/kind/gateway.yaml"]:
        yield from ((path.name, found) for found in yaml.safe_load_all(path.read_text()))


def of_kind(folder: str, kind: str) -> dict[str, Manifest]:
    """The objects of one kind, by name."""
    return {one["metadata"]["name"]: one for one in render(folder) if one["kind"] == kind}


def check(manifest: Manifest) -> None:
    """Raise ValueError where a field is unknown, missing or of another type."""
    key = manifest["apiVersion"], manifest["kind"]
    if model := CUSTOM.get(key):
        try:
            if issubclass(model, TrainerV1alpha1TrainingRuntime):
                # Only so the models of Kubernetes' OpenAPI take amounts such as 2Gi.
                kept = model.from_dict(manifest).to_dict()
            else:
                valid = model.model_validate(manifest)
                kept = valid.model_dump(mode="json", by_alias=True, exclude_unset=True)
        except ValidationError as error:
            raise ValueError(str(error)) from error
        if unknown := list(lost(manifest, kept)):
            raise ValueError(f"unknown: {', '.join(unknown)}")
        return
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise ValueError(f"{version}: {error.message}") from error


def lost(given: Any, kept: Any, path: str = "") -> Iterator[str]:
    """What a model dropped because it does not know it."""
    if isinstance(given, dict):
        for key, value in given.items():
            if isinstance(kept, dict) and key in kept:
                yield from lost(value, kept[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(given, list):
        for index, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{path}[{index}]")


def test_every_object_is_valid() -> None:
    seen = set()
    for where, manifest in everything():
        key = manifest["apiVersion"], manifest["kind"]
        seen.add(key)
        if key in UNCHECKED:
            continue
        try:
            check(manifest)
        except ValueError as error:
            name = manifest["metadata"].get("name", "")
            pytest.fail(f"{where}: {manifest['kind']} {name}: {error}")
    assert seen >= CUSTOM.keys() | UNCHECKED
    assert OVERLAYS == ["gcs", "istio-auth", "kind", "kubeflow", "openshift", "s3", "s3-irsa"]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("NetworkPolicy", {"spec": {"podSelecter": {}}}),
        ("Role", {"rules": [{"apiGroups": [""], "verbs": "get"}]}),
        ("PodMonitor", {"spec": {"selector": {}, "podMetricsEndpoints": [{"portNumber": "http"}]}}),
        ("PodMonitor", {"spec": {"selector": {}, "podMetricsEndpoints": [{"prot": "http"}]}}),
        ("PrometheusRule", {"spec": {"groups": [{"name": "a", "rules": [{"alert": "A"}]}]}}),
        ("AuthorizationPolicy", {"spec": {"action": "REFUSE"}}),
    ],
)
def test_the_check_finds_what_is_wrong(kind: str, change: Manifest) -> None:
    monitoring = kind in ("PodMonitor", "PrometheusRule")
    folder = "monitoring" if monitoring else "overlays/istio-auth"
    good = of_kind(folder, kind)["defectline-deployer" if kind == "Role" else name_of(kind)]
    check(good)
    with pytest.raises(ValueError, match=r"\w"):
        check({**good, **change})


def name_of(kind: str) -> str:
    return "default-deny" if kind == "NetworkPolicy" else "defectline"


def test_components_are_all_rendered_somewhere() -> None:
    used = {
        Path(component).name
        for name in OVERLAYS
        for component in yaml.safe_load((MANIFESTS / f"overlays/{name}/kustomization.yaml").read_text())[
            "components"
        ]
    }
    there = {path.name for path in (MANIFESTS / "components").iterdir()}
    used |= {"monitoring"}  # ../monitoring
    assert there - used == {"knative"}, "a component that nothing has is not tested"


BUILT_IN = {"v1", "apps/v1", "rbac.authorization.k8s.io/v1", "networking.k8s.io/v1"}
ADDED = {"openshift": {"route.openshift.io/v1"}, "istio-auth": {"security.istio.io/v1"}}
"""API groups that what an overlay is for brings with it."""


def test_a_cluster_without_any_operator_takes_the_overlays() -> None:
    for name in OVERLAYS:
        versions = {one["apiVersion"] for one in render(f"overlays/{name}")}
        assert versions - BUILT_IN == ADDED.get(name, set()), name


def test_monitoring_is_applied_beside_an_overlay_or_named_in_one(tmp_path: Path) -> None:
    alone = render("monitoring")
    assert {one["kind"] for one in alone} == {"PodMonitor", "PrometheusRule", "ConfigMap"}
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    own = tmp_path / "manifests/own/kustomization.yaml"
    own.parent.mkdir()
    own.write_text(
        "resources: [../overlays/gcs]\ncomponents: [../components/monitoring]\nnamespace: vision\n"
    )
    kubectl = Path(sys.executable).with_name("kubectl")
    made = subprocess.run([kubectl, "kustomize", own.parent], capture_output=True, text=True, check=True)
    objects = list(yaml.safe_load_all(made.stdout))
    assert {one["kind"] for one in objects} > {one["kind"] for one in alone}
    assert {one["metadata"].get("namespace", one["metadata"]["name"]) for one in objects} == {"vision"}


OWN = re.compile(r"```yaml\n# (manifests/overlays/([a-z]+)/kustomization\.yaml)\n.*?```", re.DOTALL)


def test_the_overlays_in_the_docs_render(tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    made = {}
    for block in OWN.finditer((ROOT / "docs/cluster.md").read_text()):
        path = tmp_path / block[1]
        path.parent.mkdir()
        path.write_text(block[0].removeprefix("```yaml\n").removesuffix("```"))
        kubectl = Path(sys.executable).with_name("kubectl")
        done = subprocess.run([kubectl, "kustomize", path.parent], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        made[block[2]] = list(yaml.safe_load_all(done.stdout))
    assert made.keys() == {"plant", "minio"}
    for manifest in made["minio"]:
        check(manifest)
    given = {one["metadata"]["name"]: one for one in render("overlays/s3") if one["kind"] == "NetworkPolicy"}
    patched = {one["metadata"]["name"]: one for one in made["minio"] if one["kind"] == "NetworkPolicy"}
    ways = [policies["served-store"]["spec"].pop("egress") for policies in (given, patched)]
    assert [rule["ports"] for (rule,) in ways] == [
        [{"protocol": "TCP", "port": 443}],
        [{"protocol": "TCP", "port": 9000}],
    ]
    assert len({json.dumps(rule["to"]) for (rule,) in ways}) == 1
    assert given == patched


def test_kserves_container_meets_the_standard_of_the_namespace() -> None:
    """A patch of an object that KServe's installation made; by what is in it, and nothing else."""
    patch = yaml.safe_load((MANIFESTS / "cluster/storage-container.yaml").read_text())
    assert (patch["kind"], patch["metadata"]) == ("ClusterStorageContainer", {"name": "default"})
    assert patch["spec"].keys() == {"container"}
    container = patch["spec"]["container"]
    assert container.keys() == {"name", "securityContext"}
    context = container["securityContext"]
    assert "runAsUser" not in context
    pod = {"containers": [{**container, "image": "kserve/storage-initializer:v0.21.0"}]}
    check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": pod})
    assert refusal({ENFORCE: "restricted"}, "a", pod) == ""
    docs = (ROOT / "docs/cluster.md").read_text()
    command = " patch clusterstoragecontainer default --type merge --patch-file "
    assert f"{command}manifests/cluster/storage-container.yaml" in docs
    script = (MANIFESTS / "overlays/kind/up.sh").read_text()
    assert f"{command}../../cluster/storage-container.yaml" in script


def test_the_docs_make_the_namespace_before_the_diff_that_needs_it() -> None:
    docs = (ROOT / "docs/cluster.md").read_text()
    steps = ["kubectl apply -f manifests/base/namespace.yaml", "kubectl diff -k", "kubectl apply -k"]
    places = [docs.index(step) for step in steps]
    assert places == sorted(places)
    [namespace] = yaml.safe_load_all((MANIFESTS / "base/namespace.yaml").read_text())
    [rendered] = of_kind("overlays/s3", "Namespace").values()
    assert namespace["metadata"]["name"] == rendered["metadata"]["name"]


def test_knative_goes_on_top_of_an_overlay(tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    own = tmp_path / "manifests/own/kustomization.yaml"
    own.parent.mkdir()
    own.write_text("resources: [../overlays/s3]\ncomponents: [../components/knative]\nnamespace: vision\n")
    kubectl = Path(sys.executable).with_name("kubectl")
    made = subprocess.run([kubectl, "kustomize", own.parent], capture_output=True, text=True, check=True)
    objects = list(yaml.safe_load_all(made.stdout))
    for one in objects:
        check(one)
    assert {one["metadata"].get("namespace", one["metadata"]["name"]) for one in objects} == {"vision"}
    policy = next(one for one in objects if one["metadata"]["name"] == "served-ingress")
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} >= {8080, 8012}


def test_rights_are_few() -> None:
    roles = [one for _, one in everything() if one["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        assert role["kind"] == "Role", "a cluster-wide right"
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            if "secrets" in rule["resources"]:
                assert rule["resourceNames"] == ["defectline-models", "defectline-review"]
                assert rule["verbs"] == ["get"]


def test_the_bindings_name_accounts_that_steps_run_as() -> None:
    for name in OVERLAYS:
        [subject] = of_kind(f"overlays/{name}", "RoleBinding")["defectline-deployer"]["subjects"]
        expected = ("default-editor", "vision") if name == "kubeflow" else ("pipeline-runner", "kubeflow")
        assert (subject["name"], subject["namespace"]) == expected


def test_pods_are_restricted_bounded_and_pinned() -> None:
    pods = [one["spec"]["template"]["spec"] for _, one in everything() if one["kind"] == "Deployment"]
    assert pods
    for pod in pods:
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in context
            for amounts in ("requests", "limits"):
                assert container["resources"][amounts].keys() == {"cpu", "memory"}
            assert re.fullmatch(r"[\w./-]+(:(?!latest)[\w.-]+|@sha256:[0-9a-f]{64})", container["image"])


def test_namespaces_of_ours_refuse_pods_that_are_not_restricted() -> None:
    for _, one in everything():
        if one["kind"] == "Namespace":
            labels = one["metadata"]["labels"]
            assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
            assert labels["pod-security.kubernetes.io/enforce-version"] == f"v{KUBERNETES[0]}"


def test_a_profile_is_neither_created_nor_closed() -> None:
    assert not of_kind("overlays/kubeflow", "Namespace")
    assert "default-deny" not in of_kind("overlays/kubeflow", "NetworkPolicy")
    assert "default-deny" in of_kind("overlays/s3", "NetworkPolicy")


def test_no_secret_has_a_value() -> None:
    for _, one in everything():
        if one["kind"] == "Secret":
            assert not one.get("data")
            assert set(one["stringData"].values()) == {""}
    rendered = [one for name in OVERLAYS for one in render(f"overlays/{name}")]
    assert not [one for one in rendered if one["kind"] == "Secret"], "it would overwrite the real one"


def test_openshift_chooses_the_user() -> None:
    assert "runAsUser" not in json.dumps(render("overlays/openshift"))


def test_served_pods_are_the_ones_that_policies_and_monitor_select() -> None:
    from defectline.components.deploy.kserve.manifests import (
        HTTP_PORT,
        VERSION_LABEL,
        inference_service,
        serving_runtime,
    )
    from defectline.components.deploy.kserve.settings import KServeSettings

    settings = KServeSettings(namespace="defectline", image="r.example/serve:1")
    labels = inference_service("defects", "v1", "s3://b/v1/", settings)["spec"]["predictor"]["labels"]
    [container] = serving_runtime(settings)["spec"]["containers"]
    assert VERSION_LABEL in labels
    assert container["ports"][0]["containerPort"] == HTTP_PORT
    served = {"matchExpressions": [{"key": VERSION_LABEL, "operator": "Exists"}]}
    for name in OVERLAYS:
        policies = of_kind(f"overlays/{name}", "NetworkPolicy")
        for policy in ("served-ingress", "served-dns", "served-store"):
            assert policies[policy]["spec"]["podSelector"] == served
        for rule in policies["served-ingress"]["spec"]["ingress"]:
            assert HTTP_PORT in [port["port"] for port in rule["ports"]]
            assert all(peer.keys() & {"namespaceSelector", "podSelector"} for peer in rule["from"])
    [monitor] = of_kind("monitoring", "PodMonitor").values()
    assert monitor["spec"]["selector"] == served
    assert monitor["spec"]["podMetricsEndpoints"][0]["portNumber"] == HTTP_PORT


def test_the_deploy_step_may_ask_the_served_pods() -> None:
    """Its pods carry a label that the policy lets in."""
    source = (ROOT / "pipeline/targets.py").read_text()
    assert 'add_pod_label(task, "app.kubernetes.io/part-of", "defectline")' in source
    peers = of_kind("overlays/s3", "NetworkPolicy")["served-ingress"]["spec"]["ingress"][0]["from"]
    assert {"app.kubernetes.io/part-of": "defectline"} in [
        peer.get("podSelector", {}).get("matchLabels") for peer in peers
    ]


def test_with_tokens_nobody_goes_round_the_gateway() -> None:
    with_line = json.dumps(of_kind("overlays/s3", "NetworkPolicy"))
    without = json.dumps(of_kind("overlays/istio-auth", "NetworkPolicy"))
    assert "defectline.dev/line" in with_line
    assert "defectline.dev/line" not in without
    [policy] = of_kind("overlays/istio-auth", "AuthorizationPolicy").values()
    [authentication] = of_kind("overlays/istio-auth", "RequestAuthentication").values()
    [rule] = authentication["spec"]["jwtRules"]
    assert policy["spec"]["action"] == "DENY"
    [source] = policy["spec"]["rules"][0]["from"]
    assert source["source"]["notRequestPrincipals"] == [f"{rule['issuer']}/*"]
    assert policy["spec"]["targetRefs"] == authentication["spec"]["targetRefs"]


def expressions() -> dict[str, str]:
    """Every PromQL expression: of the alerts as it is, of the dashboard with its variables filled in."""
    [rules] = of_kind("monitoring", "PrometheusRule").values()
    found = {rule["alert"]: rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            filled = target["expr"].replace("$__rate_interval", "1m").replace("$namespace", "a")
            found[f"{panel['title']} {target['refId']}"] = filled.replace("$service", "b")
    return found


def dashboard() -> Manifest:
    config = of_kind("monitoring", "ConfigMap")["defectline-dashboard"]
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    return json.loads(config["data"]["defectline.json"])


def selectors(expression: promql_parser.Expr) -> Iterator[promql_parser.VectorSelector]:
    """Every metric that an expression asks for."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for name in ("expr", "lhs", "rhs", "vector_selector", "vs", "param"):
        inner = getattr(expression, name, None)
        if isinstance(inner, promql_parser.Expr):
            yield from selectors(inner)
    for inner in getattr(expression, "args", None) or ():
        yield from selectors(inner)


def test_the_dashboard_is_one_that_grafana_draws() -> None:
    board = dashboard()
    assert board["uid"] == board["title"] == "defectline"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        columns, rows = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        covers = {(x, y) for x in columns for y in rows}
        assert not cells & covers, panel["title"]
        cells |= covers
        for target in panel.get("targets", ()):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [variable["name"] for variable in board["templating"]["list"]] == [
        "datasource",
        "namespace",
        "service",
    ]


def test_every_metric_and_label_is_one_that_the_endpoint_has() -> None:
    known = metrics()
    scraped = {"namespace", "inferenceservice", "pod", "le"}
    asked = set()
    for where, text in expressions().items():
        found = list(selectors(promql_parser.parse(text)))
        for selector in found:
            assert selector.name in known, f"{where}: {selector.name}"
            asked.add(selector.name)
            for matcher in selector.matchers.matchers:
                assert matcher.name in known[selector.name] | scraped, f"{where}: {matcher.name}"
        labels = scraped.union(*(known[selector.name] for selector in found))
        for names in re.findall(r"\b(?:by|on) \(([^)]+)\)", text):
            for label in names.split(","):
                assert label.strip() in labels, f"{where}: {label}"
    ours = {name for name in known if name.startswith("defectline_") and not name.endswith("_created")}
    parts = {name for name in ours if name.endswith(("_sum", "_count", "_bucket"))}
    assert ours - parts - asked == set(), "a metric that nobody looks at"


def metrics() -> dict[str, set[str]]:
    """Labels by the name of a series, as the endpoint exposes them."""
    from defectline.components.serve.monitoring import drift, review
    from defectline.components.serve.monitoring.metrics import Metrics

    made = Metrics()
    made.serves("plates", "v1", "INT8", ("dent", "scratch"))
    found: dict[str, set[str]] = {}
    instruments = [value for value in vars(made).values() if hasattr(value, "_labelnames")]
    instruments += [value for value in vars(review).values() if hasattr(value, "_labelnames")]
    for one in instruments:
        [family] = one.describe()
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        for suffix in suffixes:
            found[family.name + suffix] = set(one._labelnames)
    for family in (*drift.Drift(None).collect(), *made.registry.collect()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_the_alerts_name_a_part_of_the_docs() -> None:
    docs = (ROOT / "docs/cluster.md").read_text()
    [rules] = of_kind("monitoring", "PrometheusRule").values()
    for group in rules["spec"]["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert {"summary", "description"} == rule["annotations"].keys()
            assert f"`{rule['alert']}`" in docs, rule["alert"]


def test_the_script_for_a_cluster_in_docker() -> None:
    shellcheck = shutil.which("shellcheck")
    if not shellcheck:
        pytest.skip("shellcheck is not installed")
    script = MANIFESTS / "overlays/kind/up.sh"
    subprocess.run([shellcheck, script], check=True)
    wrong = subprocess.run([script, "sideways"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr) == (2, "up.sh: got sideways, expected up, load or down\n")
    missing = subprocess.run([script], capture_output=True, text=True, env={"PATH": "/bin:/usr/bin"})
    if not shutil.which("kind", path="/bin:/usr/bin"):
        assert missing.returncode == 2
        assert "not installed:" in missing.stderr


def test_a_rollback_in_a_pod_may_do_it_and_is_let_in() -> None:
    """Its account is the one of the Role, its labels those of the policy, and it runs where pods are
    restricted."""
    [job] = yaml.safe_load_all((MANIFESTS / "jobs/rollback.example.yaml").read_text())
    pod, where = job["spec"]["template"], job["metadata"]["namespace"]
    [subject] = of_kind("base", "RoleBinding")["defectline-deployer"]["subjects"]
    assert subject["name"] == pod["spec"]["serviceAccountName"]
    assert subject["namespace"] == where
    [ingress] = of_kind("base", "NetworkPolicy")["served-ingress"]["spec"]["ingress"]
    let_in = [
        peer
        for peer in ingress["from"]
        if peer["namespaceSelector"].get("matchLabels") == {"kubernetes.io/metadata.name": where}
        and peer["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ]
    assert let_in
    [container] = pod["spec"]["containers"]
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    # What it types is a command of ours, and the image that has what it needs.
    assert re.search(r"/defectline-deploy[:@]", container["image"])
    typed = [*container["command"][1:], *container["args"], "--help"]
    assert call(*typed).returncode == 0
