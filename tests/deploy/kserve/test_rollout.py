"""A rollout ends with the new version checked, or with what served before checked again."""

import _thread
import signal
from typing import Any

import pytest
from cluster.api import Failure, Target
from cluster.world import IMPATIENT, KNATIVE, NAME, NAMESPACE, SETTINGS, TWO, World, kserve

from defectline.components.common.errors import Conflict, ServingError
from defectline.components.deploy import golden
from defectline.components.deploy.kserve.history import Unfinished
from defectline.components.deploy.kserve.settings import KServeSettings

FAILURES = [
    (
        "crash",
        ["CrashLoopBackOff (exit code 1, Error)", "model.xml is not what was sealed", "Back-off restarting"],
    ),
    (
        "image",
        ["kserve-container ImagePullBackOff (Back-off pulling image", "ErrImagePull: failed to resolve"],
    ),
    (
        "storage",
        ["storage-initializer failed (exit code 1, Error, botocore", "NoCredentialsError", "BackOff"],
    ),
    ("secret", ['CreateContainerConfigError (secret "defectline-review" not found)']),
    ("pending", ["after 3 s 1 new pods of 1, ", "Unschedulable: 0/3 nodes are available"]),
    ("volume", ["after 3 s 1 new pods of 1, ", 'FailedMount: MountVolume.SetUp failed for volume "review"']),
    ("idle", ["after 3 s waiting for "]),
    ("spoiled", ["golden picture OK.png", "verdict NG"]),
]


@pytest.mark.parametrize(("script", "texts"), FAILURES, ids=[script for script, _ in FAILURES])
def test_a_failed_update_leaves_the_previous_version_serving(
    world: World, script: str, texts: list[str]
) -> None:
    world.deploy(0)
    previous = world.spec()
    world.script(1, script)
    with pytest.raises(ServingError) as caught:
        world.deploy(1, IMPATIENT)
    assert caught.value.what == (
        f"{world.bundles[1].version} was not deployed: {world.bundles[0].version} still serves."
    )
    for text in texts:
        assert text in caught.value.got
    assert world.spec() == previous
    world.ask(0)
    assert kserve(world.store, SETTINGS).champion() == world.bundles[0].version
    assert world.unfinished() == []
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
    assert world.unfinished() == []


@pytest.mark.parametrize("script", ["crash", "spoiled"])
def test_knative_rolls_back_too(world: World, script: str) -> None:
    world.deploy(0, KNATIVE)
    world.script(1, script)
    with pytest.raises(ServingError, match=f"{world.bundles[0].version} still serves"):
        world.deploy(1, KNATIVE)
    world.ask(0)


def test_what_was_tuned_by_hand_survives_update_and_failure(world: World) -> None:
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


def test_two_deployments_at_once_the_second_writer_loses(world: World) -> None:
    world.deploy(0)

    def interfere(method: str, target: Target, query: dict[str, str]) -> None:
        if method == "PATCH":
            world.api.before = lambda method, target, query: None
            theirs = world.service()
            theirs["spec"]["predictor"]["minReplicas"] = 7
            world.api.put("inferenceservices", NAMESPACE, NAME, theirs)

    world.api.before = interfere
    with pytest.raises(Conflict, match="Another process is deploying"):
        world.deploy(1)
    assert world.spec()["predictor"]["minReplicas"] == 7
    world.ask(0)


def test_rolling_back_does_not_undo_what_another_process_wrote_meanwhile(world: World) -> None:
    world.deploy(0)
    world.script(1, "crash")

    def interfere(method: str, target: Target, query: dict[str, str]) -> None:
        if target.part == "log":
            world.api.before = lambda method, target, query: None
            theirs = world.service()
            theirs["spec"]["predictor"]["minReplicas"] = 7
            world.api.put("inferenceservices", NAMESPACE, NAME, theirs)

    world.api.before = interfere
    with pytest.raises(ServingError, match=r"rolling back failed as well\. Another process is deploying"):
        world.deploy(1)
    assert world.spec()["predictor"]["minReplicas"] == 7


