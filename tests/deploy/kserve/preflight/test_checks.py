"""What stands in the way of a deployment is found beforehand, all of it at once, and nothing is written."""

import base64
from pathlib import Path
from typing import Any

import pytest
from cluster.api import Failure
from cluster.world import ACCOUNT, IMPATIENT, KNATIVE, NAME, NAMESPACE, SECRET, SETTINGS, TWO, World, kserve
from paths import ROOT

from defectline.components.common.errors import ServingError
from defectline.components.common.storage import open_storage
from defectline.components.deploy.kserve.answers import OLDEST_KSERVE
from defectline.components.deploy.kserve.cluster import Cluster
from defectline.components.deploy.kserve.manifests import GROUP
from defectline.components.deploy.kserve.preflight.checks import preflight
from defectline.components.deploy.kserve.preflight.findings import Finding
from defectline.components.deploy.kserve.settings import KServeSettings


def findings(world: World, settings: KServeSettings = SETTINGS, name: str = NAME) -> list[Finding]:
    found = preflight(Cluster(settings.namespace), name, world.store.uri, settings)
    assert world.writes() == []
    return found


def the_one(world: World, settings: KServeSettings = SETTINGS, name: str = NAME) -> Finding:
    (finding,) = findings(world, settings, name)
    return finding


@pytest.mark.parametrize("settings", [TWO, KNATIVE], ids=["Standard", "Knative"])
def test_where_everything_is_there_nothing_is_found(world: World, settings: KServeSettings) -> None:
    assert findings(world, settings) == []


def test_the_docs_name_the_oldest_kserve_as_the_errors_do(world: World) -> None:
    world.api.missing = {GROUP}
    assert f"Install KServe ({OLDEST_KSERVE} or later)" in findings(world)[0].fix
    text = (ROOT / "docs/cluster.md").read_text()
    assert f"| KServe | {OLDEST_KSERVE} or later" in text
    assert f"with every KServe from {OLDEST_KSERVE} on" in text


def test_all_that_is_wrong_is_said_at_once_and_the_champion_serves(world: World) -> None:
    world.deploy(0)
    before = world.writes()
    world.api.denied = {("patch", "inferenceservices")}
    world.api.remove("serviceaccounts", NAMESPACE, ACCOUNT)
    quota(world, {"pods": "4"}, {"pods": "4"})
    with pytest.raises(ServingError) as caught:
        world.deploy(1)
    error = caught.value
    assert error.what == "3 things stand in the way of deploying defects to namespace vision."
    for text in ("patch inferenceservices", "no such service account", "pods: 4 used of 4"):
        assert text in error.got
    for text in ("(1) Apply manifests/", "(2) Apply manifests/", "(3) Raise the quota"):
        assert text in error.fix
    assert world.writes() == before
    world.ask(0)


def test_a_namespace_that_is_not_there(world: World) -> None:
    settings = SETTINGS.model_copy(update={"namespace": "visoin"})
    account, namespace = findings(world, settings)
    assert "no such service account" in account.got
    assert namespace.got == '404 namespaces "visoin" not found'
    assert namespace.fix == "Correct `namespace`, or create it."


@pytest.mark.parametrize(
    ("missing", "settings", "what", "fix"),
    [
        ("serving.kserve.io", SETTINGS, "KServe is not installed", "Install KServe"),
        ("serving.knative.dev", KNATIVE, "has no Knative mode", "`deployment_mode` to Standard"),
        (
            "gateway.networking.k8s.io",
            TWO.model_copy(update={"strategy": "canary"}),
            "cannot share out requests",
            "`strategy` to candidate",
        ),
    ],
)
def test_what_is_not_installed(
    world: World, missing: str, settings: KServeSettings, what: str, fix: str
) -> None:
    world.api.missing = {missing}
    found = the_one(world, settings)
    assert what in found.what
    assert fix in found.fix


