"""`defectline config`: what it prints. The file is tested in tests/pipeline/test_config.py."""

import json

import yaml
from commands import call

from defectline.pipeline.parameters import Parameters


def test_every_parameter_is_printed_as_a_file_and_for_programs():
    done = call("config")
    assert (done.returncode, done.stderr) == (0, "")
    parameters = set(Parameters.model_fields) - {"source", "store", "model_name"}
    printed = yaml.safe_load(done.stdout)
    assert parameters - set(printed["parameters"]) <= {"training", "force"}
    listed = json.loads(call("config", "--json").stdout)
    assert set(printed["parameters"]) <= {one["key"].rpartition(".")[2] for one in listed}


def test_a_variable_of_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    file = tmp_path / "plates.yaml"
    file.write_text(f"source: {tmp_path / 'nothing'}\nstore: {tmp_path / 'of-the-file'}\n")
    monkeypatch.setenv("DEFECTLINE_STORE", "ftp://of-the-variable")
    done = call("run", "--config", file)
    assert done.returncode == 2
    assert "of-the-variable" in done.stderr
