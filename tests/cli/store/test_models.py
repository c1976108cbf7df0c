"""`defectline models`"""

import json

from commands import call


def test_a_line_a_version(factory):
    done = call("models", "--store", factory.store.root)
    assert done.returncode == 0, done.stderr
    header, *lines = done.stdout.splitlines()
    assert " ".join(header.split()) == "model version state learned from IoU escape overkill snapshot"
    states = {version: state for _, version, state, *_ in (line.split() for line in lines) if "-" in version}
    assert [states[version] for version in factory.versions] == ["published", "champion", "refused"]
    assert "serves on this machine" in done.stdout


def test_for_programs(factory):
    found = json.loads(call("models", "--store", factory.store.root, "--json").stdout)
    assert [one["version"] for one in found] == factory.versions
    assert (found[1]["state"], found[1]["learned_from"]) == ("champion", "masks")


def test_a_model_that_is_not_there(factory):
    done = call("models", "--store", factory.store.root, "--name", "other")
    assert (done.returncode, done.stdout) == (0, f"no models called other in {factory.store.uri}\n")