def test_where_nothing_had_to_go_back_that_is_not_said_to_have_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way to the endpoint is lost while the candidate is checked; the service was never touched."""
    monkeypatch.setattr(golden, "SETTLE_S", 0.2)
    world.deploy(0)
    writes = len(world.writes())

    def lose(method: str, target: Target, query: dict[str, str]) -> None:
        if target.part == "proxy" and len(world.writes()) > writes:
            raise Failure(503, "ServiceUnavailable", "error trying to reach service: no route to host")

    world.api.before = lose
    with pytest.raises(ServingError) as caught:
        world.deploy(1)
    first, second = (bundle.version for bundle in world.bundles)
    said = f"{second} was not deployed: {first} was left as it was, and could not be asked: "
    assert caught.value.what.startswith(said)
    assert "no route to host" in caught.value.got
    assert "failed" not in caught.value.what
    assert world.candidate() is None


def test_a_write_whose_answer_got_lost_is_followed_up(world: World) -> None:
    world.deploy(0)
    world.script(1, "crash")
    previous = world.spec()
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
    assert world.spec() == previous


@pytest.mark.parametrize("with_champion", [True, False])
def test_the_next_deployment_makes_good_one_that_was_killed(world: World, with_champion: bool) -> None:
    """The previous version is still known, though the spec in force is that of the killed rollout."""
    if with_champion:
        world.deploy(0)
    previous = world.spec() if with_champion else None
    world.script(1, "pending", only=NAME)
    world.kill_deployment(1, lambda: world.service().get("spec") != previous)
    assert world.unfinished()
    assert world.spec() != previous
    with pytest.raises(ServingError, match="still serves" if with_champion else "nothing serves"):
        world.deploy(1, IMPATIENT)
    if previous:
        assert world.spec() == previous
        world.ask(0)
    else:
        assert world.service() == {}
    assert world.unfinished() == []


def test_an_interrupt_rolls_back_first(world: World) -> None:
    world.deploy(0)
    previous = world.spec()
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
    assert world.spec() == previous
    world.ask(0)


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


# The candidate: no client reaches a version before it was checked.

CANDIDATE = f"{NAME}-candidate"


QUICK = {"timeout_s": 3}


SCRIPTS = ["crash", "image", "storage", "pending", "quota", "idle", "spoiled"]


def asked(world: World, name: str) -> set[str]:
    """The versions of which the service `name` answered pictures."""
    return {version for model, version in world.endpoint.asked if model == name}


@pytest.mark.parametrize("script", SCRIPTS)
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


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("settings", [SETTINGS, KNATIVE], ids=["Standard", "Knative"])
def test_whatever_fails_after_the_candidate_the_champion_serves(
    world: World, settings: KServeSettings, script: str
) -> None:
    world.deploy(0, settings)
    previous = world.spec()
    world.script(1, script, only=NAME)
    with pytest.raises(ServingError, match=f"{world.bundles[0].version} still serves"):
        world.deploy(1, settings.model_copy(update=QUICK))
    assert world.spec() == previous
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


def test_the_first_version_is_checked_as_a_candidate_too(world: World) -> None:
    world.script(0, "spoiled", only=CANDIDATE)
    with pytest.raises(ServingError, match="nothing serves, as before"):
        world.deploy(0)
    assert NAME not in world.endpoint.live
    assert asked(world, NAME) == set()


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
    with pytest.raises(Conflict, match="another process is deploying defects"):
        world.deploy(1)
    assert world.candidate() is not None  # theirs
    world.ask(0)


def test_a_candidate_that_a_killed_deployment_left_is_removed(world: World) -> None:
    world.deploy(0)
    world.script(1, "pending")
    world.kill_deployment(1, lambda: world.candidate() is not None)
    assert world.candidate() is not None
    world.ask(0)
    status = world.status()
    assert status.under_way == [f"candidate {world.bundles[1].version}, by run run"]
    world.script(1, "healthy")
    world.deploy(1)
    assert world.candidate() is None
    world.ask(1)


def test_after_a_first_rollout_that_was_never_checked_a_canary_is_a_candidate(world: World) -> None:
    """There is a service, but no version whose answers a canary could be compared with."""
    canary = TWO.model_copy(update={"strategy": "canary"})
    world.deploy(0, canary)
    kserve(world.store, canary).history.begin(world.spec(), Unfinished(previous=None, metadata={}))
    world.deploy(1, canary)
    assert asked(world, CANDIDATE) == {bundle.version for bundle in world.bundles}
    world.ask(1)
