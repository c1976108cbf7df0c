"""`defectline approve`: from a run that waits to a champion."""

import pytest
from commands import call
from networks import judge_model
from signed import asking

from defectline.components.common.storage import open_storage
from defectline.components.deploy.step import deploy


@pytest.fixture
def waiting(tmp_path):
    judged = judge_model(tmp_path / "one")
    version = deploy(asking(judged.folder, tmp_path / "asks", "required"), str(judged.store), {}, "one")
    return judged.store, version


def test_yes(waiting):
    store, version = waiting
    shown = call("runs", "--store", store)
    assert "awaiting_approval" in shown.stdout
    done = call("approve", version, "--store", store, "--as", "Ada", "--reason", "looked at it")
    assert done.returncode == 0, done.stderr
    assert f"{version} is approved by Ada, and the champion on this machine" in done.stdout
    said = call("audit", "--store", store)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "looked at it" in said.stdout
    assert open_storage(str(store)).exists("models/defects/current.json")


def test_a_reason_is_asked_for(waiting):
    store, version = waiting
    done = call("approve", version, "--store", store, "--as", "Ada")
    assert done.returncode == 2
    assert "The reason is missing." in done.stderr
    assert not open_storage(str(store)).exists("models/defects/current.json")


def test_a_wrong_key(waiting, tmp_path):
    store, version = waiting
    given = ("approve", version, "--store", store, "--as", "Ada", "--reason", "x", "--key", tmp_path / "none")
    done = call(*given)
    assert done.returncode == 2
    assert "cannot be read" in done.stderr
