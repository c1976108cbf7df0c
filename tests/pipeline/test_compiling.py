"""The files that `compile` writes, and the images in them."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import yaml
from commands import defectline
from compiled import CLUSTER, tasks

from defectline.components.common.errors import SettingsError
from defectline.pipeline.compiling import compile_manifests, compile_pipeline, parse_kserve
from defectline.pipeline.images import GPU_TARGETS, TARGETS, reference


def test_compile_command(tmp_path):
    lock = tmp_path / "images.lock.json"
    digest = "sha256:" + "ab" * 32
    locked = {t: f"registry.example.com/defectline-{t}@{digest}" for t in TARGETS if t not in GPU_TARGETS}
    lock.write_text(json.dumps(locked))
    output = tmp_path / "out/pipeline.yaml"
    done = defectline("compile", "-o", output, "--images", lock, "--gpus", "0", "--shards", "4")
    assert done.returncode == 0, done.stderr
    assert f"registry.example.com/defectline-ingest@{digest}" in output.read_text()
    assert "[0, 1, 2, 3]" in output.read_text()
    assert "train-gpu" not in output.read_text()
    assert "ghcr.io" not in output.read_text()
    assert [p.name for p in output.parent.iterdir()] == ["pipeline.yaml"]
    done = defectline("compile", "-o", output, "--images", lock, "--gpus", "1")
    assert done.returncode == 2
    assert "names no image for train-gpu" in done.stderr


@pytest.mark.parametrize("gpu", [{}, {"gpu": "0"}, {"gpu": "1"}])
def test_pods_with_gpus_get_the_image_for_gpus(tmp_path, gpu):
    package, objects = tmp_path / "pipeline.yaml", tmp_path / "objects.yaml"
    target = dataclasses.replace(CLUSTER, kserve={**CLUSTER.kserve, **gpu})
    expected = reference("serve-gpu" if gpu == {"gpu": "1"} else "serve")
    assert compile_pipeline(package, None, target).serve == expected
    assert [one["image"] for one in kserve_of(package)] == [expected] * 2
    compile_manifests(objects, package, None, target, "kfp")
    _, version = yaml.safe_load_all(objects.read_text())
    assert version["spec"]["pipelineSpec"] == next(yaml.safe_load_all(package.read_text()))


def test_a_lock_file_without_the_image_for_gpus(tmp_path):
    lock = tmp_path / "lock.json"
    lock.write_text(json.dumps({t: f"registry.example.com/{t}:1.2.0" for t in TARGETS if t != "serve-gpu"}))
    target = dataclasses.replace(CLUSTER, kserve={**CLUSTER.kserve, **parse_kserve(["gpu=1"])})
    with pytest.raises(SettingsError, match="names no image for serve-gpu") as caught:
        compile_pipeline(tmp_path / "pipeline.yaml", lock, target)
    assert "--kserve gpu=0" in caught.value.fix


def kserve_of(compiled: Path) -> list[dict]:
    """The settings of KServe that find-champion and deploy are given."""
    spec, _ = yaml.safe_load_all(compiled.read_text())
    found = [
        task["inputs"]["parameters"]["kserve"]["runtimeValue"]["constant"]
        for name, task in tasks(spec)
        if name in ("find-champion", "deploy")
    ]
    assert len(found) == 2
    return found


def test_compile_as_kubernetes_objects(tmp_path):
    package, objects = tmp_path / "pipeline.yaml", tmp_path / "gitops/pipeline.yaml"
    done = defectline(
        "compile", "-o", package, "--gpus", "0", "--gitops", objects, "--pipeline-namespace", "kfp"
    )
    assert done.returncode == 0, done.stderr
    version = hashlib.sha256(package.read_bytes()).hexdigest()[:12]
    assert f"its version {version}, for namespace kfp" in done.stdout
    pipeline, one = yaml.safe_load_all(objects.read_text())
    assert {pipeline["apiVersion"], one["apiVersion"]} == {"pipelines.kubeflow.org/v2beta1"}
    assert (pipeline["kind"], one["kind"]) == ("Pipeline", "PipelineVersion")
    assert pipeline["metadata"] == {"name": "defectline", "namespace": "kfp"}
    assert one["metadata"] == {"name": f"defectline-{version}", "namespace": "kfp"}
    assert (one["spec"]["pipelineName"], one["spec"]["displayName"]) == ("defectline", version)
    spec, platform = yaml.safe_load_all(package.read_text())
    assert (one["spec"]["pipelineSpec"], one["spec"]["platformSpec"]) == (spec, platform)


def test_compile_to_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for output in (tmp_path / "file/pipeline.yaml", tmp_path):
        done = defectline("compile", "-o", output)
        assert done.returncode == 2, done.stderr
        assert "cannot be written" in done.stderr


def test_compile_refuses_what_kserve_would(tmp_path):
    done = defectline("compile", "-o", tmp_path / "pipeline.yaml", "--mode", "Serverless")
    assert done.returncode == 2
    assert "--mode" in done.stderr
    assert not (tmp_path / "pipeline.yaml").exists()
