"""What `approve` and `reject` have in common. What each of them does is tried in trust/."""

import inspect

import pytest
from commands import call
from networks import judge_model
from signed import asking

from defectline.cli.trust.approve import approve
from defectline.cli.trust.reject import reject
from defectline.components.deploy.step import deploy


def test_they_take_the_same():
    assert inspect.signature(approve) == inspect.signature(reject)
    assert approve.__doc__ != reject.__doc__


@pytest.fixture(scope="module")
def waiting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("waiting")
    judged = judge_model(folder / "one")
    version = deploy(asking(judged.folder, folder / "asks", "two"), str(judged.store), {}, "one")
    return judged.store, version


@pytest.mark.parametrize("word", ["approve", "reject"])
def test_the_start_of_a_version(waiting, word):
    store, version = waiting
    given = ("--store", store, "--as", word, "--reason", "x")
    none = call(word, "v19", *given)
    assert none.returncode == 2
    assert "There is no version v19." in none.stderr
    other = call(word, "v20200101-000000-000000", *given)
    assert other.returncode == 2
    assert "There is no version v20200101-000000-000000 of defects." in other.stderr
    done = call(word, version[:-2], *given)
    assert done.returncode == 0, done.stderr
    assert f"{version} is {'approved' if word == 'approve' else 'rejected'} by {word}" in done.stdout
    assert "audit --store" in done.stdout
