"""The cluster side, through the real client, against a stand-in of the Kubeflow Pipelines API server."""

import hashlib
import json
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import islice
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import pytest
import requests
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp import compiler, dsl
from kfp_api import KfpApi, Request, running

from defectline.components.common.errors import DefectlineError, ServingError, SettingsError
from defectline.pipeline.kfp_server import client as kfp_server
from defectline.pipeline.kfp_server.cron import normalise_cron, times
from defectline.pipeline.kfp_server.runs import RunResult, submit
from defectline.pipeline.kfp_server.schedules import (
    Schedule,
    apply_schedule,
    delete_schedule,
    list_schedules,
    read_zone,
    run_request,
    switch_schedule,
)

TOKEN = "eyJhbGciOi-secret"
PARAMETERS: dict[str, object] = {"source": "s3://images/lgp", "epochs": 3, "force": True}


@dsl.component(base_image="python:3.11")
def measure(source: str, epochs: int) -> str:
    return f"{source} {epochs}"


@dsl.component(base_image="python:3.11")
def judge(text: str, force: bool) -> None:
    print(text, force)


@dsl.pipeline(name="tiny")
def tiny(source: str, epochs: int = 10, force: bool = False):
    measured = measure(source=source, epochs=epochs)
    with dsl.If(measured.output != "", name="anything"):
        judge(text=measured.output, force=force)


pytestmark = pytest.mark.filterwarnings("ignore:This client only works with:FutureWarning")


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kfp_server, "RETRY_BACKOFF_S", 0)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "pipeline.yaml"
    compiler.Compiler().compile(tiny, str(path))
    return path


@pytest.fixture
def server() -> Iterator[KfpApi]:
    with running(KfpApi()) as server:
        yield server


@pytest.fixture
def run(package: Path, server: KfpApi) -> Callable[..., RunResult]:
    def run(**changes: Any) -> RunResult:
        options: dict[str, Any] = {
            "host": server.host,
            "name": "first",
            "parameters": PARAMETERS,
            "timeout_s": 20.0,
            "poll_s": 0.001,
        }
        return submit(**({"package": package} | options | changes))

    return run


@pytest.fixture
def apply(package: Path, server: KfpApi) -> Callable[..., Schedule]:
    def apply(**changes: Any) -> Schedule:
        options: dict[str, Any] = {
            "host": server.host,
            "name": "nightly",
            "cron": "0 2 * * 1-5",
            "parameters": PARAMETERS,
        }
        return apply_schedule(**({"package": package} | options | changes))

    return apply


def assert_helps(error: DefectlineError, *words: str) -> None:
    """All four sentences are there, on one line each, with these words and without the token."""
    text = str(error)
    assert all([error.what, error.got, error.expected, error.fix])
    assert len(text.splitlines()) == 4
    assert TOKEN not in text
    for word in words:
        assert word in text


