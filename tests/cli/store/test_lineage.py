"""`defectline lineage`"""

import json
import shutil

from commands import call

from defectline.components.common.storage.folder import FolderStorage


def test_the_champion_is_taken_and_named(factory):
    done = call("lineage", "--store", factory.store.root)
    assert done.returncode == 0, done.stderr
    champion = factory.versions[1]
    assert done.stderr == f"defects {champion}, the latest champion\n"
    first, second, *_ = done.stdout.splitlines()
    assert first.split() == ["model", "defects", champion]
    assert second.split()[:2] == ["state", "champion,"]
    assert str(factory.source) in done.stdout
    found = json.loads(call("lineage", "--store", factory.store.root, "--json").stdout)
    assert found == json.loads(call("lineage", champion, "--store", factory.store.root, "--json").stdout)


def test_without_a_champion_it_is_the_latest_version(factory, tmp_path):
    shutil.copytree(factory.store.root, tmp_path / "store")
    store = FolderStorage(tmp_path / "store")
    store.delete("models/defects/current.json")
    done = call("lineage", "--store", store.root)
    assert done.stderr == f"defects {max(factory.versions)}, the latest version\n"


def test_of_an_image(factory):
    done = call("lineage", "NG/new-1", "--store", factory.store.root)
    assert done.returncode == 0, done.stderr
    assert factory.runs[1].snapshot in done.stdout


def test_a_store_without_models(tmp_path):
    done = call("lineage", "--store", tmp_path)
    assert done.returncode == 2
    assert "The store holds no models." in done.stderr
