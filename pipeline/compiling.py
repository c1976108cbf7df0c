"""From the definition to the YAML that a Kubeflow Pipelines server runs."""

from pathlib import Path

from kfp.compiler import Compiler

from defectline.components.common.settings import checked
from defectline.components.deploy.kserve_manifests import KServeSettings
from defectline.pipeline.definition import build
from defectline.pipeline.images import Images
from defectline.pipeline.targets import Target


def compile_pipeline(output: Path, lock: Path | None, target: Target) -> None:
    """Write the compiled pipeline to `output`, whole or not at all. Raises SettingsError."""
    images = Images.load(lock, gpu=target.gpus > 0)
    if target.kserve:
        checked(KServeSettings, image=images.serve, **target.kserve)
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f".{output.name}.yaml")
    try:
        Compiler().compile(build(images, target), str(beside))
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)
