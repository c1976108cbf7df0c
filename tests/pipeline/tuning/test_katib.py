"""A Katib Experiment, and that its pods judge what Katib proposes."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_folds
import pytest
import yaml
from commands import call
from kubeflow_katib_api.models import V1beta1Experiment
from pictures import write_source

from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.images import reference
from defectline.pipeline.parameters import Parameters, parse
from defectline.pipeline.targets import Target
from defectline.pipeline.tuning.katib import experiment
from defectline.pipeline.tuning.options import Options, Pods
from defectline.pipeline.tuning.search import make_space

SEARCH = ("learning_rate=1e-4..1e-2", "decoder=pix2pix,light", "image_size=160..224", "tile=false,true")
PODS = Pods(
    "registry.example.com/tune:1",
    "vision",
    Target("cluster", s3_secret="s3-keys", s3_endpoint="https://s3.example.com"),
)


def made(parameters: Parameters, **options: object) -> dict[str, Any]:
    asked = Options(**{"trials": 9, "workers": 3, "search": SEARCH, **options})  # type: ignore[arg-type]
    return experiment(parameters, asked, make_space(SEARCH), PODS)


def test_it_is_one_of_katibs_objects():
    found = made(parse("s3://plates/a", "s3://plates/store", ["seed=4"], model_name="plates"))
    model = V1beta1Experiment.from_dict(found)
    assert model is not None
    # What Katib's models do not know, they leave out.
    assert model.to_dict() == found
    spec = found["spec"]
    assert (spec["maxTrialCount"], spec["parallelTrialCount"]) == (9, 3)
    assert spec["objective"]["type"] == "minimize"
    by_name = {one["name"]: one for one in spec["parameters"]}
    assert by_name["learning_rate"]["feasibleSpace"] == {
        "min": "0.0001",
        "max": "0.01",
        "distribution": "logUniform",
    }
    assert by_name["decoder"]["feasibleSpace"] == {"list": ["pix2pix", "light"]}
    assert by_name["image_size"]["feasibleSpace"] == {"min": "160", "max": "224", "step": "32"}
    assert by_name["tile"]["feasibleSpace"] == {"list": ["false", "true"]}
    references = {one["name"] for one in spec["trialTemplate"]["trialParameters"]}
    text = yaml.safe_dump(spec["trialTemplate"]["trialSpec"])
    assert set(re.findall(r"\$\{trialParameters\.(\w+)\}", text)) == references == by_name.keys()
    assert "s3-keys" in text
    assert made(parse("s3://a/b", "s3://a/c", []), objective="iou")["spec"]["objective"]["type"] == "maximize"


def test_a_pod_prints_what_the_values_come_to(tmp_path: Path):
    source = write_source(tmp_path / "source", range(40))
    given = ["training=weight_decay=0.001", "epochs=7"]
    found = made(parse(str(source), str(tmp_path / "store"), given), folds=2)
    (container,) = found["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"]
    values = {"learning_rate": "0.001", "decoder": "light", "image_size": "192", "tile": "true"}
    filled = [
        re.sub(r"\$\{trialParameters\.(\w+)\}", lambda one: values[one[1]], text)
        for text in container["command"]
    ]
    folder = Path(fake_folds.__file__).parent / "small_tuning"
    done = subprocess.run(
        [Path(sys.executable).with_name(filled[0]), *filled[1:]],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(folder)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = dict(re.findall(r"^(\w+)=([\d.]+)$", done.stdout, re.MULTILINE))
    assert printed.keys() == {"cost", "iou", "latency_ms", "memory_mb"}
    assert printed["latency_ms"] == "10.000000"
    assert float(printed["iou"]) == pytest.approx(38 / 40)
    # No trial of a study: Katib keeps count.
    assert not list(FolderStorage(tmp_path / "store").list("tuning/"))


@pytest.mark.usefixtures("clean")
def test_the_command_writes_it(tmp_path: Path):
    file = tmp_path / "experiment.yaml"
    command = ["tune", "--source", "s3://a/b", "--store", "s3://a/store", "--katib", file]
    done = call(*command, "--set", "decoder=light", "--trials", "5")
    assert done.returncode == 0, done.stderr
    assert reference("local") in done.stdout
    assert reference("local") in file.read_text()
    names = {one["name"] for one in yaml.safe_load(file.read_text())["spec"]["parameters"]}
    assert "learning_rate" in names
    assert "decoder" not in names
    local = call(
        "tune", "--source", tmp_path, "--store", "s3://a/store", "--katib", file, "--image", "tune:1"
    )
    assert (local.returncode, "cannot reach the source" in local.stderr) == (2, True)
