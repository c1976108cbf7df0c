"""`defectline rollback`: what it prints. The way back itself is tested in tests/deploy."""

import pytest
from commands import call

from defectline.cli import hints
from defectline.components.deploy.local import Local


def test_a_version_that_is_not_there(factory):
    done = call("rollback", "--store", factory.store.root, "--to", "v20200101-000000-000000")
    assert (done.returncode, done.stdout) == (2, "")
    assert "fix:" in done.stderr


def test_nothing_to_go_back_to(factory):
    done = call("rollback", "--store", factory.store.root)
    assert done.returncode == 2
    assert f"`{hints.program()} models` lists them" in done.stderr


@pytest.mark.parametrize(("to", "said"), [(0, ", {1} did before"), (1, ", as before")])
def test_what_serves_and_what_did(factory, monkeypatch, to, said):
    monkeypatch.setattr(Local, "roll_back", lambda self, to: to)
    versions = factory.versions
    # The start of a version will do.
    done = call("rollback", "--store", factory.store.root, "--to", versions[to][:-1])
    assert done.stdout == f"defects: {versions[to]} serves{said.format(*versions)}\n"


@pytest.mark.parametrize(
    "options", [("--url", "http://gateway"), ("--host-header", "a.b", "--namespace", "vision")]
)
def test_an_address_that_nothing_would_ask_is_refused(tmp_path, options):
    done = call("rollback", "--store", tmp_path, *options)
    assert done.returncode == 2
    assert "--url goes with --namespace" in done.stderr
