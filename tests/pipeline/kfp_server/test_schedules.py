"""Recurring runs, against a stand-in of the Kubeflow Pipelines API."""

import hashlib
from datetime import UTC, datetime, timedelta

import kfp
import kfp_server_api
import pytest
import requests
import yaml
from kfp_api import Request
from small_pipeline import PARAMETERS, assert_helps

from defectline.components.common.errors import ServingError, SettingsError
from defectline.pipeline.kfp_server import schedules
from defectline.pipeline.kfp_server.schedules import (
    delete_schedule,
    list_schedules,
    read_zone,
    run_request,
    switch_schedule,
)

pytestmark = pytest.mark.filterwarnings("ignore:This client only works with:FutureWarning")


def test_a_schedule_neither_catches_up_nor_overlaps(apply, server, package):
    schedule = apply()

    [body] = server.bodies("/recurringruns")
    [version] = server.versions.values()
    assert version.display_name == hashlib.sha256(package.read_bytes()).hexdigest()[:12]
    assert version.pipeline_spec == yaml.safe_load(package.read_text())
    assert body.pop("experiment_id") in server.experiments
    assert body == {
        "display_name": "nightly",
        "max_concurrency": "1",
        "mode": "ENABLE",
        "no_catchup": True,
        "pipeline_version_reference": {
            "pipeline_id": version.pipeline_id,
            "pipeline_version_id": version.pipeline_version_id,
        },
        "runtime_config": {"parameters": PARAMETERS},
        "trigger": {"cron_schedule": {"cron": "0 0 2 * * 1-5"}},
    }
    assert schedule.created
    assert schedule.cron == "0 0 2 * * 1-5"


def test_a_schedule_names_its_next_three_times_in_utc(apply):
    first, second, third = apply(cron="30 2 * * *").next_times

    now = datetime.now(UTC)
    assert now < first <= now + timedelta(days=1)
    assert (first.hour, first.minute, first.second, first.utcoffset()) == (2, 30, 0, timedelta(0))
    assert second - first == third - second == timedelta(days=1)


def test_a_schedule_sends_what_kfps_own_client_sends(apply, server, monkeypatch):
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", "/nonexistent/context.json")
    apply()
    [version], [experiment_id] = server.versions.values(), server.experiments
    kfp.Client(host=server.host).create_recurring_run(
        experiment_id,
        "nightly",
        cron_expression="0 0 2 * * 1-5",
        max_concurrency=1,
        no_catchup=True,
        params=PARAMETERS,
        pipeline_id=version.pipeline_id,
        version_id=version.pipeline_version_id,
    )

    ours, theirs = server.bodies("/recurringruns")
    assert ours | {"max_concurrency": 1} == theirs


def test_the_same_schedule_twice_changes_nothing(apply, server):
    first = apply()
    before = len([one for one in server.requests if one.method != "GET"])

    second = apply(cron="0  0 2 * * 1-5")

    assert not second.created
    assert second.id == first.id
    assert len([one for one in server.requests if one.method != "GET"]) == before


