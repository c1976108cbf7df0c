"""Deploying on KServe through the real client and an S3 server, on a stand-in of a cluster."""

import _thread
import copy
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from bundles import make_bundle
from cluster.api import ApiServer, Failure, Target, crd_validators, merge, sdk_validators
from cluster.world import (
    IMPATIENT,
    KNATIVE,
    NAME,
    NAMESPACE,
    SETTINGS,
    TWO,
    World,
    make_world,  # noqa: F401
)
from paths import ROOT
from pydantic import ValidationError
from servers import free_port

from defectline.components.common import checksums
from defectline.components.common.errors import Conflict, ServingError, StoreError
from defectline.components.common.storage import open_storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.deploy.kserve.cluster import needed_rights
from defectline.components.deploy.kserve.manifests import (
    GROUP,
    KServeSettings,
    canary_of,
    candidate_service,
    inference_service,
    merge_patch,
    serving_runtime,
)
from defectline.components.deploy.kserve.rollout import deploy_kserve, find_champion, publish

MANIFESTS = ROOT / "manifests/base"
LOOKED_AT = {("get", "", "serviceaccounts"), ("get", "", "secrets"), ("list", "", "resourcequotas")}
"""Rights that are not needed to deploy."""


def unfinished(world: World) -> list[str]:
    return [found.key for found in world.store.list(f"serving/{NAME}/unfinished/")]


@pytest.mark.parametrize("settings", [SETTINGS, KNATIVE], ids=["Standard", "Knative"])
def test_a_first_version_then_a_second(world: World, settings: KServeSettings) -> None:
    assert find_champion(NAME, settings) is None
    for which in (0, 1):
        assert world.deploy(which, settings) == world.endpoint.url
        world.ask(which)
        version = world.bundles[which].version
        assert find_champion(NAME, settings) == version
        assert world.spec()["predictor"]["model"]["storageUri"] == world.store.url(
            f"serving/{NAME}/{version}/"
        )
    assert unfinished(world) == []


def test_what_is_published_is_what_the_predictor_reads_sealed(world: World, tmp_path: Path) -> None:
    world.deploy(0)
    version = world.bundles[0].version
    world.store.download_folder(f"serving/{NAME}/{version}", tmp_path / "pulled")
    checksums.verify(tmp_path / "pulled")
    names = {p.relative_to(tmp_path / "pulled").as_posix() for p in (tmp_path / "pulled").rglob("*.*")}
    assert names == {"bundle.json", "openvino/model.xml", "openvino/model.bin", "onnx/model.onnx"}


def test_a_second_deployment_of_the_same_version_changes_nothing(world: World) -> None:
    world.deploy(0)
    before = {found.key: found.version for found in world.store.list("serving/")}
    generation = world.service()["metadata"]["generation"]
    world.deploy(0)
    assert {found.key: found.version for found in world.store.list("serving/")} == before
    assert world.service()["metadata"]["generation"] == generation


def test_a_publication_that_was_cut_off_is_completed(world: World) -> None:
    prefix = f"serving/{NAME}/{world.bundles[0].version}"
    world.store.write(f"{prefix}/openvino/model.bin", b"half")
    world.deploy(0)
    assert (
        world.store.read(f"{prefix}/openvino/model.bin")
        == (world.folders[0] / "openvino/model.bin").read_bytes()
    )


class Recording(FolderStorage):
    """A folder that remembers the order of what was stored."""

    def __init__(self, root: Path):
        super().__init__(root)
        self.order: list[str] = []

    def upload(self, path: Path, key: str) -> None:
        self.order.append(Path(key).name)
        super().upload(path, key)

    def write(self, key: str, data: bytes) -> None:
        self.order.append(Path(key).name)
        super().write(key, data)


def test_the_checksums_are_published_last(tmp_path: Path) -> None:
    bundle, store = make_bundle(tmp_path / "bundle"), Recording(tmp_path / "store")
    publish(tmp_path / "bundle", bundle, store, NAME)
    assert store.order[:5] == ["bundle.json", "model.onnx", "model.bin", "model.xml", "SHA256SUMS"]
    # After what the predictor reads, the whole bundle.
    assert store.order[5:].count("SHA256SUMS") == 1
    assert store.order[-1] == "SHA256SUMS"
    assert "OK_mask.png" in store.order


