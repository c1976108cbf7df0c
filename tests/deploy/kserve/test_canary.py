"""A canary gets its share step by step, and none where its answers or the cluster are at fault."""

from collections import Counter
from typing import Any

import pytest
from cluster.api import Failure, Target
from cluster.world import KNATIVE, NAME, SETTINGS, TWO, World

from defectline.components.common.errors import ServingError
from defectline.components.deploy import golden
from defectline.components.deploy.kserve.cluster import Cluster
from defectline.components.deploy.kserve.settings import KServeSettings

STEPS = {"strategy": "canary", "canary_step_s": 0.0}


CANARY = TWO.model_copy(update=STEPS)


KNATIVE_CANARY = KNATIVE.model_copy(update=STEPS)


QUICK = {"timeout_s": 3}


@pytest.fixture
def within(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world as the deploy step sees it that runs in the cluster, where names of Services resolve."""
    monkeypatch.setattr(Cluster, "inside", True)
    world.endpoint.inside = True
    return world


def watch_answers(world: World) -> dict[int, Counter[str]]:
    """Which versions answered pictures of the service while the canary had so many percent, as it goes on."""
    seen: dict[int, Counter[str]] = {}
    answer = world.endpoint.answer

    def watch(host: str, path: str, picture: bytes) -> tuple[int, dict[str, Any]]:
        before = len(world.endpoint.asked)
        result = answer(host, path, picture)
        for _, version in world.endpoint.asked[before:]:
            percent = world.endpoint.shares.get(NAME, ("", 0))[1]
            seen.setdefault(percent, Counter())[version] += 1
        return result

    world.endpoint.answer = watch  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
@pytest.mark.parametrize("by_gateway", [True, False], ids=["gateway", "own"])
@pytest.mark.parametrize("settings", [CANARY, KNATIVE_CANARY], ids=["Standard", "Knative"])
def test_at_every_step_both_versions_answer(
    world: World, settings: KServeSettings, by_gateway: bool, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the step runs: the address in the status of the service leads to one of them alone."""
    monkeypatch.setattr(Cluster, "inside", inside)
    world.endpoint.inside = inside
    if by_gateway:
        settings = settings.model_copy(update={"url": world.endpoint.url})
    world.deploy(0, settings)
    seen = watch_answers(world)
    world.deploy(1, settings.model_copy(update={"canary_steps": (5, 50)}))
    for percent in (5, 50):
        assert {bundle.version for bundle in world.bundles} == seen[percent].keys()
    world.ask(1)


@pytest.mark.parametrize("which", [0, 1])
def test_a_side_that_answers_only_errors_ends_the_canary(within: World, which: int) -> None:
    within.deploy(0, CANARY)
    previous = within.spec()
    broken = NAME, within.bundles[which].version

    def spoil(method: str, target: Target, query: dict[str, str]) -> None:
        going_back = within.endpoint.broken and "canary" not in within.spec()
        shared = within.endpoint.shares.get(NAME, ("", 0))[1] >= 10
        within.endpoint.broken = {broken} if shared and not going_back else set()

    within.api.before = spoil
    with pytest.raises(ServingError, match=f"{within.bundles[0].version} still serves") as caught:
        within.deploy(1, CANARY)
    assert "HTTP 500" in caught.value.got
    assert within.spec() == previous


def test_a_gateway_that_gives_the_canary_nothing_ends_it(
    within: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are right, and both versions answer; but no client would reach the new one."""
    monkeypatch.setattr(golden, "CHANCE", 0.1)
    settings = CANARY.model_copy(update={"url": within.endpoint.url, "canary_steps": (50,)})
    within.deploy(0, settings)
    version = within.endpoint._version

    def ignore_weights(host: str, model: str, path: str) -> str | None:
        shares, within.endpoint.shares = within.endpoint.shares, {}
        found = version(host, model, path)
        within.endpoint.shares = shares
        return found

    within.endpoint._version = ignore_weights  # type: ignore[method-assign]
    with pytest.raises(ServingError, match="still serves") as caught:
        within.deploy(1, settings)
    assert f"Version {within.bundles[1].version} of defects answered nothing" in caught.value.got
    within.ask(0)


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
    previous = within.spec()
    within.script(1, script)
    with pytest.raises(ServingError, match=f"{within.bundles[0].version} still serves"):
        within.deploy(1, settings.model_copy(update=QUICK))
    assert within.spec() == previous
    assert within.endpoint.shares == {}
    within.ask(0)


@pytest.mark.parametrize("settings", [CANARY, KNATIVE_CANARY], ids=["Standard", "Knative"])
def test_a_wrong_answer_at_a_step_ends_the_canary(within: World, settings: KServeSettings) -> None:
    within.deploy(0, settings)
    previous = within.spec()

    def spoil(method: str, target: Target, query: dict[str, str]) -> None:
        if within.endpoint.shares.get(NAME, ("", 0))[1] >= 10:
            within.endpoint.spoiled.add((NAME, within.bundles[1].version))

    within.api.before = spoil
    # Long enough that the wrong one is among the answers.
    with pytest.raises(ServingError, match=f"{within.bundles[0].version} still serves") as caught:
        within.deploy(1, settings.model_copy(update={"canary_step_s": 3.0}))
    assert "verdict" in caught.value.got
    assert within.spec() == previous
    assert within.endpoint.shares == {}
    within.ask(0)


@pytest.mark.parametrize(
    ("made_of_it", "got"),
    [
        ("ignored", "no Deployment defects-c"),
        ("unweighted", "no HTTPRoute"),
        ("half", "weight none in HTTPRoute defects"),
    ],
)
def test_a_canary_that_kserve_ignores_is_noticed(within: World, made_of_it: str, got: str) -> None:
    within.controller.canaries = made_of_it
    within.deploy(0, CANARY)
    previous = within.spec()
    with pytest.raises(ServingError, match="still serves") as caught:
        within.deploy(1, CANARY.model_copy(update=QUICK))
    assert "does not give the canary of defects its share" in caught.value.got
    assert got in caught.value.got
    assert caught.value.fix == "Set `strategy` to candidate."
    assert within.spec() == previous
    within.ask(0)


@pytest.mark.parametrize("settings", [SETTINGS, KNATIVE, CANARY], ids=["candidate", "Knative", "canary"])
def test_rolling_back_outlasts_an_api_server_that_is_away(within: World, settings: KServeSettings) -> None:
    within.deploy(0, settings)
    previous, left = within.spec(), 5
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
    assert within.spec() == previous
    within.ask(0)
