"""From the definition to the YAML that a Kubeflow Pipelines server runs."""

import hashlib
from pathlib import Path

from kfp.compiler import Compiler, KubernetesManifestOptions

from defectline.components.common.errors import SettingsError
from defectline.components.common.settings import checked, parse_pairs
from defectline.components.deploy.kserve.settings import KServeSettings
from defectline.pipeline import PIPELINE
from defectline.pipeline.definition import build
from defectline.pipeline.images import Images, reference
from defectline.pipeline.targets import Target

HAVE_OPTIONS = ("namespace", "image", "service_account", "deployment_mode", "adopt")
"""Settings of KServe that come from options of their own, or from the lock file."""


def parse_kserve(pairs: list[str]) -> dict[str, str]:
    """More fields of KServeSettings from `key=value` texts. Raises SettingsError for an unknown one."""
    known = [name for name in KServeSettings.model_fields if name not in HAVE_OPTIONS]
    return parse_pairs(pairs, known, written="--kserve ", what="setting {} for --kserve")


def compile_pipeline(output: Path, lock: Path | None, target: Target) -> Images:
    """Write the compiled pipeline to `output`, whole or not at all, and return the images it names.

    Raises SettingsError.
    """
    images = _images(lock, target)
    _write(output, images, target, None)
    return images


def compile_manifests(output: Path, compiled: Path, lock: Path | None, target: Target, namespace: str) -> str:
    """Write the pipeline and this version of it as Kubernetes objects, and return the version.

    For servers that keep pipelines in the cluster. A version cannot be changed there, so it is named by the
    first 12 hex digits of the SHA-256 of `compiled`, which `compile_pipeline` has made of the same settings;
    the command `schedule apply` looks for that name. Raises SettingsError.
    """
    version = hashlib.sha256(compiled.read_bytes()).hexdigest()[:12]
    options = KubernetesManifestOptions(
        pipeline_name=PIPELINE,
        pipeline_version_name=f"{PIPELINE}-{version}",
        pipeline_version_display_name=version,
        namespace=namespace,
        include_pipeline_manifest=True,
    )
    _write(output, _images(lock, target), target, options)
    return version


def _images(lock: Path | None, target: Target) -> Images:
    """The images for the target, whose settings of KServe are checked as well."""
    on_gpu = ["train"] if target.gpus else []
    # Which image serves depends on `gpu`; every image that can be loaded suits the other settings.
    if target.kserve and checked(KServeSettings, image=reference("serve"), **target.kserve).gpu:
        on_gpu.append("serve")
    return Images.load(lock, on_gpu)


def _write(output: Path, images: Images, target: Target, manifests: KubernetesManifestOptions | None) -> None:
    beside = output.with_name(f".{output.name}.yaml")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        Compiler().compile(
            build(images, target),
            str(beside),
            kubernetes_manifest_format=manifests is not None,
            kubernetes_manifest_options=manifests,
        )
        beside.replace(output)
    except OSError as error:
        raise SettingsError(
            f"{output} cannot be written.",
            got=error.strerror or str(error),
            expected="a file's name in a folder that this user may write to",
            fix="Choose another file.",
        ) from error
    finally:
        if output.parent.is_dir():
            beside.unlink(missing_ok=True)
