"""`defectline prune`"""

import json
import shutil

from commands import call, contents
from kfp_api import KfpApi, on, running

from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.kfp_server import transport


def test_nothing_is_removed_without_yes(factory, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(factory.store.root, store)
    unused = store / "pretrained/bbbbbbbbbbbb.keras"
    unused.parent.mkdir()
    unused.write_bytes(b"used by no run")
    before = contents(store)
    done = call("prune", "--store", store, "--keep", "1", "--age", "0")
    assert done.returncode == 0, done.stderr
    assert "bbbbbbbbbbbb" in done.stdout
    assert "nothing was removed, --yes does it" in done.stdout
    assert contents(store) == before
    listed = json.loads(call("prune", "--store", store, "--keep", "1", "--age", "0", "--json").stdout)
    assert (listed["removed"], bool(listed["items"])) == (False, True)
    done = call("prune", "--store", store, "--keep", "1", "--age", "0", "--yes")
    assert f"removed: {len(listed['items'])} things" in done.stdout
    assert not unused.exists()
    assert set(contents(store)) - {".run.lock"} < set(before)
    assert call("prune", "--store", store, "--keep", "1", "--age", "0").stdout.endswith("nothing to remove\n")


def test_a_run_that_was_lost_with_its_schedule_is_not_waited_for(factory, package, tmp_path, monkeypatch):
    store = tmp_path / "store"
    shutil.copytree(factory.store.root, store)
    prune = ("prune", "--store", store, "--keep", "1", "--yes")
    monkeypatch.setattr(transport, "RETRY_BACKOFF_S", 0)
    with running(KfpApi()) as server:
        made = call("schedule", "apply", *on(server, package), "--cron", "0 5 * * *")
        assert made.returncode == 0, made.stderr
        [schedule] = server.recurring_runs
        run = server.start_scheduled(schedule)
        FolderStorage(store).write(f"runs/{run}/quarantine.csv", b"")
        under_way = call(*prune, "--host", server.host)
        assert under_way.returncode == 2
        assert f"no outcome yet of {run}" in under_way.stderr
        assert "--host" in under_way.stderr
        call("schedule", "delete", "--host", server.host, "--force")
        assert call(*prune).returncode == 2, "nobody was asked"
        monkeypatch.setenv("KFP_HOST", server.host)
        assert json.loads(call(*prune[:-1], "--json").stdout)["under_way"] == []
        done = call(*prune)
        assert done.returncode == 0, done.stderr
        assert f"{run}, RUNNING on the server, is not under way: its schedule was deleted" in done.stderr
        assert "removed: " in done.stdout


def test_a_server_that_cannot_be_asked_changes_nothing(factory, tmp_path, monkeypatch):
    store = tmp_path / "store"
    shutil.copytree(factory.store.root, store)
    FolderStorage(store).write("runs/now/quarantine.csv", b"")
    monkeypatch.setattr(transport, "RETRY_BACKOFF_S", 0)
    with running(KfpApi()) as server:
        server.fail("GET", "/healthz", 500)
        done = call("prune", "--store", store, "--keep", "1", "--host", server.host, "--yes")
    assert done.returncode == 2
    assert "What is unfinished counts as under way." in done.stderr
    assert "no outcome yet of now" in done.stderr