def test_a_published_version_is_never_replaced(world: World) -> None:
    world.store.write(f"serving/{NAME}/{world.bundles[0].version}/SHA256SUMS", b"another\n")
    with pytest.raises(StoreError, match="holds another model under this version"):
        world.deploy(0)
    assert world.writes() == []


FAILURES = [
    (
        "crash",
        ["CrashLoopBackOff (exit code 1, Error)", "model.xml is not what was sealed", "Back-off restarting"],
    ),
    (
        "image",
        ["kserve-container ImagePullBackOff (manifest unknown)", "latest event: Failed: Failed to pull"],
    ),
    ("storage", ["storage-initializer failed (exit code 1, Error)", "NoCredentialsError", "BackOff"]),
    ("pending", ["after 3 s 1 new pods of 1, ", "FailedScheduling: 0/3 nodes are available"]),
    ("idle", ["after 3 s waiting for "]),
    ("spoiled", ["golden picture OK.png", "verdict NG"]),
]


@pytest.mark.parametrize(("script", "texts"), FAILURES, ids=[script for script, _ in FAILURES])
def test_a_failed_update_leaves_the_former_version_serving(
    world: World, script: str, texts: list[str]
) -> None:
    world.deploy(0)
    former = world.spec()
    world.script(1, script)
    with pytest.raises(ServingError) as caught:
        world.deploy(1, IMPATIENT)
    assert caught.value.what == (
        f"{world.bundles[1].version} was not deployed: {world.bundles[0].version} still serves."
    )
    for text in texts:
        assert text in caught.value.got
    assert world.spec() == former
    world.ask(0)
    assert find_champion(NAME, SETTINGS) == world.bundles[0].version
    assert unfinished(world) == []
    # Nothing of the failure stands in the way of a better try.
    world.script(1, "healthy")
    world.deploy(1)
    world.ask(1)


@pytest.mark.parametrize("script", ["crash", "storage", "pending", "spoiled"])
def test_a_failed_first_deployment_leaves_nothing_behind(world: World, script: str) -> None:
    world.script(0, script)
    with pytest.raises(ServingError, match="nothing serves, as before"):
        world.deploy(0, IMPATIENT)
    assert world.service() == {}
    assert world.endpoint.live == {}
    assert unfinished(world) == []


@pytest.mark.parametrize("script", ["crash", "spoiled"])
def test_knative_goes_back_too(world: World, script: str) -> None:
    world.deploy(0, KNATIVE)
    world.script(1, script)
    with pytest.raises(ServingError, match=f"{world.bundles[0].version} still serves"):
        world.deploy(1, KNATIVE)
    world.ask(0)


def test_a_service_stays_ready_while_its_new_pods_crash(world: World) -> None:
    """The trap that the waiting avoids, so that the tests above mean something."""
    world.deploy(0)
    world.script(1, "crash")
    seen = []

    def watch(method: str, target: Target, query: dict[str, str]) -> None:
        if (method, target.part) == ("GET", "log"):
            seen.append({c["type"]: c["status"] for c in world.service()["status"]["conditions"]}["Ready"])

    world.api.before = watch
    with pytest.raises(ServingError):
        world.deploy(1)
    assert set(seen) == {"True"}


def test_a_route_that_lags_behind_is_no_failure(world: World) -> None:
    world.deploy(0)
    world.script(1, "lost")
    world.deploy(1)
    assert world.endpoint.lost == 0
    world.ask(1)


def test_a_gateway_is_asked_by_its_host_header(world: World) -> None:
    settings = {"url": world.endpoint.url, "host_header": "defects.vision.example"}
    assert world.deploy(0, SETTINGS.model_copy(update=settings)) == world.endpoint.url
    # The candidate has a host of its own.
    netloc = world.endpoint.url.removeprefix("http://")
    assert set(world.endpoint.hosts) == {netloc, "defects.vision.example"}
    assert world.endpoint.hosts[-1] == "defects.vision.example"