@pytest.mark.parametrize(
    "change",
    [
        {"cron": "0 4 * * *"},
        {"parameters": {"source": "s3://images/other"}},
        {"experiment": "retraining"},
        {"package": "changed"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_schedule_replaces_the_old_one(apply, server, package, tmp_path, change):
    old = apply()
    if "package" in change:
        changed = tmp_path / "changed.yaml"
        changed.write_text(package.read_text() + "\n# another comment\n")
        change = {"package": changed}

    new = apply(**change)

    assert new.created
    assert new.id != old.id
    assert list(server.recurring_runs) == [new.id]
    assert len(server.pipelines) == 1
    # Made before the old one goes, which first starts no more runs, and is looked at only then.
    last = [(one.method, one.path.partition("recurringruns/")[2]) for one in server.requests][-4:]
    assert last == [("POST", ""), ("POST", f"{old.id}:disable"), ("GET", ""), ("DELETE", old.id)]


def test_a_schedule_that_was_switched_off_is_switched_on(apply, server):
    old = apply()
    server.recurring_runs[old.id].mode = "DISABLE"

    new = apply()

    assert new.created
    assert new.enabled
    assert list(server.recurring_runs) == [new.id]


def test_a_failure_while_creating_leaves_the_old_schedule(apply, server):
    old = apply()
    server.fail("POST", "/recurringruns", 500)

    with pytest.raises(ServingError) as caught:
        apply(cron="0 4 * * *")

    assert_helps(caught.value, "create the schedule", "500")
    assert list(server.recurring_runs) == [old.id]


def test_a_failure_while_deleting_is_fixed_by_the_same_command(apply, server):
    old = apply()
    server.fail("DELETE", "/recurringruns", 503, times=1)
    with pytest.raises(ServingError, match=f"delete the schedule nightly \\({old.id}\\)"):
        apply(cron="0 4 * * *")
    assert len(server.recurring_runs) == 2

    again = apply(cron="0 4 * * *")

    assert not again.created
    assert list(server.recurring_runs) == [again.id]


def test_other_peoples_schedules_are_left_alone(apply, server):
    theirs = kfp_server_api.V2beta1Pipeline(pipeline_id="theirs", display_name="Defectline")
    server.pipelines["theirs"] = theirs
    ours = apply()
    [experiment_id], [version_id] = server.experiments, server.versions
    reference = {"pipeline_id": "theirs", "pipeline_version_id": version_id}
    for source in ({"pipeline_spec": {"root": {}}}, {"pipeline_version_reference": reference}):
        job = {
            "display_name": "nightly",
            "experiment_id": experiment_id,
            "max_concurrency": "1",
            "mode": "ENABLE",
            "trigger": {"periodic_schedule": {"interval_second": "60"}},
        }
        server.create_recurring_run(Request("POST", "/recurringruns", {}, job | source, ""), None)

    assert [one.id for one in list_schedules(host=server.host)] == [ours.id]
    apply(cron="0 4 * * *")
    delete_schedule(host=server.host, name="nightly")

    assert len(server.recurring_runs) == 2
    assert list_schedules(host=server.host) == []


def test_a_periodic_schedule_made_by_hand_is_listed_without_cron(apply, server):
    apply()
    [job] = server.recurring_runs.values()
    periodic = kfp_server_api.V2beta1PeriodicSchedule(interval_second="60")
    job.trigger = kfp_server_api.V2beta1Trigger(periodic_schedule=periodic)

    [listed] = list_schedules(host=server.host)

    assert (listed.name, listed.cron, listed.next_times) == ("nightly", "", ())


def test_schedules_are_listed_over_several_pages_by_name(apply, server):
    names = ["weekly", "nightly", "monthly", "hourly", "yearly"]
    for name in names:
        apply(name=name)
    [off] = [job for job in server.recurring_runs.values() if job.display_name == "hourly"]
    off.mode = "DISABLE"

    schedules = list_schedules(host=server.host)

    assert [one.name for one in schedules] == sorted(names)
    assert [len(one.next_times) for one in schedules] == [0, 3, 3, 3, 3]
    assert not schedules[0].enabled
    assert not any(one.created for one in schedules)


def test_a_server_without_the_pipeline_has_no_schedules(server):
    assert list_schedules(host=server.host) == []


def test_deleting_a_schedule_that_is_not_there_names_those_that_are(apply, server):
    apply(name="weekly")

    with pytest.raises(SettingsError) as caught:
        delete_schedule(host=server.host, name="nightly")

    assert_helps(caught.value, "no schedule named nightly", "weekly")
    delete_schedule(host=server.host, name="weekly")
    assert server.recurring_runs == {}


def test_a_paused_schedule_has_no_times_until_it_is_resumed(apply, server):
    made = apply()

    [paused] = switch_schedule(host=server.host, name="nightly", enabled=False)
    [listed] = list_schedules(host=server.host)
    assert (paused.id, paused.enabled, paused.next_times) == (made.id, False, ())
    assert listed == paused
    [resumed] = switch_schedule(host=server.host, name="nightly", enabled=True)
    assert (resumed.enabled, len(resumed.next_times)) == (True, 3)
    assert list_schedules(host=server.host) == [resumed]
    with pytest.raises(SettingsError, match="no schedule named weekly"):
        switch_schedule(host=server.host, name="weekly", enabled=False)


def test_a_schedule_may_follow_the_latest_version(apply, server, package, tmp_path, capsys):
    first = apply(latest=True)
    [body] = server.bodies("/recurringruns")
    assert body["pipeline_version_reference"] == {"pipeline_id": next(iter(server.pipelines))}
    assert first.follows_latest
    assert not apply(latest=True).created

    newer = tmp_path / "newer.yaml"
    newer.write_text(package.read_text() + "\n# newer\n")
    said: list[str] = []
    assert not apply(name="pinned", package=newer, say=said.append).follows_latest
    assert said == ["follow the latest version too: nightly"]
    assert len(server.versions) == 2
    assert not apply(latest=True, package=newer).created
    with pytest.raises(SettingsError) as caught:
        apply(latest=True)
    assert_helps(caught.value, "is not the latest version", "--latest")

    pinned = apply()
    assert pinned.created
    assert not pinned.follows_latest


def test_an_older_server_is_named_and_keeps_to_one_version(apply, run, server):
    server.version = "2.16.1"
    said: list[str] = []

    assert not apply(latest=True, say=said.append).follows_latest
    assert run(say=said.append).state == "PENDING"

    assert "2.16.1" in said[0]
    assert "stays at this version" in said[0]
    assert "2.17 or later" in said[1]
    for version in ("2.17.0", "3.0.0", "", "nightly"):
        server.version, said = version, []
        apply(latest=True, say=said.append)
        assert said == []


def test_what_a_schedule_starts_can_be_started_by_a_post(apply, server):
    apply()

    request = run_request(host=server.host, name="nightly")

    reply = requests.post(f"{server.host}/apis/v2beta1/runs", json=request, timeout=10)
    assert reply.status_code == 200, reply.text
    [run] = server.runs.values()
    [job] = server.recurring_runs.values()
    assert run.runtime_config.parameters == PARAMETERS
    assert run.pipeline_version_reference == job.pipeline_version_reference
    assert run.experiment_id == job.experiment_id


@pytest.mark.parametrize("verb", ["disable", "enable"])
@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [(401, SettingsError, "KFP_TOKEN"), (404, SettingsError, "--namespace"), (500, ServingError, "later")],
)
def test_a_refusal_to_pause_or_resume_says_what_to_do(apply, server, verb, status, kind, words):
    apply()
    server.fail("POST", f":{verb}", status)

    with pytest.raises(kind) as caught:
        switch_schedule(host=server.host, name="nightly", enabled=verb == "enable")

    assert_helps(caught.value, str(status), words, "the schedule nightly")


def test_times_are_told_in_the_time_zone_of_the_controller(apply):
    zone = read_zone("Asia/Tokyo")
    first, *_ = apply(cron="30 2 * * *", zone=zone).next_times
    assert (first.hour, first.minute, first.utcoffset()) == (2, 30, timedelta(hours=9))
    assert first > datetime.now(UTC)
    for name in ("Europe/Berln", "../etc/passwd", ""):
        with pytest.raises(SettingsError) as caught:
            read_zone(name)
        assert "CRON_SCHEDULE_TIMEZONE" in caught.value.fix


def test_a_bad_cron_is_refused_before_anything_is_sent(apply, server):
    with pytest.raises(SettingsError, match="cron"):
        apply(cron="whenever")

    assert server.requests == []


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "RUNTIME_STATE_UNSPECIFIED", None])
def test_a_change_leaves_a_run_that_is_under_way_alone(apply, server, state):
    old = apply()
    run = server.start_scheduled(old.id, state)
    lines: list[str] = []

    new = apply(cron="0 4 * * *", say=lines.append)

    assert server.lost == set()
    assert server.recurring_runs[old.id].mode == "DISABLE"
    assert server.recurring_runs[new.id].mode == "ENABLE"
    assert run in lines[-1]
    shown = list_schedules(host=server.host)
    assert [(one.id, one.leftover) for one in shown] == [(new.id, False), (old.id, True)]

    # The same command again: still under way, then ended.
    apply(cron="0 4 * * *", say=lines.append)
    assert set(server.recurring_runs) == {old.id, new.id}
    server.runs[run].state = "SUCCEEDED"
    assert apply(cron="0 4 * * *").id == new.id
    assert list(server.recurring_runs) == [new.id]


