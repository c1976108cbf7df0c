"""`defectline package`"""

import re

import pytest
from bundles import make_bundle
from commands import call
from registry import run_registry

from defectline.components.common.bundle import publish_folder
from defectline.components.common.layout import model_folder
from defectline.components.common.storage import open_storage


@pytest.fixture
def published(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    store = open_storage(str(tmp_path / "store"))
    publish_folder(tmp_path / "bundle", store, model_folder("defects", bundle.version))
    return tmp_path / "store", bundle.version


def test_it_is_pushed_and_said_how_to_use_it(published, tmp_path):
    store, version = published
    with run_registry(tmp_path) as address:
        done = call("package", version[:-1], f"oci://{address}/plates", "--store", store)
    assert done.returncode == 0, done.stderr
    named, uri = done.stdout.splitlines()
    assert named == f"{address}/plates:{version}"
    assert re.fullmatch(rf"storageUri: oci\+native://{address}/plates@sha256:[0-9a-f]{{64}}", uri)


def test_a_wrong_place_and_a_wrong_version(published):
    store, version = published
    wrong = call("package", version, "plates", "--store", store)
    assert wrong.returncode == 2
    assert "That is not a place for an image." in wrong.stderr
    none = call("package", "v20200101-000000-000000", "oci://r.example.com/plates", "--store", store)
    assert none.returncode == 2
    assert "There is no bundle v20200101-000000-000000" in none.stderr