def test_what_somebody_else_tuned_survives_update_and_failure(world: World) -> None:
    world.deploy(0)
    service = world.service()
    service["spec"]["predictor"]["nodeSelector"] = {"disk": "fast"}
    world.api.put("inferenceservices", NAMESPACE, NAME, service)
    world.script(1, "crash")
    with pytest.raises(ServingError):
        world.deploy(1)
    assert world.spec() == service["spec"]
    world.script(1, "healthy")
    world.deploy(1)
    assert world.spec()["predictor"]["nodeSelector"] == {"disk": "fast"}


def test_a_service_of_somebody_else_is_not_touched(world: World) -> None:
    service = inference_service(NAME, "v1", "s3://theirs/", SETTINGS)
    service["metadata"]["labels"] = {}
    world.api.put("inferenceservices", NAMESPACE, NAME, copy.deepcopy(service))
    with pytest.raises(ServingError, match="is not ours"):
        world.deploy(0)
    with pytest.raises(ServingError, match="is not ours"):
        find_champion(NAME, SETTINGS)
    assert world.writes() == []
    assert list(world.store.list()) == []


def test_every_missing_right_is_named_before_anything_is_done(world: World) -> None:
    world.api.denied = {("patch", "inferenceservices"), ("get", "pods/log"), ("list", "events")}
    with pytest.raises(ServingError) as caught:
        world.deploy(0)
    assert caught.value.got == (
        "not allowed: patch inferenceservices.serving.kserve.io, get pods/log, list events"
    )
    assert world.writes() == []
    assert list(world.store.list()) == []


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
    rights = {tuple(right) for right in needed_rights(settings)}
    assert rights | LOOKED_AT <= granted
    canary = TWO.model_copy(update={"strategy": "canary"})
    assert granted == {*needed_rights(TWO), *needed_rights(KNATIVE), *needed_rights(canary)} | LOOKED_AT
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
    assert used == rights | LOOKED_AT


def test_kserve_is_not_installed(world: World) -> None:
    world.api.missing = {"serving.kserve.io"}
    with pytest.raises(ServingError, match="KServe is not installed"):
        world.deploy(0)


def test_two_deployments_at_once_the_second_writer_loses(world: World) -> None:
    world.deploy(0)

    def interfere(method: str, target: Target, query: dict[str, str]) -> None:
        if method == "PATCH":
            world.api.before = lambda method, target, query: None
            theirs = world.service()
            theirs["spec"]["predictor"]["minReplicas"] = 7
            world.api.put("inferenceservices", NAMESPACE, NAME, theirs)

    world.api.before = interfere
    with pytest.raises(Conflict, match="Somebody else is deploying"):
        world.deploy(1)
    assert world.spec()["predictor"]["minReplicas"] == 7
    world.ask(0)


def test_a_status_that_changes_all_the_time_is_no_conflict(world: World) -> None:
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


def test_going_back_does_not_undo_what_somebody_else_wrote_meanwhile(world: World) -> None:
    world.deploy(0)
    world.script(1, "crash")

    def interfere(method: str, target: Target, query: dict[str, str]) -> None:
        if target.part == "log":
            world.api.before = lambda method, target, query: None
            theirs = world.service()
            theirs["spec"]["predictor"]["minReplicas"] = 7
            world.api.put("inferenceservices", NAMESPACE, NAME, theirs)

    world.api.before = interfere
    with pytest.raises(ServingError, match=r"going back failed as well\. Somebody else is deploying"):
        world.deploy(1)
    assert world.spec()["predictor"]["minReplicas"] == 7


def test_a_server_that_is_away_for_a_moment_does_not_end_the_rollout(world: World) -> None:
    world.deploy(0)
    left = 3

    def stumble(method: str, target: Target, query: dict[str, str]) -> None:
        nonlocal left
        if target.plural == "deployments" and left > 0:
            left -= 1
            raise Failure(503, "ServiceUnavailable", "apiserver is shutting down")

    world.api.before = stumble
    world.deploy(1)
    assert left == 0
    world.ask(1)