def test_a_run_that_starts_while_its_schedule_is_replaced_is_seen(apply, server):
    old = apply()
    answer = server.answer

    def answer_late(request, upload):
        found = answer(request, upload)
        if request.path.endswith(f"{old.id}:disable"):
            server.start_scheduled(old.id)
        return found

    server.answer = answer_late
    apply(cron="0 4 * * *")
    assert server.lost == set()
    assert old.id in server.recurring_runs


def test_pausing_and_resuming_leave_a_leftover_off(apply, server):
    old = apply()
    server.start_scheduled(old.id)
    new = apply(cron="0 4 * * *", say=lambda line: None)

    for enabled, mode in ((False, "DISABLE"), (True, "ENABLE")):
        switch_schedule(host=server.host, name="nightly", enabled=enabled)
        assert server.recurring_runs[new.id].mode == mode
        assert server.recurring_runs[old.id].mode == "DISABLE"
    version = run_request(host=server.host, name="nightly")["pipeline_version_reference"]
    assert version["pipeline_version_id"] == new_version(server, new.id)


def new_version(server, job_id):
    return server.recurring_runs[job_id].pipeline_version_reference.pipeline_version_id


def test_deleting_refuses_to_kill_a_run(apply, server):
    job = apply()
    run = server.start_scheduled(job.id)

    with pytest.raises(ServingError) as caught:
        delete_schedule(host=server.host, name="nightly")

    assert_helps(caught.value, run, "--timeout", "--force")
    assert server.lost == set()
    assert server.recurring_runs[job.id].mode == "DISABLE"