def self_signed(path: Path) -> ssl.SSLContext:
    """A server's context with a new certificate for 127.0.0.1, which also goes to `path`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    private = path.with_suffix(".key")
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, private)
    return context


# Runs.


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


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"source": "s3://x", "epoch": 3}, ("epoch", "epochs, force, source")),
        ({"epochs": 3}, ("also source", "give source")),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_anything_is_sent(run, server, parameters, words):
    with pytest.raises(SettingsError) as caught:
        run(parameters=parameters)

    assert_helps(caught.value, *words)
    assert server.requests == []


@pytest.mark.parametrize("content", [None, "", "a: [", "a: 1", "- 1"])
def test_a_package_that_is_none_is_refused(run, tmp_path, content):
    path = tmp_path / "other.yaml"
    if content is not None:
        path.write_text(content)

    with pytest.raises(SettingsError, match="no compiled pipeline") as caught:
        run(package=path)

    assert str(path) in caught.value.fix


def test_an_archived_experiment_is_refused(run, server):
    run(experiment="old")
    [experiment] = server.experiments.values()
    experiment.storage_state = "ARCHIVED"

    with pytest.raises(SettingsError) as caught:
        run(experiment="old")

    assert_helps(caught.value, "old is archived", "--experiment")
    assert len(server.runs) == 1


# Schedules.


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
    methods = [(one.method, one.path.split("/")[3]) for one in server.requests]
    assert methods[-2:] == [("POST", "recurringruns"), ("DELETE", "recurringruns")]


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


def test_a_failure_while_deleting_is_mended_by_the_same_command(apply, server):
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


def test_the_clock_change_moves_a_time_in_utc_only():
    zone = read_zone("Europe/Berlin")
    starts = list(islice(times("0 0 5 * * *", datetime(2026, 3, 28, tzinfo=zone)), 3))
    assert [(one.hour, one.astimezone(UTC).hour) for one in starts] == [(5, 4), (5, 3), (5, 3)]


# Namespaces and tokens.


def test_a_server_with_namespaces_needs_one(run, server):
    server.multi_user = True

    with pytest.raises(SettingsError) as caught:
        run()

    assert_helps(caught.value, "no namespace", "--namespace")


def test_the_namespace_goes_into_every_list_and_creation(run, apply, server):
    server.multi_user = True

    run(namespace="plant-7")
    apply(namespace="plant-7")

    assert not apply(namespace="plant-7").created
    [pipeline], [experiment] = server.pipelines.values(), server.experiments.values()
    assert pipeline.namespace == experiment.namespace == "plant-7"
    assert len(list_schedules(host=server.host, namespace="plant-7")) == 1
    assert list_schedules(host=server.host, namespace="plant-8") == []


def test_the_token_goes_with_every_request_and_nowhere_else(run, apply, server, capfd, caplog):
    server.token = TOKEN
    caplog.set_level(logging.DEBUG)

    run(token=f" {TOKEN}\n", wait=True)
    apply(token=TOKEN)

    assert {request.token for request in server.requests} == {f"Bearer {TOKEN}"}
    assert TOKEN not in "".join(capfd.readouterr()) + caplog.text


@pytest.mark.parametrize("token", [f"Bearer {TOKEN}", f"{TOKEN}\n{TOKEN}", f"{TOKEN}ü"])
def test_a_token_that_cannot_be_sent_is_refused_without_showing_it(run, server, token):
    with pytest.raises(SettingsError) as caught:
        run(token=token)

    assert_helps(caught.value, "KFP_TOKEN", "one word")
    assert server.requests == []


# Servers that do not do as asked.


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, SettingsError, ("400", "correct what the server names")),
        (401, SettingsError, ("401", "KFP_TOKEN")),
        (403, SettingsError, ("403", "plant-7", "edit rights")),
        (404, SettingsError, ("404", "--experiment")),
        (409, ServingError, ("409", "run the command again")),
        (418, ServingError, ("418", "ml-pipeline")),
        (500, ServingError, ("500", "ml-pipeline")),
        (503, ServingError, ("503", "try again later")),
    ],
)
def test_each_refusal_says_what_to_do(run, server, status, kind, words):
    body = json.dumps({"code": 2, "message": f"Bearer {TOKEN} will not do:\n\n  why", "details": []})
    server.fail("POST", "/runs", status, body)

    with pytest.raises(kind) as caught:
        run(token=TOKEN, namespace="plant-7")

    assert_helps(caught.value, server.host, "create the run", "Bearer <token> will not do: why", *words)
    assert len(server.bodies("/runs")) == 1


def test_reading_is_tried_again(run, server):
    server.fail("GET", "/healthz", 500, times=2)
    server.fail("GET", "/experiments", 503, times=1)

    assert run().state == "PENDING"


@pytest.mark.parametrize("status", [200, 404])
def test_a_web_page_is_no_kfp_server(run, server, status):
    server.fail("GET", "/healthz", status, "<html>Sign in</html>", content_type="text/html; charset=utf-8")

    with pytest.raises(SettingsError) as caught:
        run()

    assert_helps(caught.value, server.host, "does not answer as a Kubeflow Pipelines 2 server", "KFP_TOKEN")


def test_a_login_page_in_the_middle_is_not_taken_for_an_answer(run, server):
    server.fail("POST", "/runs", 200, "<html>Sign in</html>", content_type="text/html")

    with pytest.raises(SettingsError, match="login page"):
        run()


def test_a_long_message_is_cut(run, server):
    server.fail("POST", "/runs", 500, "x" * 5_000, content_type="text/plain")

    with pytest.raises(ServingError) as caught:
        run()

    assert len(caught.value.got) < 400


def test_an_unanswered_post_may_have_happened_and_is_not_repeated(run, server, monkeypatch):
    monkeypatch.setattr(kfp_server, "REQUEST_TIMEOUT_S", (5, 0.3))
    server.fail("POST", "/runs", 200, silent=True)

    with pytest.raises(ServingError) as caught:
        run()

    assert_helps(caught.value, "no answer within 0.3 s", "whether it happened all the same")
    assert len(server.bodies("/runs")) == 1


def test_nobody_listens(run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    with pytest.raises(ServingError) as caught:
        run(host=f"http://127.0.0.1:{port}")

    assert_helps(caught.value, f"127.0.0.1:{port}", "nobody listens", "port-forward")


def test_a_name_that_nobody_knows(run):
    with pytest.raises(SettingsError) as caught:
        run(host="http://kfp.invalid")

    assert_helps(caught.value, "no address for the name kfp.invalid", "--host")


def test_a_certificate_of_an_own_authority_is_trusted_through_ssl_cert_file(run, tmp_path, monkeypatch):
    context = self_signed(tmp_path / "ca.pem")
    with running(KfpApi(), tls=context) as server:
        with pytest.raises(SettingsError) as caught:
            run(host=server.host)
        assert_helps(caught.value, "self-signed certificate", "SSL_CERT_FILE")

        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert run(host=server.host).state == "PENDING"


def test_https_where_there_is_none(run, server):
    with pytest.raises(SettingsError) as caught:
        run(host=server.host.replace("http://", "https://"))

    assert_helps(caught.value, "no secure connection", "http://")


@pytest.mark.parametrize(
    "host", ["", "kubeflow.example.com", "ftp://a", "http://", "http://[1", "http://a:x", "https://u:pw@a"]
)
def test_an_address_that_is_none(run, host):
    with pytest.raises(SettingsError) as caught:
        run(host=host)

    assert_helps(caught.value, "--host", "https://kubeflow.example.com/pipeline")
    assert "pw" not in str(caught.value)


def test_an_address_may_be_copied_from_the_browser(run, server):
    assert run(host=f" {server.host}/#/runs ").url.startswith(f"{server.host}/#/runs/details/")


# Cron.


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    """A cron field: star, numbers, rising ranges, steps and lists of them."""
    number = st.integers(low, high)
    ends = st.tuples(number, number).filter(lambda pair: pair[0] < pair[1])
    plain = st.one_of(st.just("*"), number.map(str), ends.map(lambda pair: f"{pair[0]}-{pair[1]}"))
    stepped = st.tuples(plain, st.integers(1, max(high, 1))).map(lambda pair: f"{pair[0]}/{pair[1]}")
    return st.lists(st.one_of(plain, stepped), min_size=1, max_size=3).map(",".join)


# Days up to 28, which every month has.
five_fields = st.tuples(numbers(0, 59), numbers(0, 23), numbers(1, 28), numbers(1, 12), numbers(0, 6))


@settings(deadline=None, max_examples=50)
@given(fields=five_fields, gap=st.sampled_from([" ", "  ", "\t"]))
def test_five_fields_start_at_second_0(fields, gap):
    assert normalise_cron(gap.join(fields)) == "0 " + " ".join(fields)


@settings(deadline=None, max_examples=50)
@given(second=numbers(0, 59), fields=five_fields)
def test_six_fields_are_taken_as_they_are(second, fields):
    cron = " ".join([second, *fields])

    assert normalise_cron(cron) == cron
    assert normalise_cron(normalise_cron(cron)) == cron


@settings(deadline=None, max_examples=50)
@given(st.one_of(st.text(), st.text(alphabet="0123456789*/-,? LW#@monjan", max_size=20)))
def test_any_other_text_is_refused_or_has_six_fields(text):
    try:
        cron = normalise_cron(text)
    except SettingsError:
        return
    assert len(cron.split(" ")) == 6
    assert normalise_cron(cron) == cron


@pytest.mark.parametrize(
    "text",
    [
        "0 2 * *",
        "0 0 2 * * * 2026",
        "@daily",
        "60 * * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 7",
        "0 0 * * 5-1",
        "0 0 * * 3-3",
        "0 0 L * *",
        "0 0 * * 1#2",
        "0 0 15W * *",
        "H * * * *",
        "? * * * *",
        "*/0 * * * *",
        "1,,2 * * * *",
        "٣ * * * *",
        "0 0 30 feb *",
    ],
)
def test_what_kfp_and_cron_read_differently_is_refused(text):
    with pytest.raises(SettingsError) as caught:
        normalise_cron(text)

    assert_helps(caught.value, "0 2 * * 1-5")


@pytest.mark.parametrize("text", ["0 0 ? * MON-FRI", "0 0 29 2 *", "0 0 1 jan,jul ?", "5/15 * * * sun"])
def test_names_and_question_marks_are_accepted(text):
    assert normalise_cron(text) == f"0 {text}"


def test_a_bad_cron_is_refused_before_anything_is_sent(apply, server):
    with pytest.raises(SettingsError, match="cron"):
        apply(cron="whenever")

    assert server.requests == []
