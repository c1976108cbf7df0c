"""Several models of one process, and what is told of all of them together."""

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import requests
from endpoints import (
    START_S,
    Running,
    error_of,
    expected,
    other_version,
    plate,
    post,
    process_of,
    publish_champion,
    version_of,
    wait_until_ready,
)
from networks import Judged, judge_model
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families
from servers import free_port
from tensors import infer

from defectline.components.serve.several import OfAll, named

PNG = plate()
OTHER = "v20260101-000000-0000aa"


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Judged:
    return judge_model(tmp_path_factory.mktemp("judged") / "one", pairs=24)


@pytest.fixture(scope="module")
def store(judged, tmp_path_factory) -> Path:
    """With the champions `plates` and `rings`, the same network in two versions."""
    root = tmp_path_factory.mktemp("store")
    publish_champion(judged.folder, judged.bundle.version, root)
    other_version(judged.folder, root.with_name("other") / "model", OTHER)
    publish_champion(root.with_name("other") / "model", OTHER, root, "rings")
    return root


@pytest.fixture(scope="module")
def served(store, tmp_path_factory) -> Iterator[Running]:
    port, grpc_port, log = free_port(), free_port(), tmp_path_factory.mktemp("log") / "serve.log"
    command = [sys.executable, "-m", "defectline.cli", "serve", "--store", str(store), "--port", str(port)]
    command += ["--name", "plates", "--name", "rings", "--grpc-port", str(grpc_port), "--watch", "0.1"]
    with process_of(command, log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, url, "plates", log)
        yield Running(url, f"127.0.0.1:{grpc_port}", process, log)


def ask(served: Running, name: str) -> requests.Response:
    return post(f"{served.url}/v1/models/{name}:predict", PNG, "image/png")


def test_each_is_asked_by_its_name_and_answers_as_it_would_alone(served, judged):
    alone = expected(judged, PNG)
    for name, version in (("plates", judged.bundle.version), ("rings", OTHER)):
        answered = ask(served, name).json()["predictions"][0]
        assert answered["model_version"] == version
        assert {key: answered[key] for key in alone} == alone
        described = requests.get(f"{served.url}/v2/models/{name}", timeout=60).json()
        assert (described["name"], described["versions"]) == (name, [version])
    assert "plates" in (said := served.log.read_text())
    assert f"rings {OTHER}" in said


def test_over_grpc(served, judged):
    for name, version in (("plates", judged.bundle.version), ("rings", OTHER)):
        assert infer(served.grpc, PNG, name=name).model_version == version
    with pytest.raises(grpc.RpcError, match=r"There is no model 'nuts'\. This server has plates, rings\."):
        infer(served.grpc, PNG, name="nuts")


def test_what_is_told_of_all(served):
    assert requests.get(f"{served.url}/v1/models", timeout=60).json() == {"models": ["plates", "rings"]}
    assert requests.get(f"{served.url}/v2/health/ready", timeout=60).json() == {"ready": True}
    unknown = ask(served, "nuts")
    assert unknown.status_code == 404
    assert "This server has plates, rings." in error_of(unknown)["message"]
    schema = requests.get(f"{served.url}/openapi.json", timeout=60).json()
    (name, *_) = schema["paths"]["/v1/models/{name}:predict"]["post"]["parameters"]
    assert name["schema"]["enum"] == ["plates", "rings"]


def test_the_page_of_each_leads_to_the_others(served):
    html = {"Accept": "text/html"}
    first = requests.get(served.url, headers=html, timeout=60).text
    assert 'data-model="plates"' in first
    assert '<a href="?model=rings">rings</a>' in first
    other = requests.get(f"{served.url}/?model=rings", headers=html, timeout=60).text
    assert 'data-model="rings"' in other


def test_metrics_tell_which_model(served):
    def verdicts() -> dict[str, float]:
        text = requests.get(f"{served.url}/metrics", timeout=60).text
        assert len(re.findall("^# TYPE defectline_verdicts_total", text, re.MULTILINE)) == 1
        assert len(re.findall("^process_start_time_seconds ", text, re.MULTILINE)) == 1
        found = dict.fromkeys(("plates", "rings"), 0.0)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "defectline_verdicts_total":
                    found[sample.labels["model_name"]] += sample.value
        return found

    before = verdicts()
    for _ in range(3):
        ask(served, "rings")
    after = verdicts()
    assert after == {"plates": before["plates"], "rings": before["rings"] + 3}


def test_another_champion_of_one_does_not_touch_the_other(served, store, judged, tmp_path):
    newer = "v20260102-000000-0000bb"
    other_version(judged.folder, tmp_path / "newer", newer)
    publish_champion(tmp_path / "newer", newer, store, "rings")
    served.wait_for("another model serves")
    assert version_of(ask(served, "rings")) == newer
    assert version_of(ask(served, "plates")) == judged.bundle.version
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(START_S) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


# Without a server


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("/v1/models/rings:predict", "", "rings"),
        ("/v2/models/rings/versions/v1/infer", "", "rings"),
        ("/v2/models/rings", "", "rings"),
        ("/v1/models", "model=rings", ""),
        ("/", "model=rings", "rings"),
        ("/", "", ""),
        ("/metrics", "model=rings", ""),
    ],
)
def test_which_model_a_request_names(path, query, name):
    assert named({"path": path, "query_string": query.encode()}) == name


def test_metrics_of_the_process_are_told_once():
    registries = {}
    for model in ("a", "b"):
        registries[model] = CollectorRegistry()
        Counter("defectline_asked", "How often.", ["code"], registry=registries[model]).labels("200").inc()
        Counter("defectline_review_written", "Frames.", registry=registries[model]).inc(5)
    told = {family.name: family.samples for family in OfAll(registries).collect()}
    totals = [one for one in told["defectline_asked"] if one.name.endswith("_total")]
    assert [(one.labels, one.value) for one in totals] == [
        ({"code": "200", "model_name": "a"}, 1.0),
        ({"code": "200", "model_name": "b"}, 1.0),
    ]
    assert [one.value for one in told["defectline_review_written"] if one.name.endswith("_total")] == [5.0]
