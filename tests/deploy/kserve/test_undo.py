"""What a deployment leaves that was killed half-way is undone by its own run, and by no other."""

from collections.abc import Callable
from typing import Any

import pytest
from cluster.api import Failure, Target
from cluster.world import IMPATIENT, KNATIVE, NAME, SETTINGS, TWO, World, kserve

from defectline.components.common.errors import ServingError
from defectline.components.common.records import Outcome, write_outcome
from defectline.components.deploy.kserve.settings import KServeSettings

STEPS = {"strategy": "canary", "canary_step_s": 0.0}
CANARY, KNATIVE_CANARY = TWO.model_copy(update=STEPS), KNATIVE.model_copy(update=STEPS)

Moment = Callable[[World, str, Target], bool]


def is_new(world: World) -> bool:
    """Whether the spec in force is that of the second version."""
    labels = world.service().get("spec", {}).get("predictor", {}).get("labels", {})
    return labels.get("defectline.dev/model-version") == world.bundles[1].version


def candidate_waits(world: World, method: str, target: Target) -> bool:
    return target.plural == "deployments" and target.name.startswith(f"{NAME}-candidate")


def candidate_is_asked(world: World, method: str, target: Target) -> bool:
    return target.part == "proxy" and "candidate" in target.name


def write(world: World, method: str, target: Target) -> bool:
    return method == "PATCH" and target.name == NAME


def pods_roll(world: World, method: str, target: Target) -> bool:
    return is_new(world) and target.plural == "pods"


def service_is_asked(world: World, method: str, target: Target) -> bool:
    return is_new(world) and target.part == "proxy"


def canary_waits(world: World, method: str, target: Target) -> bool:
    return target.plural == "deployments" and target.name.startswith(f"{NAME}-c")


def share_of(percent: int) -> Moment:
    def reached(world: World, method: str, target: Target) -> bool:
        return world.endpoint.shares.get(NAME, ("", 0))[1] == percent

    return reached


MOMENTS: list[tuple[KServeSettings, Moment]] = [
    (SETTINGS, candidate_waits),
    (SETTINGS, candidate_is_asked),
    (SETTINGS, write),
    (SETTINGS, pods_roll),
    (SETTINGS, service_is_asked),
    (CANARY, canary_waits),
    (CANARY, share_of(10)),
    (CANARY, share_of(50)),
    (KNATIVE, pods_roll),
    (KNATIVE_CANARY, pods_roll),
    (KNATIVE_CANARY, share_of(10)),
    (KNATIVE_CANARY, share_of(50)),
]


def check_undone(world: World, previous: dict[str, Any]) -> None:
    assert world.candidate() is None
    assert world.unfinished() == []
    assert world.spec() == previous
    assert world.endpoint.shares == {}
    world.ask(0)
    assert world.status().under_way == []


@pytest.mark.parametrize(("settings", "moment"), MOMENTS)
def test_whenever_it_was_killed_its_run_undoes_it(
    world: World, settings: KServeSettings, moment: Moment
) -> None:
    world.deploy(0, settings)
    previous = world.spec()
    world.cut_off(1, lambda method, target: moment(world, method, target), settings, "killed")
    here = kserve(world.store, settings)
    left = world.spec(), world.candidate() is None, world.unfinished()
    assert here.undo("another") == ""
    assert (world.spec(), world.candidate() is None, world.unfinished()) == left
    said = here.undo("killed")
    assert said or moment is write
    check_undone(world, previous)
    assert here.undo("killed") == ""


@pytest.mark.parametrize(
    ("settings", "writes"),
    [(one, 0) for one in (SETTINGS, CANARY, KNATIVE, KNATIVE_CANARY)]
    + [(one, 1) for one in (SETTINGS, CANARY)]
    + [(KNATIVE, writes) for writes in (1, 2, 3)],
)
def test_killed_while_it_went_back_it_is_gone_on_with(
    world: World, settings: KServeSettings, writes: int
) -> None:
    """After none, some or all of the writes by which it goes back."""
    world.deploy(0, settings)
    previous = world.spec()
    world.script(1, "crash", only=NAME)

    def reached(method: str, target: Target) -> bool:
        reads_of_logs = [n for n, one in enumerate(world.api.requests) if "/log?" in one]
        if not reads_of_logs:
            return False
        since = world.api.requests[reads_of_logs[0] : -1]
        return sum(one.startswith("PATCH") for one in since) == writes and (writes > 0 or method == "PATCH")

    world.cut_off(1, reached, settings, "killed")
    assert world.unfinished()
    kserve(world.store, settings).undo("killed")
    check_undone(world, previous)


def test_a_first_version_that_was_never_checked_is_taken_away(world: World) -> None:
    world.cut_off(0, lambda method, target: service_there(world) and target.plural == "pods", run="killed")
    assert world.service() != {}
    here = kserve(world.store, SETTINGS)
    assert here.undo("another") == ""
    assert "nothing serves, as before" in here.undo("killed")
    assert world.service() == {}
    assert world.unfinished() == []


def service_there(world: World) -> bool:
    return world.service() != {}


def test_what_another_run_has_put_in_force_since_stays(world: World) -> None:
    world.deploy(0)
    world.cut_off(1, lambda method, target: pods_roll(world, method, target), run="killed")
    kserve(world.store, SETTINGS).deploy(world.folders[0], world.bundles[0], "later")
    spec = world.spec()
    assert kserve(world.store, SETTINGS).undo("killed") == ""
    assert world.spec() == spec
    assert world.unfinished() == []
    world.ask(0)


