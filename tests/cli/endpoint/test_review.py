"""`defectline review`"""

import json
import shutil
from pathlib import Path

import pytest
from commands import call, contents
from networks import write_source


@pytest.fixture
def line(factory, tmp_path) -> Path:
    """A store with one frame of the line, about which nothing was decided."""
    shutil.copytree(factory.store.root, tmp_path / "store")
    (decision,) = (tmp_path / "store").glob("review/*/*/*.decision.json")
    decision.unlink()
    return tmp_path / "store"


def frame(store: Path) -> dict[str, object]:
    (row,) = json.loads(call("review", "list", "--store", store, "--json").stdout)
    return row


def test_a_line_a_frame(line):
    done = call("review", "list", "--store", line)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[0] == str(frame(line)["id"])[:12]
    assert call("review", "list", "--store", line, "--name", "other").stdout == "no frames for review\n"


def test_a_frame_is_accepted_by_a_prefix_and_exported(line, tmp_path):
    id = str(frame(line)["id"])
    done = call("review", "accept", id[:8], "--as", "OK", "--store", line)
    assert done.stdout == f"{id}: accepted as OK\n"
    source = tmp_path / "source"
    write_source(source, 12)
    before = contents(source)
    done = call("review", "export", "--source", source, "--store", line)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1 exported, 0 there already"
    added = {name for name in contents(source) if name not in before}
    assert {name.partition("/")[0] for name in added} == {"OK", "OK_MSK"}
    done = call("review", "export", "--source", source, "--store", line)
    assert done.stdout.splitlines()[-1] == "0 exported, 1 there already"


def test_one_mask_does_not_fit_several_frames(line, tmp_path):
    done = call("review", "accept", "a", "b", "--as", "NG", "--mask", tmp_path / "m.png", "--store", line)
    assert done.returncode == 2
    assert "--mask with 2 ids" in done.stderr


def test_a_frame_that_is_not_there(line):
    done = call("review", "accept", "zz", "--as", "OK", "--store", line)
    assert done.returncode == 2
    assert "fix:" in done.stderr
