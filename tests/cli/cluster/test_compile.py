"""`defectline compile`: what the pipeline for a cluster holds, and what is said of its images."""

import json

import pytest
from commands import call

from defectline.components.common.errors import SettingsError
from defectline.pipeline.compiling import parse_kserve
from defectline.pipeline.images import TARGETS


def test_how_kserve_serves_is_compiled_in(package):
    text = package.read_text()
    for value in ("adopt: true", "min_replicas: '2'", "canary_steps: 5,50"):
        assert value in text
    for pair, says in [
        ("min_replica=2", "Did you mean min_replicas"),
        ("image=a:1", "no setting image for --kserve"),
        ("gpu", "Write --kserve gpu="),
    ]:
        with pytest.raises(SettingsError, match=says):
            parse_kserve([pair])


def test_runs_on_a_cluster_are_kept_apart_by_id(package):
    assert "pipeline_job_uuid" in package.read_text()
    assert "pipeline_job_name" not in package.read_text()


def test_without_a_lock_file_the_images_may_not_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("compile", "-o", "pipeline.yaml", "--gpus", "0")
    assert done.returncode == 0, done.stderr
    assert "There is no images.lock.json" in done.stdout
    assert "`make images PUSH=1`" in done.stdout
    (tmp_path / "images.lock.json").write_text(
        json.dumps({target: f"registry.local/defectline-{target}:1" for target in TARGETS})
    )
    done = call("compile", "-o", "pipeline.yaml", "--gpus", "0")
    assert done.returncode == 0, done.stderr
    assert "registry.local/defectline-ingest:1" in done.stdout
    assert "There is no" not in done.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--namespace", "Bad_NS"), "Bad_NS"),
        (("--s3-endpoint", "s3.example.com"), "--s3-endpoint"),
        (("--kserve", "url=gateway"), "http://HOST"),
        (("--mode", "fast"), "--mode"),
        (("--gitops", "objects.yaml", "--pipeline-namespace", "Bad_NS"), "--pipeline-namespace"),
    ],
)
def test_what_kubernetes_would_not_take_is_not_compiled(tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    done = call("compile", "--gpus", "0", *options)
    assert done.returncode == 2
    assert says in done.stderr
    assert "deployment_mode" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_login_without_a_registry_is_told_to_do_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    login = ("compile", "--gpus", "0", "--push-secret", "push")
    assert "--push-secret is for --kserve registry=" in call(*login).stdout
    assert "--push-secret" not in call(*login, "--kserve", "registry=registry.example.com/plates").stdout


def test_the_mode_may_be_written_small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("compile", "--gpus", "0", "--mode", "knative")
    assert done.returncode == 0, done.stderr
    assert "deployment_mode: Knative" in (tmp_path / "pipeline.yaml").read_text()


def test_the_name_in_a_file_must_fit_the_namespace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    (tmp_path / "plates.yaml").write_text(f"name: plates-of-zinc\ncluster: {{namespace: {'n' * 30}}}\n")
    done = call("compile", "-o", "pipeline.yaml", "--gpus", "0", "--config", "plates.yaml")
    assert done.returncode == 2
    assert "plates-of-zinc-candidate-predictor-nnnn" in done.stderr
    assert not (tmp_path / "pipeline.yaml").exists()
    shorter = call("compile", "-o", "pipeline.yaml", "--config", "plates.yaml", "--namespace", "vision")
    assert shorter.returncode == 0, shorter.stderr


def test_a_batch_that_cannot_be_shared_evenly_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--set batch_size=6" in call("compile", "--nodes", "3", "--gpus", "2").stdout
    assert "3 nodes share" in call("compile", "--nodes", "3", "--gpus", "0").stdout
    assert "share each batch" not in call("compile", "--nodes", "2", "--gpus", "2").stdout
    (tmp_path / "plates.yaml").write_text("parameters: {batch_size: 12}")
    assert "share each batch" not in call("compile", "--config", "plates.yaml", "--nodes", "6").stdout


def test_serving_on_a_gpu_goes_with_a_network_that_is_not_quantized(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    warning = "Run with --set quantize=false"
    assert warning not in call("compile", "--gpus", "0").stdout
    on_gpu = call("compile", "--gpus", "0", "--kserve", "gpu=1")
    assert on_gpu.returncode == 0, on_gpu.stderr
    assert warning in on_gpu.stdout
    (tmp_path / "plates.yaml").write_text("parameters: {quantize: false, epochs: 7}")
    assert warning not in call("compile", "--config", "plates.yaml", "--kserve", "gpu=1").stdout