def test_a_candidate_of_another_run_stays(world: World) -> None:
    world.deploy(0)
    world.cut_off(1, lambda method, target: candidate_waits(world, method, target), run="other")
    assert kserve(world.store, SETTINGS).undo("killed") == ""
    assert world.candidate() is not None


def test_a_version_that_does_not_come_up_again_is_said(world: World) -> None:
    world.deploy(0)
    world.cut_off(1, lambda method, target: pods_roll(world, method, target), run="killed")
    world.script(0, "crash")
    with pytest.raises(ServingError, match="cannot start"):
        kserve(world.store, IMPATIENT).undo("killed")
    # It can be tried again.
    assert world.unfinished()
    world.script(0, "healthy")
    kserve(world.store, SETTINGS).undo("killed")
    world.ask(0)


def test_an_api_server_that_is_away_for_a_moment_is_waited_for(world: World) -> None:
    world.deploy(0)
    world.cut_off(1, lambda method, target: pods_roll(world, method, target), run="killed")
    left = 4

    def stumble(method: str, target: Target, query: dict[str, str]) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            raise Failure(503, "ServiceUnavailable", "apiserver is shutting down")

    world.api.before = stumble
    assert world.bundles[0].version in kserve(world.store, SETTINGS).undo("killed")
    world.ask(0)


def test_what_a_run_deployed_is_known(world: World) -> None:
    here = kserve(world.store, SETTINGS)
    assert here.deployed_by("run") == ""
    here.deploy(world.folders[0], world.bundles[0], "run")
    assert here.deployed_by("run") == world.bundles[0].version
    assert here.deployed_by("another") == here.deployed_by("") == ""
    world.cut_off(1, lambda method, target: pods_roll(world, method, target), run="killed")
    assert here.deployed_by("run") == here.deployed_by("killed") == ""


# What `rollback` and `status` make of it, where the run could not undo it.


@pytest.mark.parametrize(
    "settings", [SETTINGS, CANARY, KNATIVE_CANARY], ids=["rollout", "Standard", "Knative"]
)
def test_rollback_leads_to_the_version_that_was_checked_last(world: World, settings: KServeSettings) -> None:
    """Not to the one before the version in force, which nothing has checked."""
    world.deploy(0, settings)
    previous = world.spec()
    moment = share_of(10) if settings.strategy == "canary" else pods_roll
    world.cut_off(1, lambda method, target: moment(world, method, target), settings, "killed")
    first, second = (bundle.version for bundle in world.bundles)
    status = world.status()
    assert status.previous == first
    assert any(second in text for text in status.under_way)
    assert world.roll_back() == first
    check_undone(world, previous)


def test_rollback_says_where_nothing_was_checked_before(world: World) -> None:
    world.cut_off(0, lambda method, target: service_there(world) and target.plural == "pods", run="killed")
    assert world.status().previous == ""
    with pytest.raises(ServingError, match="has no version to go back to") as caught:
        world.roll_back()
    assert "never checked" in caught.value.got
    world.deploy(0)
    world.ask(0)


def test_rollback_takes_a_candidate_that_was_left_away(world: World) -> None:
    for which in (0, 1):
        world.deploy(which)
    world.cut_off(0, lambda method, target: candidate_waits(world, method, target), run="killed")
    assert world.roll_back() == world.bundles[0].version
    assert world.candidate() is None
    world.ask(0)


def test_another_canary_gets_no_more_requests_while_the_next_version_is_checked(world: World) -> None:
    world.deploy(0, CANARY)
    world.cut_off(1, lambda method, target: share_of(50)(world, method, target), CANARY, "killed")
    seen = []

    def watch(method: str, target: Target, query: dict[str, str]) -> None:
        if world.candidate():
            seen.append(dict(world.endpoint.shares))

    world.api.before = watch
    world.deploy(1, TWO)
    assert seen
    assert not any(seen)
    assert world.unfinished() == []
    world.ask(1)


@pytest.mark.parametrize("script", ["healthy", "crash"])
def test_whatever_the_next_deployment_comes_to_nothing_of_the_last_is_left(world: World, script: str) -> None:
    """Of another version, or other settings, than what was never checked."""
    world.deploy(0)
    previous = world.spec()
    world.cut_off(1, lambda method, target: pods_roll(world, method, target), run="killed")
    world.script(1, script)
    if script == "healthy":
        world.deploy(1, TWO)
        world.ask(1)
    else:
        with pytest.raises(ServingError, match=f"{world.bundles[0].version} still serves"):
            world.deploy(1, TWO)
        assert world.spec() == previous
    assert world.unfinished() == []


def test_status_tells_whose_it_is_and_whether_that_run_has_ended(world: World) -> None:
    world.deploy(0)
    world.cut_off(1, lambda method, target: candidate_waits(world, method, target), run="killed")
    second = world.bundles[1].version
    assert world.status().under_way == [f"candidate {second}, by run killed"]
    write_outcome(world.store, "killed", Outcome(state="failed", reason="stopped"))
    (text,) = world.status().under_way
    assert text.startswith(f"candidate {second}, left by run killed: ")
    assert "`defectline rollback`" in text
