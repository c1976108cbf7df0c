"""`defectline doctor`: a line a finding. The checks are tested in tests/pipeline/test_doctor.py."""

import json
import sys

import pytest
from commands import call

from defectline.components.common import installing
from defectline.pipeline import doctor


@pytest.mark.parametrize(
    ("clone", "fix"),
    [(True, "`make setup`"), (False, f'`{sys.executable} -m pip install "defectline[local]"`')],
)
def test_what_is_missing_is_installed_as_it_was(tmp_path, monkeypatch, clone, fix):
    monkeypatch.setattr(installing, "CLONE", clone)
    monkeypatch.setattr(doctor, "versions", lambda: [("python", "3.11.7"), ("kfp", "")])
    done = call("doctor", "--store", tmp_path)
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["ok", "python", "3.11.7"]
    assert lines[1].split() == ["wrong", "kfp", "not", "installed"]
    assert lines[2].split(maxsplit=1) == ["fix:", f"Run {fix}."]
    assert ("make" in done.stdout) == clone


def test_for_programs(tmp_path):
    done = call("doctor", "--store", tmp_path, "--json")
    checks = {one["check"]: one for one in json.loads(done.stdout)}
    assert checks["store"]["ok"]
    assert checks["python"]["fix"] == ""
