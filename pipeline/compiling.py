"""From the definition to the YAML that a Kubeflow Pipelines server runs."""

from pathlib import Path

from kfp.compiler import Compiler

from defectline.components.common.errors import SettingsError
from defectline.components.common.settings import checked
from defectline.components.deploy.kserve_manifests import KServeSettings
from defectline.pipeline.definition import build
from defectline.pipeline.images import Images
from defectline.pipeline.targets import Target


def compile_pipeline(output: Path, lock: Path | None, target: Target) -> Images:
    """Write the compiled pipeline to `output`, whole or not at all, and return the images it names.

    Raises SettingsError.
    """
    images = Images.load(lock, gpu=target.gpus > 0)
    if target.kserve:
        checked(KServeSettings, image=images.serve, **target.kserve)
    beside = output.with_name(f".{output.name}.yaml")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        Compiler().compile(build(images, target), str(beside))
        beside.replace(output)
    except OSError as error:
        raise SettingsError(
            f"{output} cannot be written.",
            got=error.strerror or str(error),
            expected="a file's name in a folder that this user may write to",
            fix="Choose another --output.",
        ) from error
    finally:
        if output.parent.is_dir():
            beside.unlink(missing_ok=True)
    return images
