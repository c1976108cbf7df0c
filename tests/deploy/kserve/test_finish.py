"""The exit handler of a run whose deployment was killed half-way."""

from pathlib import Path
from typing import Any

import pytest
from cluster.world import NAME, NAMESPACE, SETTINGS, World
from kfp import dsl

from defectline.components.common.records import Outcome, read_outcome, write_outcome
from defectline.components.deploy import component
from defectline.components.deploy.kserve.deployer import KServe


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KServe.__init__, "__defaults__", (0.01,))


def there(world: World) -> bool:
    return world.candidate() is not None


def end(world: World, run: str = "run", kserve: dict[str, Any] | None = None) -> Outcome:
    """What the exit handler does after a cancel, when nothing has written an outcome."""
    fields = SETTINGS.model_dump(mode="json") if kserve is None else kserve
    component.finish(
        status=dsl.PipelineTaskFinalStatus("RUNNING", "run", "run", 0, ""),
        store=world.store.uri,
        run=run,
        model_name=NAME,
        kserve=fields,
    )
    outcome = read_outcome(world.store, run)
    assert outcome is not None
    return outcome


def test_finish_takes_back_what_a_killed_deployment_left(world: World) -> None:
    """Really killed, in a process of its own, after its spec was written."""
    world.deploy(0)
    previous = world.spec()
    world.script(1, "pending", only=NAME)
    world.kill_deployment(1, lambda: world.spec() != previous)
    outcome = end(world)
    assert outcome.state == "failed"
    assert f"taken back: {world.bundles[0].version} still serves" in outcome.reason
    assert world.spec() == previous
    assert world.unfinished() == []
    world.ask(0)


def test_finish_of_another_run_leaves_a_deployment_alone(world: World) -> None:
    world.deploy(0)
    world.cut_off(1, lambda method, target: there(world) and target.plural == "pods")
    outcome = end(world, run="another")
    assert "candidate" not in outcome.reason
    assert world.candidate() is not None
    assert "candidate was removed" in end(world).reason
    assert world.candidate() is None


def test_finish_says_what_it_could_not_undo_and_does_not_fail(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.deploy(0)
    world.cut_off(1, lambda method, target: there(world) and target.plural == "pods")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    reason = end(world).reason
    assert "could not be undone: No cluster is configured." in reason


@pytest.mark.parametrize("kserve", [{"namespace": NAMESPACE}, {"namespace": NAMESPACE, "image": 7}])
def test_finish_does_not_fail_for_settings_that_cannot_be_read(world: World, kserve: dict) -> None:
    world.cut_off(0, lambda method, target: there(world) and target.plural == "pods")
    assert "could not be undone" in end(world, kserve=kserve).reason


def test_a_run_that_was_stopped_once_its_version_served_is_a_deployed_one(world: World) -> None:
    version = world.bundles[0].version
    world.deploy(0)
    outcome = end(world)
    assert (outcome.state, outcome.version) == ("deployed", version)
    world.ask(0)


def test_an_outcome_that_a_step_wrote_stays_and_says_what_was_undone(world: World) -> None:
    world.deploy(0)
    world.cut_off(1, lambda method, target: there(world) and target.plural == "pods")
    write_outcome(world.store, "run", Outcome(state="refused", reason="max_escape"))
    assert end(world) == Outcome(state="refused", reason="max_escape")
    assert world.candidate() is not None
    write_outcome(world.store, "run", Outcome(state="failed", reason="the endpoint answers wrongly"))
    assert end(world).reason == "the endpoint answers wrongly. Its candidate was removed."
