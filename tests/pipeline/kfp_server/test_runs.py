"""Runs on a server: submitted, followed and listed, against a stand-in of the Kubeflow Pipelines API."""

import json
from datetime import UTC, datetime, timedelta

import kfp
import kfp_server_api as api
import pytest
import yaml
from commands import call
from kfp_api import KfpApi, running
from small_pipeline import PARAMETERS, TOKEN, assert_helps
from stores import Factory

from defectline.components.common.errors import ServingError, SettingsError
from defectline.pipeline.kfp_server.runs import RunResult

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
        "run: PENDING",
        "measure: RUNNING",
        "run: RUNNING",
        "measure: SUCCEEDED",
        "judge: RUNNING",
        "judge: SUCCEEDED",
        "run: SUCCEEDED",
    ]


def test_a_failed_run_is_an_answer_that_names_the_step(run, server):
    server.script = (
        ("RUNNING", {"measure": "RUNNING"}),
        ("FAILED", {"measure": "FAILED: OOMKilled (exit code 137)"}),
    )
    lines: list[str] = []

    assert run(wait=True, say=lines.append).state == "FAILED"
    assert "measure: FAILED, OOMKilled (exit code 137)" in lines


def test_a_cancelled_run_is_an_answer(run, server):
    server.script = (("CANCELING", {}), ("CANCELED", {}))

    assert run(wait=True).state == "CANCELED"


def test_a_run_that_does_not_end_in_time_is_left_running(run, server):
    server.script = (("RUNNING", {}),)

    with pytest.raises(ServingError) as caught:
        run(wait=True, timeout_s=0.05)

    [run_id] = server.runs
    assert_helps(caught.value, run_id, "state RUNNING", f"{server.host}/#/runs/details/{run_id}")


def test_a_server_that_fails_while_waiting_is_asked_again(run, server, monkeypatch):
    # Four answers of 500 are one request with its three repetitions.
    server.fail("GET", "/runs/", 500, times=8)
    lines: list[str] = []

    assert run(wait=True, say=lines.append).state == "SUCCEEDED"
    assert len([line for line in lines if "asking again" in line]) == 1


def test_a_token_that_runs_out_while_waiting_ends_the_wait(run, server):
    server.fail("GET", "/runs/", 401, "token is expired", content_type="text/plain")

    with pytest.raises(SettingsError) as caught:
        run(wait=True, token=TOKEN)

    assert_helps(caught.value, "token is expired", "KFP_TOKEN")


def test_runs_of_a_server_are_paged_and_only_ours(factory: Factory):
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
    server.runs["id-0"].error = api.GoogleRpcStatus(message="no node has a GPU")
    server.runs["id-0"].state = "FAILED"
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
    assert [line.split()[2] for line in last.stdout.splitlines()[1:]] == ["id-248", "id-246", "id-244"]
