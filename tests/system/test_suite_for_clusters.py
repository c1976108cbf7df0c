"""The parts of the suite for a cluster that need none: what it is told, what it tells, how it cleans up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cluster.api import ApiServer
from e2e.cleaning import Cleaner
from e2e.knobs import NEEDED, OVERLAYS, VARIABLES, Knobs
from e2e.kube import REST
from e2e.summary import Row, as_markdown, as_text, first_line
from paths import ROOT
from servers import free_port

from defectline.components.common.errors import SettingsError
from defectline.pipeline.images import TARGETS, Images, reference

GIVEN = {
    "KUBECONFIG": "config",
    "KFP_HOST": "http://kfp",
    "E2E_STORE": "s3://plates/e2e/",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
}
OTHERS = {path.name for path in (ROOT / "manifests/overlays").iterdir()} - {*OVERLAYS}
ROWS = [
    Row("test_the_first_run_is_deployed", "passed", 61.4, "v1 serves"),
    Row("test_monitoring_is_admitted", "skipped", 0.0, "this cluster has no API monitoring"),
    Row("test_a_wrong_source_is_told", "failed", 3.0, "a | b"),
]


def test_names_are_its_own_and_the_store_is_a_folder_below():
    knobs = Knobs.read(GIVEN, "1a2b3c")
    assert (knobs.namespace, knobs.line, knobs.model) == ("e2e-1a2b3c", "e2e-1a2b3c-line", "e2e-1a2b3c")
    assert knobs.folder == "s3://plates/e2e/e2e-1a2b3c"
    assert (knobs.steps_namespace, knobs.overlay, knobs.timeout_s) == ("kubeflow", "s3", 1800)
    profile = Knobs.read({**GIVEN, "KFP_NAMESPACE": "vision"}, "1")
    assert profile.steps_namespace == "vision"


@pytest.mark.parametrize("name", NEEDED)
def test_what_is_missing_is_named_before_anything_is_done(name):
    with pytest.raises(SettingsError) as caught:
        Knobs.read({key: value for key, value in GIVEN.items() if key != name}, "1")
    assert name in caught.value.got


@pytest.mark.parametrize(
    ("name", "value"),
    [("E2E_STORE", "/tmp/store"), ("E2E_TIMEOUT_S", "soon"), ("E2E_TIMEOUT_S", "0"), ("E2E_SIZE", "-1")]
    + [("E2E_OVERLAY", name) for name in (*sorted(OTHERS), "s4")],
)
def test_what_is_wrong_is_named(name, value):
    with pytest.raises(SettingsError, match=name):
        Knobs.read({**GIVEN, name: value}, "1")


def test_every_variable_is_in_the_docs():
    page = (ROOT / "docs/test-cluster.md").read_text()
    for name, text in VARIABLES.items():
        assert f"| `{name}` | {text} |" in page


def test_cleaning_goes_backwards_and_on_after_a_failure():
    done: list[str] = []
    cleaner = Cleaner()
    cleaner.add("store", lambda: done.append("store"))
    cleaner.add("namespace a", lambda: 1 / 0)
    cleaner.add("secret", lambda: done.append("secret"))
    assert cleaner.clean() == ["namespace a (ZeroDivisionError: division by zero)"]
    assert done == ["secret", "store"]
    assert cleaner.clean() == []


def test_the_summary_has_a_line_a_test():
    text = as_text(ROWS)
    assert text.splitlines()[0] == "✓ the first run is deployed     61 s  v1 serves"
    page = as_markdown(ROWS, "a cluster", ["namespace e2e-1"])
    assert "a cluster: 1 passed, 1 failed, 1 skipped, 1 min." in page
    assert "| ✗ | a wrong source is told | 3 | a \\| b |" in page
    assert "Left behind: namespace e2e-1." in page
    assert first_line("\n  first\nsecond") == "first"


def test_every_kind_of_the_overlays_can_be_applied():
    """The suite applies what kubectl renders by itself, so it must know each kind."""
    import yaml

    kubectl = Path(sys.executable).with_name("kubectl")
    for overlay in OVERLAYS:
        made = subprocess.run(
            [kubectl, "kustomize", ROOT / "manifests/overlays" / overlay],
            capture_output=True,
            text=True,
            check=True,
        )
        kinds = {one["kind"] for one in yaml.safe_load_all(made.stdout) if one}
        assert kinds <= REST.keys(), overlay


def begin(**env: str) -> subprocess.CompletedProcess[str]:
    """The suite's first test, with these variables."""
    command = [sys.executable, "-m", "pytest", "tests/e2e", "-m", "e2e", "-q", "-k", "manifests"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **env},
    )


def test_without_a_cluster_it_says_what_it_needs():
    done = begin()
    assert done.returncode == 2
    assert "The suite does not know its cluster" in done.stdout + done.stderr
    assert "docs/test-cluster.md" in done.stdout + done.stderr


def test_what_does_not_answer_is_told_before_anything_is_made(tmp_path):
    nobody = f"127.0.0.1:{free_port()}"
    api, results = ApiServer(), tmp_path / "results"
    with api.running():
        api.write_kubeconfig(tmp_path / "kubeconfig")
    env = {
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "KFP_HOST": f"http://{nobody}",
        "AWS_ENDPOINT_URL_S3": f"http://{nobody}",
        "E2E_RESULTS": str(results),
    }
    done = begin(**GIVEN | env)
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    for what in (
        "The Kubernetes API does not answer",
        "Could not find Kubeflow Pipelines",
        "s3://plates/e2e",
    ):
        assert what in said
    assert said.count("fix:") == 3
    for word in ("Traceback", "left behind", "commands.log"):
        assert word not in said
    assert not results.exists()


def test_the_played_cluster_heeds_no_lock_file_and_no_variable_of_another(monkeypatch, tmp_path):
    from e2e.stand_in import environment

    theirs = (
        "E2E_REGISTRY",
        "KFP_NAMESPACE",
        "KFP_TOKEN",
        "E2E_OVERLAY",
        "E2E_TIMEOUT_S",
        "AWS_SESSION_TOKEN",
    )
    mine = {"E2E_RESULTS": "results", "E2E_KEEP": "1", "HOME": "/home", "E2E_STAND_IN": "1"}
    images = {"DEFECTLINE_IMAGE_INGEST": "registry.example/ingest:2"}
    found = environment({**dict.fromkeys(theirs, "x"), **mine, **images}, GIVEN)
    assert {**found, **mine, **GIVEN} == found
    assert not found.keys() & set(theirs)
    knobs = Knobs.read(found, "1")
    assert (knobs.registry, knobs.profile, knobs.overlay, knobs.timeout_s) == ("", "", "s3", 1800)
    monkeypatch.chdir(tmp_path)
    Path("images.lock.json").write_text(json.dumps({"ingest": "registry.example/ingest:1"}))
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    assert set(vars(Images.load()).values()) <= {reference(target) for target in TARGETS}
