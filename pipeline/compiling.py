"""From the definition to the YAML that a Kubeflow Pipelines server runs."""

from pathlib import Path

from kfp.compiler import Compiler

from defectline.components.common.errors import SettingsError
from defectline.components.common.settings import checked, did_you_mean
from defectline.components.deploy.kserve_manifests import KServeSettings
from defectline.pipeline.definition import build
from defectline.pipeline.images import Images
from defectline.pipeline.targets import Target

HAVE_OPTIONS = ("namespace", "image", "service_account", "deployment_mode", "adopt")
"""Settings of KServe that come from options of their own, or from the lock file."""


def parse_kserve(pairs: list[str]) -> dict[str, str]:
    """More fields of KServeSettings from `key=value` texts. Raises SettingsError for an unknown one."""
    known = [name for name in KServeSettings.model_fields if name not in HAVE_OPTIONS]
    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key not in known:
            raise SettingsError(
                f"--kserve {pair} sets nothing.",
                got=pair,
                expected=f"key=value, with a key of {', '.join(known)}",
                fix=did_you_mean(key, known) if equals else f"Write --kserve {key}=…",
            )
        values[key] = value
    return values


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
