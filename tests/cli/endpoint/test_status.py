"""`defectline status`"""

import json

from commands import call


def test_a_fact_a_line(factory):
    done = call("status", "--store", factory.store.root)
    assert done.returncode == 0, done.stderr
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert facts["model"] == "defects on this machine"
    assert facts["version"] == factory.versions[1]
    found = json.loads(call("status", "--store", factory.store.root, "--json").stdout)
    assert (found["name"], found["version"], found["namespace"]) == ("defects", factory.versions[1], "")


def test_nothing_serves(tmp_path):
    done = call("status", "--store", tmp_path, "--name", "other")
    assert done.returncode == 0, done.stderr
    assert "none serves" in done.stdout