def test_a_write_whose_answer_got_lost_is_followed_up(world: World) -> None:
    world.deploy(0)
    world.script(1, "crash")
    former = world.spec()
    answer = world.api.answer

    def lose(method: str, raw: str, *rest: Any) -> tuple[int, Any, list[str]]:
        status, body, warnings = answer(method, raw, *rest)
        if method == "PATCH" and "dryRun" not in raw:
            world.api.answer = answer
            return 504, Failure(504, "Timeout", "request did not complete").body(), []
        return status, body, warnings

    world.api.answer = lose
    with pytest.raises(ServingError, match="still serves"):
        world.deploy(1)
    assert world.spec() == former


@pytest.mark.parametrize("with_champion", [True, False])
def test_the_next_deployment_makes_good_one_that_was_killed(world: World, with_champion: bool) -> None:
    """The former version is still known, though the spec in force is that of the killed rollout."""
    if with_champion:
        world.deploy(0)
    former = world.spec() if with_champion else None
    world.script(1, "pending", only=NAME)
    world.kill_deployment(1, lambda: world.service().get("spec") != former)
    assert unfinished(world)
    assert world.spec() != former
    with pytest.raises(ServingError, match="still serves" if with_champion else "nothing serves"):
        world.deploy(1, IMPATIENT)
    if former:
        assert world.spec() == former
        world.ask(0)
    else:
        assert world.service() == {}
    assert unfinished(world) == []


def test_an_interrupt_goes_back_first(world: World) -> None:
    world.deploy(0)
    former = world.spec()
    world.script(1, "pending")

    def interrupt(method: str, target: Target, query: dict[str, str]) -> None:
        if target.plural == "pods":
            world.api.before = lambda method, target, query: None
            _thread.interrupt_main()

    world.api.before = interrupt
    # A shell starts background jobs, and so this test, with interrupts ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            world.deploy(1)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert world.spec() == former
    world.ask(0)


def test_a_store_that_no_cluster_can_read_is_refused(world: World, tmp_path: Path) -> None:
    store = open_storage(str(tmp_path / "store"))
    with pytest.raises(ServingError, match="an s3:// or gs:// store"):
        deploy_kserve(world.folders[0], world.bundles[0], store, NAME, SETTINGS)
    assert world.writes() == []
    assert not (tmp_path / "store").exists()


def test_no_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ServingError, match="No cluster is configured"):
        find_champion(NAME, SETTINGS)


def test_no_cluster_at_the_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = ApiServer()
    api.url = f"http://127.0.0.1:{free_port()}"
    api.write_kubeconfig(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ServingError, match="The cluster cannot be reached"):
        find_champion(NAME, SETTINGS)


def test_credentials_that_the_cluster_does_not_know(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (tmp_path / "kubeconfig").read_text().replace("token-of", "expired-token-of")
    (tmp_path / "expired").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "expired"))
    with pytest.raises(ServingError, match="401 Unauthorized"):
        find_champion(NAME, SETTINGS)


def test_the_mode_of_a_service_cannot_change_and_nothing_is_written(world: World) -> None:
    world.deploy(0)
    former, writes = world.spec(), world.writes()
    with pytest.raises(ServingError, match="it runs in Standard mode, `deployment_mode` is Knative"):
        world.deploy(1, KNATIVE)
    assert world.writes() == writes
    assert world.spec() == former


AUTOSCALED = SETTINGS.model_copy(update={"cpu_target": 60, "max_replicas": 3, "gpu": 1})
ON_S3 = SETTINGS.model_copy(update={"review": "s3://plates/store", "review_secret": "review"})
ON_GCS = ON_S3.model_copy(update={"review": "gs://plates/store"})
SERVERLESS = KNATIVE.model_copy(update={"min_replicas": 0, "concurrency": 4})


