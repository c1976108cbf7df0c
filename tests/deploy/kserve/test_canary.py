"""No client reaches a version before it was checked: candidates, canaries, adopted services, rollback."""

import json
from typing import Any

import pytest
from cluster.api import Failure, Target
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
from commands import defectline

from defectline.components.common.errors import BundleError, Conflict, ServingError
from defectline.components.common.records import GateRecord, Outcome, write_gate, write_outcome
from defectline.components.deploy.kserve.manifests import KServeSettings, inference_service, serving_runtime
from defectline.components.deploy.rollback import roll_back
from defectline.components.deploy.status import read_status

CANDIDATE = f"{NAME}-candidate"
STEPS = {"strategy": "canary", "canary_step_s": 0.0}
CANARY = TWO.model_copy(update=STEPS)
KNATIVE_CANARY = KNATIVE.model_copy(update=STEPS)
QUICK = {"timeout_s": 3}
FAILURES = ["crash", "image", "storage", "pending", "quota", "idle", "spoiled"]


@pytest.fixture
def within(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world that can be asked by the names that only a cluster resolves: the endpoint is the proxy."""
    monkeypatch.setenv("http_proxy", world.endpoint.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    return world


def back(world: World, name: str = NAME, to: str = "") -> str:
    return roll_back(world.store.uri, name, NAMESPACE, to, poll_s=0.01)


def asked(world: World, name: str) -> set[str]:
    """The versions of which the service `name` answered pictures."""
    return {version for model, version in world.endpoint.asked if model == name}


# The candidate


@pytest.mark.parametrize("script", FAILURES)
def test_a_candidate_that_fails_never_touches_the_service(world: World, script: str) -> None:
    world.deploy(0)
    generation = world.service()["metadata"]["generation"]
    world.endpoint.asked.clear()
    world.script(1, script)
    with pytest.raises(ServingError, match=f"{world.bundles[0].version} still serves"):
        world.deploy(1, IMPATIENT)
    assert world.service()["metadata"]["generation"] == generation
    assert world.candidate() is None
    # That it still serves was not assumed.
    assert asked(world, NAME) == {world.bundles[0].version}
    world.ask(0)


@pytest.mark.parametrize("script", FAILURES)
@pytest.mark.parametrize("settings", [SETTINGS, KNATIVE], ids=["Standard", "Knative"])
def test_whatever_fails_after_the_candidate_the_champion_serves(
    world: World, settings: KServeSettings, script: str
) -> None:
    world.deploy(0, settings)
    former = world.spec()
    world.script(1, script, only=NAME)
    with pytest.raises(ServingError, match=f"{world.bundles[0].version} still serves"):
        world.deploy(1, settings.model_copy(update=QUICK))
    assert world.spec() == former
    assert world.candidate() is None
    world.ask(0)


def test_the_candidate_is_one_pod_and_gone_before_the_service_changes(world: World) -> None:
    world.deploy(0, TWO)
    seen: list[tuple[str, bool]] = []

    def watch(method: str, target: Target, query: dict[str, str]) -> None:
        if method in ("POST", "PATCH") and target.plural == "inferenceservices" and not query.get("dryRun"):
            seen.append((method, world.candidate() is None))
        if method == "GET" and target.name == CANDIDATE and (candidate := world.candidate()):
            assert candidate["spec"]["predictor"]["maxReplicas"] == 1

    world.api.before = watch
    world.deploy(1, TWO)
    assert seen == [("POST", True), ("PATCH", True)]
    assert world.endpoint.live.keys() == {NAME}


def test_the_first_version_is_checked_beside_as_well(world: World) -> None:
    world.script(0, "spoiled", only=CANDIDATE)
    with pytest.raises(ServingError, match="nothing serves, as before"):
        world.deploy(0)
    assert NAME not in world.endpoint.live
    assert asked(world, NAME) == set()


def test_quota_waits_for_pods_that_are_ending(world: World) -> None:
    left = 3

    def linger(method: str, target: Target, query: dict[str, str]) -> None:
        nonlocal left
        if target.plural == "pods" and left > 0 and world.candidate() is None and query:
            left -= 1
            metadata = {"labels": {"serving.kserve.io/inferenceservice": CANDIDATE}}
            metadata["deletionTimestamp"] = "2026-11-22T05:51:15Z"
            world.api.put("pods", NAMESPACE, "ending", {"metadata": metadata, "status": {}})
            if left == 0:
                world.api.remove("pods", NAMESPACE, "ending")

    world.api.before = linger
    world.deploy(0)
    assert left == 0


def test_two_at_once_the_one_whose_candidate_was_replaced_says_so(world: World) -> None:
    world.deploy(0)

    def replace(method: str, target: Target, query: dict[str, str]) -> None:
        if target.plural == "deployments" and target.name.startswith(CANDIDATE):
            world.api.before = lambda method, target, query: None
            theirs = dict(world.candidate() or {})
            world.api.remove("inferenceservices", NAMESPACE, CANDIDATE)
            theirs["metadata"] = {"labels": theirs["metadata"]["labels"]}
            world.api.put("inferenceservices", NAMESPACE, CANDIDATE, theirs)

    world.api.before = replace
    with pytest.raises(Conflict, match="somebody else is deploying defects"):
        world.deploy(1)
    assert world.candidate() is not None  # theirs
    world.ask(0)


def test_a_candidate_that_a_killed_deployment_left_is_cleared_away(world: World) -> None:
    world.deploy(0)
    world.script(1, "pending")
    world.kill_deployment(1, lambda: world.candidate() is not None)
    assert world.candidate() is not None
    world.ask(0)
    status = read_status(world.store.uri, NAME, NAMESPACE)
    assert status.under_way == [f"candidate {world.bundles[1].version}"]
    world.script(1, "healthy")
    world.deploy(1)
    assert world.candidate() is None
    world.ask(1)


# Canaries


@pytest.mark.parametrize("settings", [CANARY, KNATIVE_CANARY], ids=["Standard", "Knative"])
def test_a_canary_gets_its_share_step_by_step(within: World, settings: KServeSettings) -> None:
    within.deploy(0, settings)
    shares: list[int] = []

    def watch(method: str, target: Target, query: dict[str, str]) -> None:
        share = within.endpoint.shares.get(NAME)
        if share and (not shares or shares[-1] != share[1]):
            shares.append(share[1])

    within.api.before = watch
    within.deploy(1, settings)
    assert shares == [0, 10, 50]
    assert within.endpoint.shares == {}
    assert "canary" not in within.spec()
    assert "canaryTrafficPercent" not in within.spec()["predictor"]
    within.ask(1)
    assert within.candidate() is None


@pytest.mark.parametrize("script", ["crash", "quota", "spoiled"])
@pytest.mark.parametrize("settings", [CANARY, KNATIVE_CANARY], ids=["Standard", "Knative"])
def test_a_canary_that_fails_gets_no_request_of_a_client(
    within: World, settings: KServeSettings, script: str
) -> None:
    within.deploy(0, settings)
    former = within.spec()
    within.script(1, script)
    with pytest.raises(ServingError, match=f"{within.bundles[0].version} still serves"):
        within.deploy(1, settings.model_copy(update=QUICK))
    assert within.spec() == former
    assert within.endpoint.shares == {}
    within.ask(0)


@pytest.mark.parametrize("settings", [CANARY, KNATIVE_CANARY], ids=["Standard", "Knative"])
def test_a_wrong_answer_at_a_step_ends_the_canary(within: World, settings: KServeSettings) -> None:
    within.deploy(0, settings)
    former = within.spec()

    def spoil(method: str, target: Target, query: dict[str, str]) -> None:
        if within.endpoint.shares.get(NAME, ("", 0))[1] >= 10:
            within.endpoint.spoiled.add((NAME, within.bundles[1].version))

    within.api.before = spoil
    # Long enough that the wrong one is among the answers.
    with pytest.raises(ServingError, match=f"{within.bundles[0].version} still serves") as caught:
        within.deploy(1, settings.model_copy(update={"canary_step_s": 3.0}))
    assert "verdict" in caught.value.got
    assert within.spec() == former
    assert within.endpoint.shares == {}
    within.ask(0)


@pytest.mark.parametrize(
    ("made_of_it", "got"), [("ignored", "no Deployment defects-c"), ("unweighted", "no HTTPRoute")]
)
def test_a_canary_that_kserve_ignores_is_noticed(within: World, made_of_it: str, got: str) -> None:
    within.controller.canaries = made_of_it
    within.deploy(0, CANARY)
    former = within.spec()
    with pytest.raises(ServingError, match="still serves") as caught:
        within.deploy(1, CANARY.model_copy(update=QUICK))
    assert "does not give the canary of defects its share" in caught.value.got
    assert got in caught.value.got
    assert caught.value.fix == "Set `strategy` to candidate."
    assert within.spec() == former
    within.ask(0)


@pytest.mark.parametrize("settings", [SETTINGS, KNATIVE, CANARY], ids=["candidate", "Knative", "canary"])
def test_going_back_outlasts_an_api_server_that_is_away(within: World, settings: KServeSettings) -> None:
    within.deploy(0, settings)
    former, left = within.spec(), 5
    within.script(1, "crash", only=NAME)

    def stumble(method: str, target: Target, query: dict[str, str]) -> None:
        nonlocal left
        going_back = any(request.startswith("GET") and "/log" in request for request in within.api.requests)
        if going_back and left > 0 and target.plural == "inferenceservices":
            left -= 1
            raise Failure(503, "ServiceUnavailable", "apiserver is shutting down")

    within.api.before = stumble
    with pytest.raises(ServingError, match=f"{within.bundles[0].version} still serves"):
        within.deploy(1, settings)
    assert left == 0
    assert within.spec() == former
    within.ask(0)


# Services of somebody else


def test_a_service_is_adopted_only_where_that_is_asked_for(world: World) -> None:
    theirs: dict[str, Any] = inference_service(NAME, "v1", "s3://theirs/", SETTINGS)
    theirs["metadata"]["labels"] = {"team": "glass"}
    theirs["spec"] = {"predictor": {"sklearn": {"storageUri": "s3://theirs/"}, "minReplicas": 1}}
    world.api.put("inferenceservices", NAMESPACE, NAME, theirs)
    world.controller._on_write(Target("", "", "inferenceservices", NAMESPACE, NAME), theirs)
    with pytest.raises(ServingError, match=r"is not ours\.") as caught:
        world.deploy(0)
    assert "--adopt" in caught.value.fix
    adopting = SETTINGS.model_copy(update={"adopt": True})
    world.script(0, "crash", only=NAME)
    with pytest.raises(ServingError, match="an unknown version still serves; the store holds no golden"):
        world.deploy(0, adopting)
    assert world.spec() == theirs["spec"]
    assert world.service()["metadata"]["labels"] == {"team": "glass"}
    world.script(0, "healthy", only=NAME)
    world.deploy(0, adopting)
    assert "sklearn" not in world.spec()["predictor"]
    assert world.service()["metadata"]["labels"]["team"] == "glass"
    world.ask(0)


# Rolling back, and what serves


def test_back_to_the_version_before_and_forth_again(world: World) -> None:
    other = SETTINGS.model_copy(update={"image": "registry.example/defectline-serve:0.0.9"})
    world.deploy(0, other)
    with pytest.raises(ServingError, match="cannot go back from"):
        back(world)
    world.deploy(1, TWO)
    first, second = (bundle.version for bundle in world.bundles)
    assert back(world) == first
    world.ask(0)
    predictor = world.spec()["predictor"]
    # The image that it ran in, and the number of pods as it was last.
    assert predictor["model"]["runtime"] == serving_runtime(other)["metadata"]["name"]
    assert predictor["minReplicas"] == 2
    assert read_status(world.store.uri, NAME, NAMESPACE).former == second
    assert back(world) == second
    world.ask(1)
    assert back(world, to=first) == first


def test_an_image_goes_back_with_the_gpus_that_it_ran_on(world: World) -> None:
    world.deploy(0)
    gpus = {"image": "registry.example/defectline-serve-gpu:0.1.0", "gpu": 1, "memory": "4Gi"}
    world.deploy(1, SETTINGS.model_copy(update=gpus))
    assert back(world) == world.bundles[0].version
    expected = serving_runtime(SETTINGS.model_copy(update={"memory": "4Gi"}))
    assert world.spec()["predictor"]["model"]["runtime"] == expected["metadata"]["name"]


def test_a_rollback_that_fails_leaves_what_serves(world: World) -> None:
    for which in (0, 1):
        world.deploy(which)
    first, second = (bundle.version for bundle in world.bundles)
    world.script(0, "spoiled")
    with pytest.raises(ServingError, match=f"{first} was not deployed: {second} still serves"):
        back(world)
    world.store.write(f"models/{NAME}/{first}/onnx/model.onnx", b"changed")
    with pytest.raises(BundleError, match=r"model\.onnx is not what was sealed"):
        back(world)
    with pytest.raises(ServingError, match="was never deployed to namespace vision") as caught:
        back(world, to="v1")
    assert first in caught.value.expected
    with pytest.raises(ServingError, match="Nothing of defectline serves others"):
        back(world, "others")
    world.ask(1)


def test_the_commands(world: World) -> None:
    world.deploy(0)
    world.deploy(1, TWO)
    first, second = (bundle.version for bundle in world.bundles)
    write_gate(world.store, NAME, GateRecord(run="run-7", snapshot="s", settings_key="{}"))
    write_outcome(world.store, "run-7", Outcome(state="refused", reason="max_escape"))
    where = ("--store", world.store.uri, "--namespace", NAMESPACE)
    shown = defectline("status", *where)
    assert shown.returncode == 0, shown.stderr
    for text in (second, "ready of 2", world.endpoint.url, first, "run-7: refused, max_escape"):
        assert text in shown.stdout
    done = defectline("rollback", *where)
    assert done.returncode == 0, done.stderr
    assert f"defects: {first} serves, {second} did before" in done.stdout
    world.ask(0)
    found = json.loads(defectline("status", *where, "--json").stdout)
    assert (found["version"], found["former"], found["under_way"]) == (first, second, [])
    refused = defectline("rollback", *where, "--to", "v1")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "was never deployed" in refused.stderr


# Several pods


def test_several_pods_are_spread_and_not_taken_away_at_once(world: World) -> None:
    world.deploy(0, TWO)
    (constraint,) = world.spec()["predictor"]["topologySpreadConstraints"]
    assert constraint["labelSelector"]["matchLabels"] == {"serving.kserve.io/inferenceservice": NAME}
    budget = world.api.find("poddisruptionbudgets", NAMESPACE, NAME)
    assert budget is not None
    assert budget["spec"]["maxUnavailable"] == 1
    (owner,) = budget["metadata"]["ownerReferences"]
    assert owner["uid"] == world.service()["metadata"]["uid"]
    world.deploy(1, TWO)
    # What one deployment set and the next has no use for is taken away.
    world.deploy(0, SETTINGS)
    assert "topologySpreadConstraints" not in world.spec()["predictor"]