def test_another_version_of_kserve(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster import api

    kinds = {key: kind for key, kind in api.KINDS.items() if key[:2] != (GROUP, "v1beta1")}
    monkeypatch.setattr(api, "KINDS", kinds)
    assert the_one(world).got == f"{GROUP} with v1alpha1, without inferenceservices in v1beta1"


def secret(world: World, annotations: dict[str, str], *keys: str) -> None:
    body = {"metadata": {"annotations": annotations}, "data": dict.fromkeys(keys, "aw==")}
    world.api.put("secrets", NAMESPACE, SECRET, body)


ENDPOINT, HTTPS = f"{GROUP}/s3-endpoint", f"{GROUP}/s3-usehttps"


KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.mark.parametrize(
    ("annotations", "keys", "got", "expected"),
    [
        ({}, ("accesskey", "secretkey"), "the keys accesskey, secretkey", "AWS_ACCESS_KEY_ID"),
        ({}, (), "an empty secret", "AWS_ACCESS_KEY_ID"),
        ({ENDPOINT: "http://s3:9000", HTTPS: "0"}, KEYS, "s3-endpoint: http://s3:9000", "without a scheme"),
        ({HTTPS: "0"}, KEYS, "so KServe asks AWS", "the endpoint that this step uses"),
        ({ENDPOINT: "s3:9000"}, KEYS, "s3-usehttps: none, so 1", '"0"'),
        (
            {"serving.kserve.org/s3-endpoint": "s3:9000", ENDPOINT: "s3:9000", HTTPS: "0"},
            KEYS,
            "serving.kserve.org/s3-endpoint, which nothing reads",
            ENDPOINT,
        ),
    ],
)
def test_a_secret_that_kserve_cannot_use(
    world: World, annotations: dict[str, str], keys: tuple[str, ...], got: str, expected: str
) -> None:
    secret(world, annotations, *keys)
    found = the_one(world)
    assert found.what == f"KServe cannot use secret {SECRET}."
    assert got in found.got
    assert expected in found.expected


def test_secrets_and_accounts_that_are_missing(world: World) -> None:
    world.api.remove("secrets", NAMESPACE, SECRET)
    assert the_one(world).what == f"Secret {SECRET} is missing."
    world.api.put("serviceaccounts", NAMESPACE, ACCOUNT, {})
    assert the_one(world).what == f"Service account {ACCOUNT} has no secret."
    role = {"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/models"}}}
    world.api.put("serviceaccounts", NAMESPACE, ACCOUNT, role)
    assert findings(world) == []


@pytest.mark.parametrize(
    ("verb", "plural", "what"),
    [
        ("get", "serviceaccounts", f"Service account {ACCOUNT} was not looked at."),
        ("get", "secrets", f"Secret {SECRET} was not looked at."),
        ("list", "resourcequotas", "The namespace's quota was not looked at."),
    ],
)
def test_what_may_not_be_looked_at_is_said_and_stops_nothing(
    world: World, capsys: pytest.CaptureFixture[str], verb: str, plural: str, what: str
) -> None:
    world.api.denied = {(verb, plural)}
    found = the_one(world)
    assert (found.what, found.looked) == (what, False)
    world.deploy(0)
    assert what in capsys.readouterr().out


def quota(world: World, hard: dict[str, str], used: dict[str, str]) -> None:
    world.api.put("resourcequotas", NAMESPACE, "team", {"status": {"hard": hard, "used": used}})


@pytest.mark.parametrize(
    ("hard", "used", "got"),
    [
        ({"requests.cpu": "4"}, {"requests.cpu": "3500m"}, "requests.cpu: 3500m used of 4"),
        ({"limits.memory": "3Gi"}, {"limits.memory": "2200Mi"}, "limits.memory: 2200Mi used of 3Gi"),
        ({"requests.nvidia.com/gpu": "1"}, {"requests.nvidia.com/gpu": "1"}, "1 used of 1"),
        ({"requests.cpu": "4", "services": "0"}, {"requests.cpu": "3", "services": "0"}, ""),
    ],
)
def test_quota(world: World, hard: dict[str, str], used: dict[str, str], got: str) -> None:
    quota(world, hard, used)
    found = findings(world, SETTINGS.model_copy(update={"gpu": 1}))
    assert [got in finding.got for finding in found] == ([True] if got else [])


@pytest.mark.parametrize(
    ("quantity", "number"),
    [("2", 2), ("500m", 0.5), ("1Gi", 2**30), ("1.5G", 1.5e9), ("2e3", 2000), ("128Mi", 2**27), ("1k", 1000)],
)
def test_quantities(world: World, quantity: str, number: float) -> None:
    """A pod fits where exactly its memory is free, and not where a thousandth less is."""
    settings = SETTINGS.model_copy(update={"memory": quantity})
    quota(world, {"limits.memory": f"{number:g}" if number < 1 else f"{number:.0f}"}, {})
    assert findings(world, settings) == []
    quota(world, {"limits.memory": f"{number * 1000 - 1:.0f}m"}, {})
    assert the_one(world, settings).got.startswith("limits.memory: 0 used of ")


@pytest.mark.parametrize("name", ["Defects", "a" * 44, "1a", "a_b"])
def test_names_that_kserve_cannot_use(world: World, name: str) -> None:
    assert "Choose another `model_name`" in the_one(world, name=name).fix


