"""`defectline prune`"""

import json
import shutil

from commands import call, contents


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
