"""`defectline runs`: of a store, or of a server."""

import json

from commands import call
from kfp_api import KfpApi, on, running


def test_a_line_a_run_the_newest_first(factory):
    done = call("runs", "--store", factory.store.root)
    assert done.returncode == 0, done.stderr
    # A long reason goes on below its line.
    header, *lines = done.stdout.splitlines()
    # No run of this machine has a name.
    assert header.split() == ["run", "began", "(UTC)", "minutes", "state", "version", "reason"]
    assert [line.split()[0] for line in lines if line.startswith("run-")] == ["run-3", "run-2", "run-1"]
    assert "refused" in lines[0]
    found = json.loads(call("runs", "--store", factory.store.root, "--limit", "1", "--json").stdout)
    assert [(one["run"], one["state"]) for one in found] == [("run-3", "refused")]


def test_a_store_that_is_typed_wins_over_the_servers_variable(factory, package, monkeypatch):
    with running(KfpApi()) as server:
        started = call("submit", *on(server, package), "--name", "plates")
        assert started.returncode == 0, started.stderr
        monkeypatch.setenv("KFP_HOST", server.host)
        assert " plates 20" in call("runs").stdout
        assert "run-3" in call("runs", "--store", factory.store.root).stdout
        monkeypatch.setenv("DEFECTLINE_STORE", str(factory.store.root))
        assert " plates 20" in call("runs").stdout
        both = call("runs", "--store", factory.store.root, "--host", server.host)
        assert " plates 20" in both.stdout


def test_no_runs(tmp_path):
    assert call("runs", "--store", tmp_path).stdout == f"no runs in {tmp_path.as_uri()}\n"