def test_what_a_webhook_refuses_is_found(world: World) -> None:

    def refuse(method: str, target: Any, query: dict[str, str]) -> None:
        if method == "POST" and target.plural == "inferenceservices":
            raise Failure(403, "Forbidden", 'admission webhook "policy" denied the request: no digest')

    world.api.before = refuse
    assert "no digest" in the_one(world).got


def test_a_candidates_name_that_is_taken(world: World) -> None:
    world.api.put("inferenceservices", NAMESPACE, f"{NAME}-candidate", {"spec": {"predictor": {}}})
    assert the_one(world).what.startswith("The name defects-candidate")
    with pytest.raises(ServingError, match="is taken"):
        world.deploy(0, IMPATIENT)
    assert world.candidate() is not None


def test_every_missing_permission_is_named_before_anything_is_done(world: World) -> None:
    world.api.denied = {("patch", "inferenceservices"), ("get", "pods/log"), ("list", "events")}
    with pytest.raises(ServingError) as caught:
        world.deploy(0)
    assert caught.value.got == (
        "not allowed: patch inferenceservices.serving.kserve.io, get pods/log, list events"
    )
    assert world.writes() == []
    assert list(world.store.list()) == []


def test_a_store_that_no_cluster_can_read_is_refused(world: World, tmp_path: Path) -> None:
    store = open_storage(str(tmp_path / "store"))
    with pytest.raises(ServingError, match="an s3:// or gs:// store"):
        kserve(store, SETTINGS).deploy(world.folders[0], world.bundles[0], "run")
    assert world.writes() == []
    assert not (tmp_path / "store").exists()


def test_the_mode_of_a_service_cannot_change_and_nothing_is_written(world: World) -> None:
    world.deploy(0)
    previous, writes = world.spec(), world.writes()
    with pytest.raises(ServingError, match="it runs in Standard mode, `deployment_mode` is Knative"):
        world.deploy(1, KNATIVE)
    assert world.writes() == writes
    assert world.spec() == previous


# Frames for review.

REVIEW_SECRET = "defectline-review"


ON_S3 = SETTINGS.model_copy(update={"review": "s3://plates/store", "review_secret": REVIEW_SECRET})


ON_GCS = ON_S3.model_copy(update={"review": "gs://plates/store"})


BY_ACCOUNT = ON_S3.model_copy(update={"review_secret": ""})


REVIEW_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


def put_secret(world: World, **values: str) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    world.api.put("secrets", NAMESPACE, REVIEW_SECRET, {"data": data})


@pytest.mark.parametrize(
    ("settings", "keys", "what", "expected"),
    [
        (ON_S3, None, f"Secret {REVIEW_SECRET} is missing.", "`review_secret`"),
        (
            ON_S3,
            {"accesskey": "k"},
            "by secret defectline-review.",
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        (
            ON_S3,
            REVIEW_KEYS,
            "would not write to s3://plates/store where this step",
            "the endpoint that this step uses",
        ),
        (ON_GCS, REVIEW_KEYS, "cannot write to gs://plates/store", "key.json"),
        (BY_ACCOUNT, None, "Nothing lets the pods write to s3://plates/store.", "rights to write frames"),
    ],
)
def test_keys_that_would_not_do_are_found_before_anything_is_written(
    world: World, settings: KServeSettings, keys: dict[str, str] | None, what: str, expected: str
) -> None:
    if keys is not None:
        put_secret(world, **keys)
    [found] = findings(world, settings)
    assert found.looked
    assert what in found.what
    assert expected in found.expected


def test_nothing_is_found_where_the_pods_can_write(world: World) -> None:
    put_secret(world, **REVIEW_KEYS, AWS_ENDPOINT_URL_S3="http://s3:9000")
    assert (
        findings(world, TWO.model_copy(update={"review": "s3://b/s", "review_secret": REVIEW_SECRET})) == []
    )
    put_secret(world, **{"key.json": "{}"})
    assert findings(world, ON_GCS) == []
    role = {"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/models"}}}
    world.api.put("serviceaccounts", NAMESPACE, ACCOUNT, role)
    assert findings(world, BY_ACCOUNT) == []


def test_a_secret_that_may_not_be_read_stops_nothing(world: World) -> None:
    put_secret(world, **REVIEW_KEYS)
    world.api.denied = {("get", "secrets")}
    models, review = findings(world, ON_S3)
    assert not models.looked
    assert (review.what, review.looked) == (f"Secret {REVIEW_SECRET} was not looked at.", False)
