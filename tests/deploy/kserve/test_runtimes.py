"""Old ServingRuntimes go when nothing needs them, and never stand in the way of a deployment."""

from typing import Any

import pytest
from cluster.api import Failure, Target
from cluster.world import NAME, NAMESPACE, SETTINGS, World, kserve

from defectline.components.common import layout
from defectline.components.deploy.kserve.history import History
from defectline.components.deploy.kserve.settings import KServeSettings

OLD = "2020-01-01T00:00:00Z"
LARGER = SETTINGS.model_copy(update={"memory": "2Gi"})


def runtimes(world: World) -> set[str]:
    return {key[2] for key in world.api.objects if key[0] == "servingruntimes"}


def metadata(world: World, name: str) -> dict[str, Any]:
    return world.api.objects["servingruntimes", NAMESPACE, name]["metadata"]


def age(world: World) -> None:
    for key, found in world.api.objects.items():
        if key[0] == "servingruntimes":
            found["metadata"]["creationTimestamp"] = OLD


def deploy_twice(world: World, settings: KServeSettings = LARGER) -> set[str]:
    """What is left of the first deployment's runtimes after a second one with others, a day later."""
    world.deploy(0)
    first = runtimes(world)
    age(world)
    world.deploy(1, settings)
    world.ask(1)
    return first & runtimes(world)


def forget(world: World) -> None:
    """Remove the first version from the history, as `defectline prune` does."""
    world.store.delete(layout.deployed_key(NAME, NAMESPACE, world.bundles[0].version))


def test_a_runtime_that_a_version_of_the_history_needs_stays(world: World) -> None:
    assert deploy_twice(world)


def test_one_that_nothing_needs_goes(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    first = deploy_twice(world)
    forget(world)
    world.deploy(1, LARGER)
    assert not first & runtimes(world)
    assert "which nothing needs any more, was removed" in capsys.readouterr().out
    world.ask(1)
    assert runtimes(world) == {world.spec()["predictor"]["model"]["runtime"]}


@pytest.mark.parametrize("use", ["a service", "a canary", "another model's history", "young", "not ours"])
def test_what_is_used_otherwise_stays(world: World, use: str) -> None:
    first = deploy_twice(world)
    forget(world)
    [name] = first
    model = {"predictor": {"model": {"runtime": name}}}
    if use == "a service":
        world.api.put("inferenceservices", NAMESPACE, "scratches", {"spec": model})
    elif use == "a canary":
        spec = {"predictor": {}, "canary": [model]}
        world.api.put("inferenceservices", NAMESPACE, "scratches", {"spec": spec})
    elif use == "another model's history":
        history = kserve(world.store, SETTINGS).history
        History(world.store, NAMESPACE, "scratches").write_deployed("v1", "", SETTINGS, "run")
        assert history.versions() == [world.bundles[1].version]
    elif use == "young":
        world.api.objects["servingruntimes", NAMESPACE, name]["metadata"]["creationTimestamp"] = (
            "2999-01-01T00:00:00Z"
        )
    else:
        world.api.objects["servingruntimes", NAMESPACE, name]["metadata"]["labels"] = {}
    world.deploy(1, LARGER)
    assert name in runtimes(world)


@pytest.mark.parametrize("plural", ["inferenceservices", "servingruntimes"])
def test_without_the_right_they_stay_and_that_is_said(
    world: World, capsys: pytest.CaptureFixture[str], plural: str
) -> None:
    first = deploy_twice(world)
    forget(world)
    world.api.denied = {("list", plural), ("delete", "servingruntimes")}
    world.deploy(1, LARGER)
    assert first <= runtimes(world)
    assert (
        "ServingRuntimes that nothing needs any more will stay. this account may not"
        in capsys.readouterr().out
    )


def test_a_fault_while_they_are_removed_costs_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    first = deploy_twice(world)
    forget(world)

    def fail(method: str, target: Target, query: dict[str, str]) -> None:
        if method == "DELETE" and target.plural == "servingruntimes":
            raise Failure(500, "InternalError", "etcd is away")

    world.api.before = fail
    world.deploy(1, LARGER)
    assert first <= runtimes(world)
    assert "Old ServingRuntimes stay: The cluster cannot delete servingruntimes" in capsys.readouterr().out


def test_going_back_makes_a_runtime_again(world: World) -> None:
    deploy_twice(world)
    for name in runtimes(world) - {world.spec()["predictor"]["model"]["runtime"]}:
        world.api.remove("servingruntimes", NAMESPACE, name)
    assert world.roll_back() == world.bundles[0].version
    world.ask(0)
