"""`defectline schedule` against the stand-in of the KFP API."""

import json
from collections.abc import Iterator

import pytest
from commands import call, defectline
from kfp_api import KfpApi, on, running

from defectline.components.common.ports import free_port

SCHEDULES = "/recurringruns"


@pytest.fixture
def server() -> Iterator[KfpApi]:
    with running(KfpApi()) as server:
        yield server


def test_schedule_apply_list_delete(server, package):
    apply = ["schedule", "apply", *on(server, package), "--name", "plates", "--cron"]
    first = call(*apply, "0 5 * * *")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "0 0 5 * * *" in first.stdout
    assert first.stdout.count(" UTC") == 3
    assert call(*apply, "0 5 * * *").returncode == 0
    (body,) = server.bodies(SCHEDULES)
    assert (body["no_catchup"], body["max_concurrency"]) == (True, "1")
    assert "plates" in call("schedule", "list", "--host", server.host).stdout
    (listed,) = json.loads(call("schedule", "list", "--host", server.host, "--json").stdout)
    assert (listed["name"], listed["cron"], len(listed["next_times"])) == ("plates", "0 0 5 * * *", 3)
    assert listed["follows_latest"] is False
    told = call("schedule", "list", "--host", server.host, "--time-zone", "Asia/Tokyo").stdout
    assert told.count(" 05:00:00 Asia/Tokyo, 20:00:00 UTC") == 3
    assert call("schedule", "list", "--host", server.host, "--time-zone", "Tokio").returncode == 2
    which = ["--host", server.host, "--name", "plates"]
    assert "paused" in call("schedule", "pause", *which).stdout
    assert "paused" in call("schedule", "list", "--host", server.host).stdout
    assert call("schedule", "resume", *which).stdout.count(" UTC") == 3
    request = json.loads(call("schedule", "request", *which).stdout)
    assert request["runtime_config"]["parameters"]["source"] == "s3://plates/a"
    assert call("schedule", "pause", "--host", server.host, "--name", "other").returncode == 2
    assert call("schedule", "delete", "--host", server.host, "--name", "plates").returncode == 0
    assert "no schedules" in call("schedule", "list", "--host", server.host).stdout


def test_schedules_that_were_made_by_hand_are_listed_as_kfp_reads_them(server, package):
    for name in ("hourly", "shifted"):
        made = call("schedule", "apply", *on(server, package), "--cron", "0 5 * * *", "--name", name)
        assert made.returncode == 0, made.stderr
    for job in server.recurring_runs.values():
        job.trigger.cron_schedule.cron = "@every 1h" if job.display_name == "hourly" else "10 10 * * *"
    shown = call("schedule", "list", "--host", server.host).stdout
    assert "hourly  @every 1h" in shown
    assert shown.count("next times are not known") == 1
    assert "shifted  10 10 * * * *" in shown
    assert shown.count(":10:10 UTC") == 3


def test_a_name_that_kserve_cannot_serve_makes_no_schedule(server, package):
    done = call("schedule", "apply", *on(server, package), "--cron", "0 5 * * *", "--name", "a" * 39)
    assert done.returncode == 2
    assert "KServe cannot serve a model called" in done.stderr
    assert not server.bodies(SCHEDULES)


def test_wrong_cron(server, package):
    done = call("schedule", "apply", *on(server, package), "--cron", "every day")
    assert done.returncode == 2
    assert "fix:" in done.stderr
    assert not server.bodies(SCHEDULES)


def test_no_server_answers(package):
    done = defectline("schedule", "list", "--host", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "fix:" in done.stderr