@pytest.mark.parametrize("validators", [crd_validators, sdk_validators])
@pytest.mark.parametrize("settings", [SETTINGS, KNATIVE, TWO, AUTOSCALED, SERVERLESS, ON_S3, ON_GCS])
def test_manifests_are_valid_by_the_custom_resource_definitions(
    settings: KServeSettings, validators: Callable[[], dict]
) -> None:
    place = NAME, "v20261122-101530-3fa9c1", "s3://bucket/serving/defects/v1/", settings
    service = inference_service(*place)
    manifests = [service, candidate_service(*place), serving_runtime(settings)]
    manifests.append({**service, "spec": {**service["spec"], "canary": canary_of(service, 0)}})
    for manifest in manifests:
        validator = validators()[manifest["apiVersion"], manifest["kind"]]
        # Through JSON, as it is sent.
        assert [e.message for e in validator.iter_errors(json.loads(json.dumps(manifest)))] == []
    service["spec"]["predictor"]["minReplica"] = 1
    assert not validators()[service["apiVersion"], service["kind"]].is_valid(service)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (SETTINGS, {"minReplicas": 1, "maxReplicas": 1}),
        (AUTOSCALED, {"scaleMetric": "cpu", "scaleTarget": 60, "maxReplicas": 3}),
        (SERVERLESS, {"scaleMetric": "concurrency", "scaleTarget": 4, "minReplicas": 0}),
    ],
)
def test_autoscaling(settings: KServeSettings, wanted: dict[str, Any]) -> None:
    service = inference_service(NAME, "v1", "s3://b/", settings)
    assert wanted.items() <= service["spec"]["predictor"].items()
    classes = {"Standard": "hpa" if settings.cpu_target else "none"}
    got = service["metadata"]["annotations"].get(f"{GROUP}/autoscalerClass")
    assert got == classes.get(settings.deployment_mode)


def test_with_a_gpu_the_network_runs_in_onnx_runtime() -> None:
    (container,) = serving_runtime(AUTOSCALED)["spec"]["containers"]
    assert "--engine=onnxruntime" in container["args"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    (container,) = serving_runtime(SETTINGS)["spec"]["containers"]
    assert not any(argument.startswith("--engine") for argument in container["args"])


def test_a_runtime_changes_its_name_with_its_spec() -> None:
    name = serving_runtime(SETTINGS)["metadata"]["name"]
    assert serving_runtime(SETTINGS)["metadata"]["name"] == name
    others = [{"image": "registry.example/serve:2"}, {"memory": "2Gi"}, {"gpu": 1}]
    names = {serving_runtime(SETTINGS.model_copy(update=other))["metadata"]["name"] for other in others}
    assert len(names | {name}) == 4


@pytest.mark.parametrize("current", [{}, {"a": 1}, {"a": {"b": 1, "c": [1]}, "d": 0}, {"a": {"b": {"c": 1}}}])
@pytest.mark.parametrize("wanted", [{}, {"a": 2}, {"a": {"b": 1}, "e": {"f": 1}}, {"a": {"b": 2, "c": [2]}}])
def test_a_merge_patch_leads_from_one_spec_to_the_other(current: dict, wanted: dict) -> None:
    assert merge(current, merge_patch(current, wanted)) == wanted


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image": "registry.example:5000/serve"}, "may change under a running service"),
        ({"image": "registry.example/serve:latest"}, "may change under a running service"),
        ({"min_replicas": 2}, "exceeds max_replicas"),
        ({"max_replicas": 3}, "fixed number of pods"),
        ({"min_replicas": 0}, "only Knative mode scales to zero"),
        ({"concurrency": 4}, "in Standard mode set cpu_target"),
        ({"deployment_mode": "Knative", "cpu_target": 60}, "in Knative mode set concurrency"),
        ({"strategy": "canary"}, "needs min_replicas ≥ 2"),
        ({"canary_steps": (50, 10)}, "must rise"),
        ({"canary_steps": (100,)}, "less than or equal to 99"),
        ({"replicas": 2}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        KServeSettings(**{"namespace": NAMESPACE, "image": "registry.example/serve:1", **settings})


def test_a_digest_is_as_good_as_a_tag() -> None:
    image = f"registry.example:5000/serve@sha256:{'0' * 64}"
    assert KServeSettings(namespace=NAMESPACE, image=image).image == image
