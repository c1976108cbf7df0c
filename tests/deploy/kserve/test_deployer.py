"""Deploying to KServe, rolling back and the status, through the real client and an S3 server."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from bundles import make_bundle
from cluster.api import Failure, Target
from cluster.world import KNATIVE, NAME, NAMESPACE, SETTINGS, TWO, World, kserve
from commands import call, defectline
from registry import run_registry

from defectline.components.common.errors import BundleError, ServingError, StoreError
from defectline.components.common.records import GateRecord, Outcome, write_gate, write_outcome
from defectline.components.common.storage import checksums
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.deploy.golden import Address
from defectline.components.deploy.kserve import live
from defectline.components.deploy.kserve.deployer import KServe, publish
from defectline.components.deploy.kserve.live import LiveService
from defectline.components.deploy.kserve.manifests import inference_service, serving_runtime
from defectline.components.deploy.kserve.settings import KServeSettings


@pytest.mark.parametrize("settings", [SETTINGS, KNATIVE], ids=["Standard", "Knative"])
def test_a_first_version_then_a_second(world: World, settings: KServeSettings) -> None:
    assert kserve(world.store, settings).champion() == ""
    for which in (0, 1):
        host = "defects-vision" if settings.deployment_mode == "Standard" else "defects.vision"
        assert world.deploy(which, settings) == f"at http://{host}.example"
        world.ask(which)
        version = world.bundles[which].version
        assert kserve(world.store, settings).champion() == version
        assert world.spec()["predictor"]["model"]["storageUri"] == world.store.url(
            f"serving/{NAME}/{version}/"
        )
    assert world.unfinished() == []


def test_a_model_as_an_image_and_back(world: World, tmp_path: Path) -> None:
    """The service names each by its digest, and going back finds the same again."""
    with run_registry(tmp_path) as address:
        settings = SETTINGS.model_copy(update={"registry": f"{address}/plates", "trust": "plates-trust"})
        uris = []
        for which in (0, 1):
            world.deploy(which, settings)
            uris.append(world.spec()["predictor"]["model"]["storageUri"])
            assert uris[-1].startswith(f"oci+native://{address}/plates@sha256:")
            assert world.spec()["predictor"]["model"]["args"] == [f"--version={world.bundles[which].version}"]
        assert uris[0] != uris[1]
        assert world.roll_back() == world.bundles[0].version
        assert world.spec()["predictor"]["model"]["storageUri"] == uris[0]


def test_an_api_server_that_is_away_for_a_while(world: World) -> None:
    """Nothing else tries again what a step could not do."""
    failures: list[str] = []

    def away(method: str, target: Target, query: dict[str, str]) -> None:
        if len(failures) < 3:
            failures.append(method)
            raise Failure(503, "ServiceUnavailable", "the server is currently unable to handle the request")

    deployer = kserve(world.store, SETTINGS)
    deployer.outage_s = 60
    world.api.before = away
    assert deployer.champion() == ""
    assert len(failures) == 3
    failures.clear()
    assert deployer.deploy(world.folders[0], world.bundles[0], "run").where.startswith("at http://")
    assert deployer.champion() == world.bundles[0].version
    failures.clear()
    deployer.outage_s = 0
    with pytest.raises(ServingError, match="now"):
        deployer.champion()
    assert len(failures) == 1
    world.api.before = lambda method, target, query: None


def test_what_is_published_is_what_the_predictor_reads_sealed(world: World, tmp_path: Path) -> None:
    world.deploy(0)
    version = world.bundles[0].version
    world.store.download_folder(f"serving/{NAME}/{version}", tmp_path / "pulled")
    checksums.verify(tmp_path / "pulled")
    names = {p.relative_to(tmp_path / "pulled").as_posix() for p in (tmp_path / "pulled").rglob("*.*")}
    assert names == {"bundle.json", "openvino/model.xml", "openvino/model.bin", "onnx/model.onnx"}


def test_a_second_deployment_of_the_same_version_changes_nothing(world: World) -> None:
    world.deploy(0)
    before = {found.key: found.version for found in world.store.list("serving/")}
    generation = world.service()["metadata"]["generation"]
    world.deploy(0)
    assert {found.key: found.version for found in world.store.list("serving/")} == before
    assert world.service()["metadata"]["generation"] == generation


def test_a_publication_that_was_cut_off_is_completed(world: World) -> None:
    prefix = f"serving/{NAME}/{world.bundles[0].version}"
    world.store.write(f"{prefix}/openvino/model.bin", b"half")
    world.deploy(0)
    assert (
        world.store.read(f"{prefix}/openvino/model.bin")
        == (world.folders[0] / "openvino/model.bin").read_bytes()
    )


class Recording(FolderStorage):
    """A folder that remembers the order of what was stored."""

    def __init__(self, root: Path):
        super().__init__(root)
        self.order: list[str] = []

    def upload(self, path: Path, key: str) -> None:
        self.order.append(Path(key).name)
        super().upload(path, key)

    def write(self, key: str, data: bytes) -> None:
        self.order.append(Path(key).name)
        super().write(key, data)


def test_the_checksums_are_published_last(tmp_path: Path) -> None:
    bundle, store = make_bundle(tmp_path / "bundle"), Recording(tmp_path / "store")
    publish(tmp_path / "bundle", bundle, store, NAME)
    assert store.order[:5] == ["bundle.json", "model.onnx", "model.bin", "model.xml", "SHA256SUMS"]
    # After what the predictor reads, the whole bundle.
    assert store.order[5:].count("SHA256SUMS") == 1
    assert store.order[-1] == "SHA256SUMS"
    assert "OK_mask.png" in store.order


def test_a_published_version_is_never_replaced(world: World) -> None:
    world.store.write(f"serving/{NAME}/{world.bundles[0].version}/SHA256SUMS", b"another\n")
    with pytest.raises(StoreError, match="holds another model under this version"):
        world.deploy(0)
    assert world.writes() == []


def test_a_service_of_another_owner_is_not_touched(world: World) -> None:
    service = inference_service(NAME, "v1", "s3://theirs/", SETTINGS)
    service["metadata"]["labels"] = {}
    world.api.put("inferenceservices", NAMESPACE, NAME, copy.deepcopy(service))
    with pytest.raises(ServingError, match="was not made by defectline"):
        world.deploy(0)
    with pytest.raises(ServingError, match="was not made by defectline"):
        kserve(world.store, SETTINGS).champion()
    assert world.writes() == []
    assert list(world.store.list()) == []


def test_a_service_is_adopted_only_where_that_is_asked_for(world: World) -> None:
    theirs: dict[str, Any] = inference_service(NAME, "v1", "s3://theirs/", SETTINGS)
    theirs["metadata"]["labels"] = {"team": "glass"}
    theirs["spec"] = {"predictor": {"sklearn": {"storageUri": "s3://theirs/"}, "minReplicas": 1}}
    world.api.put("inferenceservices", NAMESPACE, NAME, theirs)
    world.controller._on_write(Target("", "", "inferenceservices", NAMESPACE, NAME), theirs)
    with pytest.raises(ServingError, match="was not made by defectline") as caught:
        world.deploy(0)
    assert "--adopt" in caught.value.fix
    adopting = SETTINGS.model_copy(update={"adopt": True})
    world.script(0, "crash", only=NAME)
    with pytest.raises(ServingError, match="an unknown version still serves; the store contains no golden"):
        world.deploy(0, adopting)
    assert world.spec() == theirs["spec"]
    assert world.service()["metadata"]["labels"] == {"team": "glass"}
    world.script(0, "healthy", only=NAME)
    world.deploy(0, adopting)
    assert "sklearn" not in world.spec()["predictor"]
    assert world.service()["metadata"]["labels"]["team"] == "glass"
    world.ask(0)


def test_back_to_the_version_before_and_forth_again(world: World) -> None:
    other = SETTINGS.model_copy(update={"image": "registry.example/defectline-serve:0.0.9"})
    world.deploy(0, other)
    with pytest.raises(ServingError, match="cannot go back from"):
        world.roll_back()
    world.deploy(1, TWO)
    first, second = (bundle.version for bundle in world.bundles)
    assert world.roll_back() == first
    world.ask(0)
    predictor = world.spec()["predictor"]
    # The image that it ran in, and the number of pods as it was last.
    assert predictor["model"]["runtime"] == serving_runtime(other)["metadata"]["name"]
    assert predictor["minReplicas"] == 2
    assert world.status().previous == second
    assert world.roll_back() == second
    world.ask(1)
    assert world.roll_back(to=first) == first


def test_an_image_goes_back_with_the_gpus_that_it_ran_on(world: World) -> None:
    world.deploy(0)
    gpus = {"image": "registry.example/defectline-serve-gpu:0.1.0", "gpu": 1, "memory": "4Gi"}
    world.deploy(1, SETTINGS.model_copy(update=gpus))
    assert world.roll_back() == world.bundles[0].version
    expected = serving_runtime(SETTINGS.model_copy(update={"memory": "4Gi"}))
    assert world.spec()["predictor"]["model"]["runtime"] == expected["metadata"]["name"]


def test_a_rollback_that_fails_leaves_what_serves(world: World) -> None:
    for which in (0, 1):
        world.deploy(which)
    first, second = (bundle.version for bundle in world.bundles)
    world.script(0, "spoiled")
    with pytest.raises(ServingError, match=f"{first} was not deployed: {second} still serves"):
        world.roll_back()
    world.store.write(f"models/{NAME}/{first}/onnx/model.onnx", b"changed")
    with pytest.raises(BundleError, match=r"model\.onnx is not what was sealed"):
        world.roll_back()
    with pytest.raises(ServingError, match="was never deployed to namespace vision") as caught:
        world.roll_back(to="v1")
    assert first in caught.value.expected
    with pytest.raises(ServingError, match="Nothing of defectline serves others"):
        world.roll_back("others")
    world.ask(1)


def test_the_commands(world: World) -> None:
    world.deploy(0)
    world.deploy(1, TWO)
    first, second = (bundle.version for bundle in world.bundles)
    write_gate(world.store, NAME, GateRecord(run="run-7", snapshot="s", settings_key="{}"))
    write_outcome(world.store, "run-7", Outcome(state="refused", reason="max_escape"))
    where = ("--store", world.store.uri, "--namespace", NAMESPACE)
    shown = defectline("status", *where)
    assert shown.returncode == 0, shown.stderr
    for text in (second, "ready of 2", "http://defects-vision.example", first, "run-7: refused, max_escape"):
        assert text in shown.stdout
    done = defectline("rollback", *where)
    assert done.returncode == 0, done.stderr
    assert f"defects: {first} serves, {second} did before" in done.stdout
    world.ask(0)
    found = json.loads(defectline("status", *where, "--json").stdout)
    assert (found["version"], found["previous"], found["under_way"]) == (first, second, [])
    refused = defectline("rollback", *where, "--to", "v20200101-000000-000000")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "was never deployed" in refused.stderr


def test_a_gateway_that_only_the_pipeline_reaches_is_not_needed_to_go_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of the version name it; from here the API server leads to the pods."""
    monkeypatch.setattr(live, "REACH_S", 0.2)
    inner = SETTINGS.model_copy(
        update={"url": "http://gateway.example", "host_header": "defects-vision.example"}
    )
    world.endpoint.names = {"gateway.example"}
    world.endpoint.routes["gateway.example"] = NAME
    deploy_by_gateway(world, monkeypatch, inner)
    world.endpoint.names = set()
    assert world.roll_back() == world.bundles[0].version
    world.ask(0)


