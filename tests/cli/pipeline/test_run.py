"""`defectline run`: what is said before it starts, and what it shows at its end."""

import json

import pytest
from commands import call

from defectline.cli import hints
from defectline.cli.pipeline.run import show_run
from defectline.components.common.records import Outcome, read_outcome
from defectline.pipeline import local
from defectline.pipeline.local import LocalRun, RunFailed, StepReport
from defectline.pipeline.parameters import Parameters

STEPS = [StepReport("ingest", 1.25, "43 pairs [new]"), StepReport("train", 60.0, "60 epochs")]


@pytest.fixture
def parameters(factory) -> Parameters:
    return Parameters(source=str(factory.source), store=str(factory.store.root))


def test_the_end_of_a_run(factory, parameters, capsys):
    ran = factory.runs[1]
    outcome = read_outcome(factory.store, ran.run)
    assert outcome is not None
    show_run(LocalRun(ran.run, outcome, STEPS), parameters)
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["ingest", "1.2", "43", "pairs", "[new]"] in lines
    assert ["in", "all", "61.2"] in lines
    gate = json.loads(factory.store.read(f"runs/{ran.run}/gate.json"))
    named = [rule["name"] for rule in gate]
    assert [line[0] for line in lines if line and line[0] in named and "passed" in line] == named
    assert "deployed: every rule of the gate passed" in shown
    assert ["serves", "defects", ran.bundle.version] in lines
    assert "judged " not in shown
    assert f"runs/{ran.run}/report.html" in shown
    assert f"{hints.program()} serve --store {parameters.store}" in shown


def test_the_end_of_a_run_that_the_gate_refused(factory, parameters, capsys):
    ran = factory.runs[2]
    outcome = read_outcome(factory.store, ran.run)
    assert outcome is not None
    show_run(LocalRun(ran.run, outcome, STEPS), parameters)
    shown = capsys.readouterr().out
    assert "refused by the gate: " in shown
    assert "failed" in shown
    assert "NG pictures" in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["judged", "defects", ran.bundle.version] in lines
    # What served before still does.
    assert ["serves", "defects", factory.versions[1]] in lines
    assert "next     open the report" in shown
    advised = outcome.model_copy(update={"advice": "Try more steps."})
    show_run(LocalRun(ran.run, advised, STEPS), parameters)
    assert "next     Try more steps." in capsys.readouterr().out


def test_what_only_the_test_pictures_have_is_shown_alone(factory, parameters, capsys):
    ran = factory.runs[0]
    outcome, key = read_outcome(factory.store, ran.run), f"runs/{ran.run}/metrics.json"
    before = factory.store.read(key)
    metrics = json.loads(before)
    metrics["test"]["ng_masked"] = 3
    factory.store.write(key, json.dumps(metrics).encode())
    try:
        show_run(LocalRun(ran.run, outcome, STEPS), parameters)
    finally:
        factory.store.write(key, before)
    assert ["ng_masked", "3"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_nothing_new(factory, parameters, capsys):
    show_run(LocalRun("run-2", Outcome(state="nothing_new", reason="no new images"), STEPS), parameters)
    shown = capsys.readouterr().out
    assert "nothing new: no new images" in shown
    assert "--force trains all the same" in shown
    assert "report.html" not in shown


def test_the_gate_decides_the_exit_status_where_that_is_asked_for(factory, monkeypatch):
    ran = factory.runs[2]
    outcome = read_outcome(factory.store, ran.run)
    monkeypatch.setattr(local, "run_locally", lambda *_: LocalRun(ran.run, outcome, STEPS))
    asked = ["run", "--source", factory.source, "--store", factory.store.root]
    assert call(*asked).returncode == 0
    assert call(*asked, "--fail-on-gate").returncode == 3


def test_an_internal_error_is_told_with_its_log(factory, monkeypatch, tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("KeyError: 'a'\n")

    def fails(*_):
        raise RunFailed(log, tmp_path / "fault.txt")

    monkeypatch.setattr(local, "run_locally", fails)
    done = call("run", "--source", factory.source, "--store", factory.store.root)
    assert done.returncode == 1
    assert "KeyError: 'a'" in done.stdout
    assert str(log) in done.stdout


def test_parameters_are_checked_before_anything_starts(tmp_path):
    done = call("run", "--source", tmp_path, "--store", tmp_path / "store", "--set", "epochs=none")
    assert done.returncode == 2
    assert "epochs" in done.stderr
    assert not (tmp_path / "store").exists()
