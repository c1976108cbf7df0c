"""The bundle: sealed once, and what the predictor and a store get of it."""

from pathlib import Path

import numpy as np
import pytest
from bundles import make_bundle

from defectline.components.common.bundle import (
    copy_served,
    mask_iou,
    publish_folder,
    read_bundle,
    seal_bundle,
)
from defectline.components.common.errors import BundleError, StoreError
from defectline.components.common.storage import checksums
from defectline.components.common.storage.folder import FolderStorage


def test_what_was_sealed_is_read(tmp_path: Path):
    sealed = make_bundle(tmp_path / "bundle")
    assert read_bundle(tmp_path / "bundle") == sealed
    assert (sealed.network, sealed.precision) == ("openvino/model.xml", "float32")
    served = sealed.model_copy(update={"served": "openvino_int8"})
    assert (served.network, served.precision) == ("openvino_int8/model.xml", "INT8")


def test_another_threshold_makes_another_version(tmp_path: Path):
    sealed = make_bundle(tmp_path / "bundle")
    draft = sealed.model_copy(update={"version": "", "created": "", "threshold": 0.6})
    other = seal_bundle(tmp_path / "bundle", draft)
    assert other.version[-6:] != sealed.version[-6:]
    assert read_bundle(tmp_path / "bundle") == other


@pytest.mark.parametrize("content", [None, "{", '{"version": "v1"}'])
def test_a_bundle_that_says_nothing_readable_is_named(tmp_path: Path, content: str | None):
    make_bundle(tmp_path / "bundle")
    file = tmp_path / "bundle/bundle.json"
    file.write_text(content) if content else file.unlink()
    checksums.seal(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"no readable bundle\.json"):
        read_bundle(tmp_path / "bundle")


def test_the_predictor_gets_a_sealed_part(tmp_path: Path):
    sealed = make_bundle(tmp_path / "bundle")
    copy_served(tmp_path / "bundle", tmp_path / "served")
    assert read_bundle(tmp_path / "served") == sealed
    found = {path.relative_to(tmp_path / "served").as_posix() for path in (tmp_path / "served").rglob("*.*")}
    assert found == {"bundle.json", "openvino/model.xml", "openvino/model.bin", "onnx/model.onnx"}


def test_a_bundle_is_published_once_and_never_over_another(tmp_path: Path):
    make_bundle(tmp_path / "one")
    make_bundle(tmp_path / "two", seed=1)
    store = FolderStorage(tmp_path / "store")
    publish_folder(tmp_path / "one", store, "models/defects/v1")
    before = {found.key: found.version for found in store.list()}
    publish_folder(tmp_path / "one", store, "models/defects/v1")
    assert {found.key: found.version for found in store.list()} == before
    checksums.verify(tmp_path / "store/models/defects/v1")
    with pytest.raises(StoreError, match="another model under this version"):
        publish_folder(tmp_path / "two", store, "models/defects/v1")


def test_masks_overlap():
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert mask_iou(a, b) == 1.0
    a[:2], b[1:3] = True, True
    assert mask_iou(a, b) == pytest.approx(4 / 12)
    assert mask_iou(a, ~a) == 0
