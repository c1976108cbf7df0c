"""Runs on a server: submitted, followed and listed, against a stand-in of the Kubeflow Pipelines API."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import kfp
import kfp_server_api as api
import pytest
import yaml
from commands import call
from kfp_api import KfpApi, running
from small_pipeline import PARAMETERS, TOKEN, assert_helps
from stores import Factory

from defectline.components.common.errors import ServingError, SettingsError
from defectline.components.common.records import Outcome, write_outcome
from defectline.components.common.reporting.step_record import StepError, StepRecord, write_step
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.kfp_server import reasons
from defectline.pipeline.kfp_server.runs import RunResult, find_ended, follow, list_cluster_runs
from defectline.pipeline.kfp_server.schedules import delete_schedule

pytestmark = pytest.mark.filterwarnings("ignore:This client only works with:FutureWarning")


def test_submit_creates_a_run_of_the_package_in_the_experiment(run, server, package):
    result = run(experiment="trials")

    assert result == RunResult(result.run_id, f"{server.host}/#/runs/details/{result.run_id}", "PENDING")
    [experiment] = server.experiments.values()
    assert experiment.display_name == "trials"
    [body] = server.bodies("/runs")
    assert body["display_name"] == "first"
    assert body["experiment_id"] == experiment.experiment_id
    assert body["runtime_config"] == {"parameters": PARAMETERS}
    assert body["pipeline_spec"] == yaml.safe_load(package.read_text())


def test_submit_takes_the_experiment_that_is_there_though_another_differs_only_in_case(run, server):
    run(experiment="Trials")
    run(experiment="trials")
    run(experiment="trials")

    assert [one.display_name for one in server.experiments.values()] == ["Trials", "trials"]
    assert len({body["experiment_id"] for body in server.bodies("/runs")}) == 2


def test_submit_sends_what_kfps_own_client_sends(run, server, package, monkeypatch):
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", "/nonexistent/context.json")
    run()
    kfp.Client(host=server.host).create_run_from_pipeline_package(
        str(package), arguments=PARAMETERS, run_name="first", experiment_name="defectline"
    )

    ours, theirs = server.bodies("/runs")
    assert ours == theirs


def test_submit_sends_the_platform_part_of_a_package(run, server, package, tmp_path):
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {}}}}}
    two = tmp_path / "two.yaml"
    two.write_text(f"{package.read_text()}\n---\n{yaml.safe_dump(platform)}")

    run(package=two)

    [body] = server.bodies("/runs")
    assert body["pipeline_spec"]["platform_spec"] == platform
    assert body["pipeline_spec"]["pipeline_spec"] == yaml.safe_load(package.read_text())


def test_waiting_says_each_change_once_and_ends_with_the_run(run, server):
    lines: list[str] = []

    result = run(wait=True, say=lines.append)

    assert result.state == "SUCCEEDED"
    assert lines == [
        f"run first: {result.url}",
        "run: waiting to start",
        "measure: running",
        "run: running",
        "measure: done",
        "judge: running",
        "judge: done",
        "run: done",
    ]


def test_a_run_that_failed_says_what_its_steps_left(run, server, tmp_path):
    """KFP itself has no word on it."""
    server.script = (("RUNNING", {"measure": "RUNNING"}), ("FAILED", {"measure": "FAILED"}))
    lines: list[str] = []

    result = run(wait=True, say=lines.append)
    assert result.state == "FAILED"
    assert "measure: failed" in lines
    # Nothing in any store: how to find out.
    assert "nodes/POD/log" in result.reason
    assert f"pipeline/runid={result.run_id}" in result.reason

    store = FolderStorage(tmp_path)
    error = StepError(what="s3://images/lgp cannot be read.", got="404", expected="a bucket", fix="Make it.")
    record = StepRecord(step="ingest", state="failed", error=error)

    class Writing(KfpApi):
        def answer(self, request, upload):
            if found := request.path.partition("/runs/")[2]:
                write_step(store, found, record)
            return super().answer(request, upload)

    with running(Writing(script=server.script)) as another:
        told = run(host=another.host, wait=True, parameters={**PARAMETERS}, say=lines.append)
        assert told.reason.startswith("no step could say why")
        another.runs.clear()
        found = reasons.explain(str(tmp_path), told.run_id)
    assert found == "failed in ingest: s3://images/lgp cannot be read. Got 404."
    assert "Make it." in reasons.detail(str(tmp_path), told.run_id)
    write_outcome(store, told.run_id, Outcome(state="failed", reason="stopped in ingest"))
    assert reasons.explain(str(tmp_path), told.run_id) == "stopped in ingest"


def test_a_cancelled_run_is_an_answer(run, server):
    server.script = (("CANCELING", {}), ("CANCELED", {}))

    assert run(wait=True).state == "CANCELED"


def test_a_run_that_does_not_end_in_time_is_left_running(run, server):
    server.script = (("RUNNING", {}),)

    with pytest.raises(ServingError) as caught:
        run(wait=True, timeout_s=0.05)

    [run_id] = server.runs
    assert_helps(caught.value, run_id, "state RUNNING", f"{server.host}/#/runs/details/{run_id}")
    assert f"`defectline runs --host {server.host} --follow {run_id}`" in caught.value.fix


def test_a_server_that_fails_while_waiting_is_asked_again(run, server, monkeypatch):
    # Four answers of 500 are one request with its three repetitions.
    server.fail("GET", "/runs/", 500, times=8)
    lines: list[str] = []

    assert run(wait=True, say=lines.append).state == "SUCCEEDED"
    assert len([line for line in lines if "asking again" in line]) == 1


def test_a_token_that_runs_out_while_waiting_ends_the_wait(run, server):
    server.script = (("RUNNING", {}),)
    server.expires_after = 6

    with pytest.raises(SettingsError) as caught:
        run(wait=True, token=TOKEN)

    [run_id] = server.runs
    assert_helps(caught.value, "Jwt is expired", "KFP_TOKEN", f"The run {run_id} goes on", "--follow")


def test_ctrl_c_says_that_the_run_goes_on(run, server):
    server.script = (("RUNNING", {}),)
    lines: list[str] = []

    def watch(state, steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(wait=True, say=lines.append, watch=watch)
    [run_id] = server.runs
    assert lines[-1] == (
        f"The run {run_id} goes on. Follow it with `defectline runs --host {server.host} --follow {run_id}`"
    )


def test_a_run_can_be_followed_later_by_its_id_its_start_or_its_name(run, server):
    first = run(name="plates 2026-11-28 05:00:00")
    server.runs[first.run_id].run_id = first.run_id
    for start in (first.run_id, first.run_id[:8], "plates 2026-11-28 05:00:00"):
        assert follow(start, host=server.host, poll_s=0.001, say=lambda line: None).state == "SUCCEEDED"
    with pytest.raises(SettingsError, match="There is no run nothing"):
        follow("nothing", host=server.host)


def test_a_run_whose_workflow_went_with_its_schedule_is_told_as_such(apply, server):
    job = apply()
    run_id = server.start_scheduled(job.id)
    delete_schedule(host=server.host, name="nightly", force=True, say=lambda line: None)
    assert server.runs[run_id].state == "RUNNING"
    [row] = list_cluster_runs(server.host, "", "", 10)
    assert (row.run, row.state) == (run_id, "LOST")
    assert "its schedule was deleted" in row.reason

    with pytest.raises(ServingError) as caught:
        follow(run_id, host=server.host, poll_s=0.001, say=lambda line: None)
    assert_helps(caught.value, "will not end", "its schedule was deleted")


@pytest.mark.parametrize("state", ["RUNNING", None, "FAILED", "CANCELED"])
def test_runs_that_ended_or_were_lost_are_told_from_those_under_way(apply, server, state):
    lost = server.start_scheduled(apply().id, state)
    delete_schedule(host=server.host, name="nightly", force=True, say=lambda line: None)
    going_on = server.start_scheduled(apply().id)
    lines: list[str] = []
    asked = {"host": server.host, "namespace": "", "token": "", "say": lines.append}
    assert find_ended([lost, going_on, "of-this-machine"], **asked) == {lost}
    [line] = lines
    assert lost in line
    server.fail("GET", "/runs/", 500)
    assert find_ended([lost, going_on], **asked) == set()
    assert "What is unfinished counts as under way." in lines[-1]


def test_runs_of_a_server_are_paged_and_only_ours(factory: Factory, tmp_path: Path):
    server = KfpApi()
    first = datetime(2026, 11, 1, tzinfo=UTC)
    for number in range(250):
        ours = number % 2 == 0
        spec = {"pipelineInfo": {"name": "defectline" if ours else "another"}, "root": {}}
        server.runs[f"id-{number}"] = api.V2beta1Run(
            run_id=f"id-{number}",
            display_name=f"defects-run {number}",
            # Those with settings for Kubernetes lie one level deeper.
            pipeline_spec={"pipeline_spec": spec, "platform_spec": {}} if number % 4 else spec,
            created_at=first + timedelta(hours=number),
            finished_at=first + timedelta(hours=number, minutes=30) if number < 240 else None,
            state="SUCCEEDED" if number < 240 else "RUNNING",
        )
    server.runs["id-0"].state = "FAILED"
    server.runs["id-0"].runtime_config = api.V2beta1RuntimeConfig(parameters={"store": str(tmp_path)})
    failed = Outcome(state="failed", reason="no node has a GPU")
    write_outcome(FolderStorage(tmp_path), "id-0", failed)
    with running(server):
        done = call("runs", "--host", server.host, "--limit", "1000", "--json")
        last = call("runs", "--host", server.host, "--limit", "3")
    rows = json.loads(done.stdout)
    assert [row["run"] for row in rows] == [f"id-{number}" for number in range(248, -1, -2)]
    assert (rows[0]["state"], rows[0]["minutes"]) == ("RUNNING", None)
    assert (rows[-1]["state"], rows[-1]["reason"], rows[-1]["minutes"]) == ("FAILED", "no node has a GPU", 30)
    assert (
        rows[0].keys() == json.loads(call("runs", "--store", factory.store.root, "--json").stdout)[0].keys()
    )
    assert [line.split()[0] for line in last.stdout.splitlines()[1:]] == ["id-248", "id-246", "id-244"]
