"""compile → submit → schedule by the command line, against the stand-in of the KFP API."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import call, defectline
from kfp_api import KfpApi, running

from defectline.components.common.errors import SettingsError
from defectline.components.common.ports import free_port
from defectline.pipeline.compiling import parse_kserve

RUNS = "/runs"
SCHEDULES = "/recurringruns"


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    pairs = ["--kserve", "min_replicas=2", "--kserve", "max_replicas=2", "--kserve", "canary_steps=5,50"]
    options = ["--namespace", "vision", "--gpus", "1", "--s3-secret", "s3-keys", "--adopt", *pairs]
    done = defectline("compile", "-o", path, *options)
    assert done.returncode == 0, done.stderr
    assert "vision" in done.stdout
    return path


@pytest.fixture
def server() -> Iterator[KfpApi]:
    with running(KfpApi()) as server:
        yield server


def test_how_kserve_serves_is_compiled_in(package):
    text = package.read_text()
    for value in ("adopt: true", "min_replicas: '2'", "canary_steps: 5,50"):
        assert value in text
    for pair, says in [
        ("min_replica=2", "Did you mean min_replicas"),
        ("image=a:1", "image=a:1 sets nothing"),
        ("gpu", "Write --kserve gpu="),
    ]:
        with pytest.raises(SettingsError, match=says):
            parse_kserve([pair])


def on(server: KfpApi, package: Path) -> list[str]:
    return [
        "--host",
        server.host,
        "--package",
        str(package),
        "--source",
        "s3://plates/a",
        "--store",
        "s3://plates/b",
    ]


def test_submit_and_wait(server, package):
    done = defectline("submit", *on(server, package), "--set", "epochs=3", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCEEDED" in done.stdout
    (body,) = server.bodies(RUNS)
    parameters = body["runtime_config"]["parameters"]
    assert (parameters["epochs"], parameters["source"], parameters["model_name"]) == (
        3,
        "s3://plates/a",
        "defects",
    )


def test_parameters_are_checked_before_anything_is_sent(server, package):
    done = defectline("submit", *on(server, package), "--set", "epochs=none")
    assert done.returncode == 2
    assert "epochs" in done.stderr
    assert not server.bodies(RUNS)


def test_schedule_apply_list_delete(server, package):
    apply = ["schedule", "apply", *on(server, package), "--name", "plates", "--cron"]
    first = defectline(*apply, "0 5 * * *")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "0 0 5 * * *" in first.stdout
    assert first.stdout.count("UTC") == 3
    assert defectline(*apply, "0 5 * * *").returncode == 0
    (body,) = server.bodies(SCHEDULES)
    assert (body["no_catchup"], body["max_concurrency"]) == (True, "1")
    assert "plates" in defectline("schedule", "list", "--host", server.host).stdout
    (listed,) = json.loads(call("schedule", "list", "--host", server.host, "--json").stdout)
    assert (listed["name"], listed["cron"], len(listed["next_times"])) == ("plates", "0 0 5 * * *", 3)
    assert defectline("schedule", "delete", "--host", server.host, "--name", "plates").returncode == 0
    assert "no schedules" in defectline("schedule", "list", "--host", server.host).stdout


def test_wrong_cron(server, package):
    done = defectline("schedule", "apply", *on(server, package), "--cron", "every day")
    assert done.returncode == 2
    assert "fix:" in done.stderr
    assert not server.bodies(SCHEDULES)


def test_nobody_answers(package):
    done = defectline("schedule", "list", "--host", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "fix:" in done.stderr