def test_deleting_waits_for_a_run(apply, server):
    job = apply()
    run = server.start_scheduled(job.id)
    lines: list[str] = []

    def say(line):
        lines.append(line)
        server.runs[run].state = "FAILED"

    delete_schedule(host=server.host, name="nightly", wait_s=60, poll_s=0.001, say=say)
    assert server.recurring_runs == {}
    assert server.lost == set()
    assert len(lines) == 1
    assert run in lines[0]


def test_deleting_by_force_says_what_it_kills(apply, server):
    job = apply()
    run = server.start_scheduled(job.id)
    lines: list[str] = []

    delete_schedule(host=server.host, name="nightly", force=True, say=lines.append)

    assert server.recurring_runs == {}
    assert server.lost == {run}
    assert run in lines[0]


def test_deleting_switches_all_of_a_name_off_before_it_refuses(apply, server):
    old = apply()
    server.fail("POST", f"/recurringruns/{old.id}:disable", 500, times=1)
    with pytest.raises(ServingError):
        apply(cron="0 4 * * *")
    [new] = server.recurring_runs.keys() - {old.id}
    server.start_scheduled(new)

    with pytest.raises(ServingError, match="would kill its run"):
        delete_schedule(host=server.host, name="nightly")
    assert {job.mode for job in server.recurring_runs.values()} == {"DISABLE"}


@pytest.mark.parametrize("paused", [False, True])
def test_what_a_schedule_was_about_to_start_is_waited_for(apply, server, monkeypatch, paused):
    job = apply()
    if paused:
        switch_schedule(host=server.host, name="nightly", enabled=False)
    started: list[str] = []
    monkeypatch.setattr(schedules.time, "sleep", lambda _: started.append(server.start_scheduled(job.id)))
    with pytest.raises(ServingError, match="would kill its run"):
        delete_schedule(host=server.host, name="nightly")
    assert len(started) == 1
    assert server.lost == set()