def deploy_by_gateway(world: World, monkeypatch: pytest.MonkeyPatch, settings: KServeSettings) -> None:
    """Both versions, one after the other, as a pipeline does that asks by a gateway of its own."""
    by_name = LiveService._at_gateway

    def at_name(self: LiveService, host: str) -> Address:
        return by_name(self, host)._replace(url=world.endpoint.url)

    with monkeypatch.context() as patched:
        patched.setattr(LiveService, "_at_gateway", at_name)
        for which in (0, 1):
            world.deploy(which, settings)


def test_a_gateway_can_be_named_for_the_way_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another than that of the settings; it is asked before anything is changed."""
    monkeypatch.setattr(KServe.__init__, "__defaults__", (0.01,))
    monkeypatch.setattr(live, "REACH_S", 0.2)
    for which in (0, 1):
        world.deploy(which)
    where = ("--store", world.store.uri, "--namespace", NAMESPACE)
    host, writes = ("--host-header", "defects-vision.example"), world.writes()
    lost = call("rollback", *where, *host, "--url", "http://127.0.0.1:1")
    assert lost.returncode == 2
    assert "defects cannot be asked from here, so nothing was changed" in lost.stderr
    assert world.writes() == writes
    # Without the right to ask through the API server.
    world.api.denied = {("create", "services/proxy")}
    refused = call("rollback", *where)
    assert refused.returncode == 2
    assert "not allowed: create services/proxy" in refused.stderr
    assert world.writes() == writes
    back = call("rollback", *where, *host, "--url", world.endpoint.url)
    assert back.returncode == 0, back.stderr
    world.ask(0)
    # The next one asks as the settings say.
    deployed = kserve(world.store, SETTINGS).history.deployed(world.bundles[0].version)
    assert deployed is not None
    assert deployed.settings.url == ""
