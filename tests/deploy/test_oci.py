"""Models as container images, in a real registry."""

import base64
import io
import json
import shutil
import tarfile
import time

import pytest
import requests
from registry import LOGIN, run_registry

from defectline.components.common.bundle import copy_served
from defectline.components.common.errors import ServingError, SettingsError
from defectline.components.deploy.kserve.deployer import publish
from defectline.components.deploy.oci import INDEX, MANIFEST, PLATFORMS, Repository, push


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


def pull(address: str, name: str, reference: str, kind: str) -> dict:
    url = f"http://{address}/v2/{name}/manifests/{reference}"
    found = requests.get(url, headers={"Accept": kind}, timeout=60)
    assert found.status_code == 200, found.text
    return found.json()


def test_it_has_what_the_predictor_reads_below_models(judged, server, tmp_path):
    pushed = push(judged.folder, judged.bundle, Repository.parse(f"oci://{server}/plates"))
    place, _, digest = pushed.partition("@")
    assert place == f"{server}/plates"
    index = pull(server, "plates", digest, INDEX)
    # The version is its tag.
    assert pull(server, "plates", judged.bundle.version, INDEX) == index
    assert [one["platform"]["architecture"] for one in index["manifests"]] == list(PLATFORMS)
    manifest = pull(server, "plates", index["manifests"][0]["digest"], MANIFEST)
    (layer,) = manifest["layers"]
    blob = requests.get(f"http://{server}/v2/plates/blobs/{layer['digest']}", timeout=60).content
    copy_served(judged.folder, tmp_path / "served")
    with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
        members = {one.name: one for one in tar.getmembers()}
        tar.extractall(tmp_path / "pulled", filter="data")
    pulled = tmp_path / "pulled" / "models"
    served = {
        path.relative_to(tmp_path / "served"): path.read_bytes()
        for path in (tmp_path / "served").rglob("*")
        if path.is_file()
    }
    assert {p.relative_to(pulled): p.read_bytes() for p in pulled.rglob("*") if p.is_file()} == served
    assert {(one.uid, one.gid, one.mtime) for one in members.values()} == {(0, 0, 0)}
    # Any user may read it: on OpenShift nobody knows which.
    assert {one.mode for one in members.values() if one.isfile()} == {0o644}
    config = requests.get(
        f"http://{server}/v2/plates/blobs/{manifest['config']['digest']}", timeout=60
    ).json()
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]


def test_the_same_bundle_is_the_same_image(judged, server, tmp_path):
    first = push(judged.folder, judged.bundle, Repository.parse(f"{server}/again:one"))
    copy = tmp_path / "copy"
    shutil.copytree(judged.folder, copy, copy_function=shutil.copyfile)
    time.sleep(1.1)  # Times of files count in seconds.
    (copy / "bundle.json").touch()
    assert push(copy, judged.bundle, Repository.parse(f"{server}/again:two")) == first
    assert push(judged.folder, judged.bundle, Repository.parse(f"{server}/again:one")) == first


def test_a_tag_that_is_moved_changes_nothing(judged, server, tmp_path):
    pushed = push(judged.folder, judged.bundle, Repository.parse(f"{server}/moved:now"))
    digest = pushed.partition("@")[2]
    before = pull(server, "moved", digest, INDEX)
    other = {**before, "annotations": {"x": "y"}}
    headers = {"Content-Type": INDEX}
    url = f"http://{server}/v2/moved/manifests/now"
    assert requests.put(url, json=other, headers=headers, timeout=60).status_code == 201
    assert pull(server, "moved", digest, INDEX) == before


def test_a_registry_that_asks_who_is_there(judged, tmp_path, monkeypatch):
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    with run_registry(tmp_path, login=True) as address:
        with pytest.raises(ServingError, match="does not take the image") as caught:
            # Nobody vouches for its certificate.
            push(judged.folder, judged.bundle, Repository.parse(f"{address}/plates"))
        assert "REQUESTS_CA_BUNDLE" in caught.value.fix
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
        with pytest.raises(ServingError) as caught:
            push(judged.folder, judged.bundle, Repository.parse(f"{address}/plates"))
        assert f"docker login {address}" in caught.value.fix
        auth = {"auths": {address: {"auth": base64.b64encode(b"plant:wrong").decode()}}}
        (folder / "config.json").write_text(json.dumps(auth))
        with pytest.raises(ServingError) as caught:
            push(judged.folder, judged.bundle, Repository.parse(f"{address}/plates"))
        assert f"docker login {address}" in caught.value.fix
        assert "wrong" not in str(caught.value)
        auth["auths"][address]["auth"] = base64.b64encode(LOGIN.encode()).decode()
        # As a secret of Kubernetes is mounted.
        (folder / "config.json").unlink()
        (folder / ".dockerconfigjson").write_text(json.dumps(auth))
        assert push(judged.folder, judged.bundle, Repository.parse(f"{address}/plates"))


def test_a_registry_that_is_not_there(judged):
    with pytest.raises(ServingError, match=r"The registry 127\.0\.0\.1:9 does not answer") as caught:
        push(judged.folder, judged.bundle, Repository.parse("127.0.0.1:9/plates"))
    assert caught.value.got == "Connection refused"
    assert "login" not in caught.value.fix
    with pytest.raises(ServingError, match=r"The registry none\.invalid does not answer") as caught:
        push(judged.folder, judged.bundle, Repository.parse("none.invalid/plates"))
    # In a line, and not what libraries wrapped around it.
    assert "HTTPSConnectionPool" not in caught.value.got


@pytest.mark.parametrize(
    "text",
    ["", "plates", "Plates.example.com/Plates", "r.example.com/", "oci://r.example.com/a b", "oci://h/x"],
)
def test_what_is_no_place(text):
    with pytest.raises(SettingsError, match="not a place for an image"):
        Repository.parse(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("oci://r.example.com/plates:1", ("r.example.com", "plates", "1")),
        ("r.example.com:5000/a/b-c", ("r.example.com:5000", "a/b-c", "")),
        ("localhost/x:v1.0", ("localhost", "x", "v1.0")),
    ],
)
def test_places(text, place):
    assert Repository.parse(text) == place


def test_deploy_names_the_digest(judged, server, store):
    uri = publish(judged.folder, judged.bundle, store, "defects", f"{server}/live")
    assert uri.startswith(f"oci+native://{server}/live@sha256:")
    # The next evaluation and a rollback need the whole bundle; nothing is published for pods to load.
    assert store.exists(f"models/defects/{judged.bundle.version}/SHA256SUMS")
    assert not any(store.list("serving/"))
