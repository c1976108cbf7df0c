"""`defectline metrics`"""

import json

from commands import call
from PIL import Image


def test_the_latest_are_compared_unless_others_are_named(factory, tmp_path):
    done = call("metrics", "--store", factory.store.root)
    assert done.returncode == 0, done.stderr
    named = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("run-")]
    assert named == ["run-1", "run-2", "run-3"]
    passed = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines() if "run-" in line}
    assert (passed["run-1"], passed["run-2"]) == ("passed", "passed")
    assert passed["run-3"] != "passed"
    (one,) = json.loads(call("metrics", "run-2", "--store", factory.store.root, "--json").stdout)
    assert (one["run"], one["version"]) == ("run-2", factory.versions[1])
    done = call("metrics", "run-1", "--store", factory.store.root, "--plot", tmp_path / "bars.png")
    assert done.stderr == f"drawn in {tmp_path / 'bars.png'}\n"
    with Image.open(tmp_path / "bars.png") as drawn:
        assert min(drawn.size) > 100
