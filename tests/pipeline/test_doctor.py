"""`defectline doctor`, `--version`, and how quickly every command helps."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cluster.api import ApiServer
from commands import call, contents
from kfp_api import KfpApi, running
from labelled import write_files
from networks import write_source
from paths import ROOT
from servers import S3Server, free_port
from typer.main import get_command

import defectline.cli as cli
from defectline.pipeline import doctor
from defectline.pipeline.doctor import FILES, VARIABLES

HEAVY = (
    *("numpy", "cv2", "PIL", "pyarrow", "boto3", "google.cloud.storage", "kfp", "kfp_server_api"),
    *("tensorflow", "keras", "openvino", "kserve", "kubernetes", "matplotlib", "scipy", "sklearn"),
)


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    for name in [*VARIABLES, *(name for name in os.environ if name.startswith("DEFECTLINE_"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def examined(*options: str | Path) -> tuple[int, list[dict]]:
    done = call("doctor", "--json", *options)
    return done.returncode, json.loads(done.stdout)


def wrong(found: list[dict]) -> list[dict]:
    return [one for one in found if not one["ok"]]


def test_all_is_well_and_nothing_is_left(tmp_path):
    source, store = write_source(tmp_path / "source", 12), tmp_path / "store"
    store.mkdir()
    before = contents(tmp_path)
    server = KfpApi()
    with running(server):
        status, found = examined("--source", source, "--store", store, "--host", server.host)
    assert (status, wrong(found)) == (0, [])
    said = {one["check"]: one["found"] for one in found}
    assert said["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "version 2.17.0" in said["KFP server"]
    assert contents(tmp_path) == before


SOURCE = {
    "train/good/1.png": b"an image",
    "test/scratch/2.png": b"an image",
    "ground_truth/scratch/2_mask.png": b"a mask",
    "ground_truth/scratch/3_mask.png": b"a mask",
    "readme.txt": b"no image",
}


def test_what_a_source_holds_is_told(tmp_path):
    source = write_files(tmp_path / "source", SOURCE)
    status, found = examined("--source", source, "--store", tmp_path / "store")
    assert (status, wrong(found)) == (0, [])
    said = {one["check"]: one["found"] for one in found}["source"]
    assert "layout mvtec: train/good/ and ground_truth/ are those of MVTec AD" in said
    assert said.endswith("ignored 1 other files; 1 OK, 1 NG; 1 without a usable partner")


def test_a_source_that_no_reader_knows_is_found_before_a_run(tmp_path):
    source = write_files(tmp_path / "source", {"lines/a/1.png": b"an image"})
    status, found = examined("--source", source, "--store", tmp_path / "store")
    (said,) = wrong(found)
    assert (status, said["check"]) == (2, "source")
    assert "another layout" in said["found"]


def test_a_store_that_is_not_there_yet_is_not_made(tmp_path):
    status, found = examined("--store", tmp_path / "a/b")
    assert status == 0
    said = {one["check"]: one["found"] for one in found}
    assert "the first run makes it" in said["store"]
    assert said["disk"].endswith("GB free for the store")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("missing", "bad"), [(("kfp", "tensorflow"), []), (("kfp",), ["kfp"])])
def test_an_environment_that_serves_lacks_nothing(monkeypatch, tmp_path, missing, bad):
    there = [(name, "" if name in missing else version) for name, version in doctor.versions()]
    monkeypatch.setattr(doctor, "versions", lambda: there)
    found = [one for one in doctor.examine("", str(tmp_path), "", "", "") if one.check in dict(there)]
    assert [one.check for one in found if not one.ok] == bad


def test_what_is_wrong_is_said_with_its_fix(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    host = f"http://127.0.0.1:{free_port()}"
    options = ("--source", tmp_path / "empty", "--store", tmp_path / "file", "--host", host)
    status, found = examined(*options)
    assert status == 2
    assert [one["check"] for one in wrong(found)] == ["source", "store", "KFP server"]
    assert all(one["fix"] for one in wrong(found))
    shown = call("doctor", *options)
    assert shown.returncode == 2
    assert [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("wrong")] == [
        "source",
        "store",
        "KFP",
    ]
    assert shown.stdout.count("fix:") == 3


def test_a_bucket_with_and_without_rights(s3_server: S3Server, monkeypatch):
    for key, value in s3_server.env.items():
        monkeypatch.setenv(key, value)
    store = f"s3://{s3_server.new_bucket()}/factory"
    status, found = examined("--store", store)
    assert (status, wrong(found)) == (0, [])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.stranger_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.stranger_secret)
    status, found = examined("--store", store)
    assert (status, [one["check"] for one in wrong(found)]) == (2, ["store"])


def test_variables_are_named_and_their_values_are_not(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "my-secret-value")
    monkeypatch.setenv("DEFECTLINE_S3_PATH_STYLE", "my-other-value")
    for name in FILES:
        monkeypatch.setenv(name, str(tmp_path / "my-missing-file"))
    done = call("doctor", "--store", tmp_path / "store")
    assert "AWS_SECRET_ACCESS_KEY, " in done.stdout
    assert "DEFECTLINE_S3_PATH_STYLE" in done.stdout
    assert "AWS_ACCESS_KEY_ID is not set" in done.stdout
    assert done.stdout.count("names no file") == len(FILES)
    assert "my-" not in done.stdout + done.stderr
    assert done.returncode == 2


def test_a_lock_file_with_digests(tmp_path):
    digest = "@sha256:" + "0" * 64
    images = {
        name: f"registry.example/{name}{digest}"
        for name in ("ingest", "preprocess", "train", "evaluate", "deploy", "serve")
    }
    (tmp_path / "images.lock.json").write_text(json.dumps(images))
    _, found = examined("--store", tmp_path / "store")
    assert {one["check"]: one["found"] for one in found}["images"] == "images.lock.json: 6 of 6 with a digest"
    (tmp_path / "images.lock.json").write_text(json.dumps({"serve": "registry.example/serve:latest"}))
    status, found = examined("--store", tmp_path / "store")
    assert (status, [one["check"] for one in wrong(found)]) == (2, ["images"])


@pytest.mark.parametrize("locked", [True, False])
def test_images_that_variables_name_are_told_by_the_variables(tmp_path, monkeypatch, locked):
    names = ("ingest", "preprocess", "train", "evaluate", "deploy", "serve")
    if locked:
        images = {name: f"registry.example/{name}:1" for name in names}
        (tmp_path / "images.lock.json").write_text(json.dumps(images))

    def said() -> str:
        _, found = examined("--store", tmp_path / "store")
        return {one["check"]: one["found"] for one in found}["images"]

    others = "images.lock.json" if locked else "the names of this version, since there is no images.lock.json"
    assert said() == f"{others}: 0 of 6 with a digest"
    monkeypatch.setenv("DEFECTLINE_IMAGE_SERVE", "registry.example/serve@sha256:" + "0" * 64)
    named = "from DEFECTLINE_IMAGE_SERVE, the others from"
    assert said() == f"{named} {others}: 1 of 6 with a digest"
    for name in names:
        monkeypatch.setenv(f"DEFECTLINE_IMAGE_{name.upper()}", f"registry.example/{name}:2")
    named = ", ".join(f"DEFECTLINE_IMAGE_{name.upper()}" for name in names)
    assert said() == f"from {named}: 0 of 6 with a digest"


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("package") / "compiled.yaml"
    secrets = ("--s3-secret", "s3-keys", "--gcs-secret", "gcs", "--pull-secret", "login")
    done = call("compile", "-o", path, "--gpus", "0", *secrets, "--service-account", "server")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def api(tmp_path, monkeypatch) -> Iterator[ApiServer]:
    """A cluster where everything is that the pods of `package` need."""
    api = ApiServer()
    keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    api.put("secrets", "kubeflow", "s3-keys", {"data": dict(keys)})
    api.put("secrets", "kubeflow", "gcs", {"data": {"key.json": ""}})
    api.put("secrets", "kubeflow", "login", {"data": {".dockerconfigjson": ""}})
    api.put("serviceaccounts", "defectline", "server", {"secrets": [{"name": "store"}]})
    api.put("secrets", "defectline", "store", {"data": dict(keys)})
    with api.running():
        api.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield api


def secrets(package: Path, namespace: str = "") -> dict[str, list[tuple[bool | None, str]]]:
    found: dict[str, list[tuple[bool | None, str]]] = {}
    for one in doctor.examine("", "s3://plates/factory", "", namespace, "", package):
        found.setdefault(one.check, []).append((one.ok, one.found))
        assert bool(one.fix) == (one.ok is False)
    return {check: found[check] for check in ("step secrets", "served pods")}


def test_secrets_that_the_pods_find(package, api):
    assert secrets(package) == {
        "step secrets": [(True, "gcs, login, s3-keys in namespace kubeflow")],
        "served pods": [(True, "service account server and its secrets in namespace defectline")],
    }


def test_secrets_that_the_pods_would_miss(package, api):
    api.remove("secrets", "kubeflow", "s3-keys")
    api.remove("secrets", "kubeflow", "login")
    api.find("secrets", "kubeflow", "gcs")["data"] = {"google.json": ""}
    api.remove("secrets", "defectline", "store")
    found = secrets(package)
    assert [ok for ok, _ in found["step secrets"]] == [False] * 3
    said = "\n".join(text for _, text in found["step secrets"])
    assert "Secret s3-keys is missing in namespace kubeflow" in said
    assert "Secret login is missing in namespace kubeflow" in said
    assert "Secret gcs in namespace kubeflow lacks key.json. Got the keys google.json" in said
    [(ok, text)] = found["served pods"]
    assert (ok, "Secret store is missing" in text) == (False, True)
    assert len(secrets(package, "plant-7")["step secrets"]) == 3
    assert call("doctor", "--package", package, "--namespace", "plant-7").returncode == 2


def test_secrets_that_may_not_be_looked_at(package, api, tmp_path, monkeypatch):
    api.denied = {("get", "secrets"), ("get", "serviceaccounts")}
    found = [one for ones in secrets(package).values() for one in ones]
    assert len(found) == 4
    assert all(ok is None and text.startswith("not looked at: ") for ok, text in found)
    shutil.copy(package, "pipeline.yaml")
    status, listed = examined("--store", tmp_path / "store")
    assert (status, [one["ok"] for one in listed].count(None)) == (0, 4)
    shown = call("doctor", "--store", tmp_path / "store").stdout.splitlines()
    assert [line.split()[1] for line in shown if line.startswith("?")] == ["step", "step", "step", "served"]
    assert not {"step", "served"} & {line.split()[1] for line in shown if line.startswith("ok")}
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    found = [one for ones in secrets(package).values() for one in ones]
    assert [ok for ok, _ in found] == [None, None]
    assert all("No cluster is configured" in text for _, text in found)


def test_a_store_on_a_port_that_network_policies_close(tmp_path, api):
    package, host = tmp_path / "compiled.yaml", "http://minio.plant:9000"

    def looked(endpoint: str = host) -> list[doctor.Finding]:
        options = ("--s3-endpoint", endpoint, "--service-account", "server")
        assert call("compile", "-o", package, "--gpus", "0", *options).returncode == 0
        found = doctor.examine("", "s3://plates/factory", "", "", "", package)
        return [one for one in found if one.check == "store's port"]

    [one] = looked()
    assert (one.ok, one.found) == (True, f"port 9000 of {host}, which network policies let served pods reach")
    path = ROOT / "manifests/components/s3-keys/store-egress.yaml"
    api.put("networkpolicies", "defectline", "served-store", yaml.safe_load(path.read_text()))
    [one] = looked()
    assert one.ok is False
    assert f"port 443 alone; expected port 9000 of {host}" in one.found
    assert "An S3 server on another port" in one.fix
    assert looked("https://minio.plant") == []
    api.denied = {("list", "networkpolicies")}
    [one] = looked()
    assert one.ok is None
    assert "port 9000" in one.found


def test_a_package_that_is_none(tmp_path):
    (tmp_path / "compiled.yaml").write_text("a: b")
    for path in ("compiled.yaml", "missing.yaml"):
        status, found = examined("--store", tmp_path / "store", "--package", path)
        assert (status, [one["check"] for one in wrong(found)]) == (2, ["package"])


def commands() -> list[list[str]]:
    """Every command and group by its words."""
    found: list[list[str]] = []

    def visit(command, words: list[str]) -> None:
        found.append(words)
        for name, below in getattr(command, "commands", {}).items():
            visit(below, [*words, name])

    visit(get_command(cli.app), [])
    return found


def test_help_and_version_import_nothing_heavy():
    words = [*([*command, "--help"] for command in commands()), ["--version"]]
    assert len(words) > 20
    program = f"""
import json, sys
from defectline.pipeline import doctor
from defectline import cli
for words in {words!r}:
    try:
        cli.app(words, standalone_mode=False)
    except SystemExit:
        pass
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr.splitlines()[-1]) == []
    assert done.stdout.count("Usage:") == len(words) - 1


def test_the_versions_that_matter():
    done = call("--version")
    assert done.returncode == 0
    found = dict(line.split() for line in done.stdout.splitlines())
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"defectline", "kfp", "tensorflow", "openvino", "kserve"} <= found.keys()
    assert "Usage:" in call().stdout


def test_no_colours_where_there_is_no_terminal(tmp_path):
    done = call("doctor", "--store", tmp_path / "store")
    assert "\x1b" not in done.stdout + done.stderr


def test_a_disk_without_room_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "ROOM", 1e18)
    found = [one for one in doctor.examine("", str(tmp_path / "store"), "", "", "") if one.check == "disk"]
    assert [one.ok for one in found] == [False, False]
    assert found[1].fix == "Free some space, or use another disk for the store."
