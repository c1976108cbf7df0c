"""What the store remembers of deployments, also where an earlier version of defectline wrote it."""

import json
from pathlib import Path
from typing import Any

import pytest
from bundles import make_bundle
from cluster.world import NAME, NAMESPACE, SETTINGS

from defectline.components.common.bundle import publish_folder
from defectline.components.common.errors import StoreError
from defectline.components.common.layout import deployed_key, model_folder, unfinished_key
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.deploy.kserve.history import Deployed, History, Unfinished, spec_digest
from defectline.components.deploy.kserve.manifests import Manifest, inference_service


@pytest.fixture
def history(tmp_path: Path) -> History:
    (tmp_path / "store").mkdir()
    return History(FolderStorage(tmp_path / "store"), NAMESPACE, NAME)


def service(version: str) -> Manifest:
    return inference_service(NAME, version, f"s3://b/serving/{NAME}/{version}/", SETTINGS)


def test_how_a_version_was_deployed_is_read_as_written(history: History) -> None:
    assert history.deployed("v1") is None
    history.write_deployed("v1", "", SETTINGS, "one")
    history.write_deployed("v2", "v1", SETTINGS, "two")
    assert history.deployed("v2") == Deployed(previous="v1", settings=SETTINGS, run="two")
    assert history.versions() == ["v1", "v2"]
    assert json.loads(history.store.read(deployed_key(NAME, NAMESPACE, "v2")))["previous"] == "v1"


def test_a_repetition_keeps_what_served_before(history: History) -> None:
    history.write_deployed("v2", "v1", SETTINGS, "two")
    history.write_deployed("v2", "v2", SETTINGS, "three")
    assert history.deployed("v2") == Deployed(previous="v1", settings=SETTINGS, run="three")


def test_a_deployment_by_an_earlier_version_of_defectline_is_understood(history: History) -> None:
    record = {"former": "v1", "settings": SETTINGS.model_dump(mode="json")}
    history.store.write(deployed_key(NAME, NAMESPACE, "v2"), json.dumps(record).encode())
    assert history.deployed("v2") == Deployed(previous="v1", settings=SETTINGS)


def test_a_damaged_record_says_what_to_do(history: History) -> None:
    history.store.write(deployed_key(NAME, NAMESPACE, "v2"), b"{}")
    with pytest.raises(StoreError, match=r"v2\.json cannot be understood") as caught:
        history.deployed("v2")
    assert "Deploy that version by the pipeline again" in caught.value.fix


def test_before_the_first_service_there_is_nothing_to_go_back_to(history: History) -> None:
    assert history.before(None, service("v1")) == (None, {})


def test_the_spec_in_force_is_what_to_go_back_to(history: History) -> None:
    current = service("v1")
    current["metadata"]["labels"]["team"] = "glass"
    current["spec"]["canary"] = [{"trafficPercent": 10}]
    spec, metadata = history.before(current, service("v2"))
    assert spec == service("v1")["spec"]
    assert metadata["labels"] == {"app.kubernetes.io/managed-by": "defectline"}


OLD: dict[str, Any] = {"former": {"predictor": {"minReplicas": 3}}, "marks": {"labels": {"a": "b"}}}
"""As the version before wrote it."""


@pytest.mark.parametrize("earlier", [True, False])
def test_while_a_rollout_is_under_way_the_spec_before_it_is_what_to_go_back_to(
    history: History, earlier: bool
) -> None:
    current = service("v2")
    assert history.unfinished(current) is None
    if earlier:
        key = unfinished_key(NAME, NAMESPACE, spec_digest(current["spec"]))
        history.store.write(key, json.dumps(OLD).encode())
    else:
        history.begin(current["spec"], Unfinished(previous=OLD["former"], metadata=OLD["marks"]))
    assert history.unfinished(current) == Unfinished(previous=OLD["former"], metadata=OLD["marks"])
    assert history.before(current, service("v3")) == (OLD["former"], OLD["marks"])
    history.end(spec_digest(current["spec"]))
    assert history.unfinished(current) is None
    history.end(spec_digest(current["spec"]))


def test_the_rollouts_of_a_run_are_found(history: History) -> None:
    for version, run in (("v1", "one"), ("v2", "two")):
        history.begin(service(version)["spec"], Unfinished(previous=None, metadata={}, run=run))
    found = history.unfinished_of("two")
    assert found.keys() == {spec_digest(service("v2")["spec"])}
    assert history.unfinished_of("three") == {}


def test_a_damaged_record_of_a_rollout_says_what_to_do(history: History) -> None:
    current = service("v1")
    key = unfinished_key(NAME, NAMESPACE, spec_digest(current["spec"]))
    history.store.write(key, b"{}")
    with pytest.raises(StoreError, match="cannot be understood"):
        history.unfinished(current)


CHAMPION, NEW = service("v1")["spec"], service("v2")["spec"]
CANARY = {"predictor": {"labels": NEW["predictor"]["labels"]}, "trafficPercent": 10}


@pytest.mark.parametrize(
    ("spec", "ours"),
    [
        (NEW, True),
        ({**CHAMPION, "canary": [CANARY]}, True),
        # The last step back in Knative mode.
        ({"predictor": {**CHAMPION["predictor"], "canaryTrafficPercent": 0}}, True),
        (CHAMPION, False),
        (service("v3")["spec"], False),
        # A canary of another run.
        ({**CHAMPION, "canary": [{"predictor": service("v3")["spec"]["predictor"]}]}, False),
    ],
)
def test_which_specs_are_of_a_rollout(spec: Manifest, ours: bool) -> None:
    rollout = Unfinished(previous=CHAMPION, metadata={})
    assert rollout.writes(spec, spec_digest(NEW)) == ours


def test_golden_pictures_are_fetched_where_the_store_has_the_bundle(history: History, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    publish_folder(tmp_path / "bundle", history.store, model_folder(NAME, bundle.version))
    assert history.fetch_golden(bundle.version, tmp_path / "fetched") == bundle
    for golden in bundle.golden:
        for file in (golden.file, golden.mask_file):
            fetched = (tmp_path / "fetched/golden" / file).read_bytes()
            assert fetched == (tmp_path / "bundle/golden" / file).read_bytes()
    assert not (tmp_path / "fetched/openvino").exists()
    assert history.fetch_golden("v1", tmp_path / "none") is None
    history.store.write(f"{model_folder(NAME, 'v2')}/bundle.json", b"{}")
    assert history.fetch_golden("v2", tmp_path / "none") is None
