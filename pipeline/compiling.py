"""From the definition to the YAML that a Kubeflow Pipelines server runs."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp.compiler import Compiler, KubernetesManifestOptions

from defectline.components.common.files import explained, replaced
from defectline.components.common.settings import checked, parse_pairs
from defectline.components.deploy.kserve.settings import KServeSettings
from defectline.pipeline import PIPELINE
from defectline.pipeline.config import KSERVE
from defectline.pipeline.crossval.definition import build_crossval
from defectline.pipeline.definition import build
from defectline.pipeline.images import Images, reference
from defectline.pipeline.targets import Target


def parse_kserve(pairs: list[str]) -> dict[str, str]:
    """More fields of KServeSettings from `key=value` texts. Raises SettingsError for an unknown one."""
    return parse_pairs(pairs, KSERVE, written="--kserve ", what="setting {} for --kserve")


def compile_pipeline(output: Path, lock: Path | None, target: Target) -> Images:
    """Write the compiled pipeline to `output`, whole or not at all, and return the images it names.

    Raises SettingsError.
    """
    images = _images(lock, target)
    _write(output, build(images, target), None)
    return images


def compile_crossval(output: Path, lock: Path | None, target: Target, parallel: int) -> Images:
    """The same for the pipeline of a cross-validation, which judges so many folds at the same time."""
    images = _images(lock, target)
    _write(output, build_crossval(images, target, parallel), None)
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
    _write(output, build(_images(lock, target), target), options)
    return version


def _images(lock: Path | None, target: Target) -> Images:
    """The images for the target, whose settings of KServe are checked as well."""
    on_gpu = ["train"] if target.gpus and target.nodes == 1 else []
    # Which image serves depends on `gpu`; every image that can be loaded suits the other settings.
    if target.kserve and checked(KServeSettings, image=reference("serve"), **target.kserve).gpu:
        on_gpu.append("serve")
    return Images.load(lock, on_gpu, target.nodes > 1)


def _write(output: Path, pipeline: Callable[..., Any], manifests: KubernetesManifestOptions | None) -> None:
    expected = "a file's name in a folder that this user may write to"
    # KFP's compiler insists on the suffix.
    with (
        explained(f"{output} cannot be written.", expected=expected, fix="Choose another file."),
        tempfile.TemporaryDirectory() as folder,
    ):
        compiled = Path(folder, "pipeline.yaml")
        Compiler().compile(
            pipeline,
            str(compiled),
            kubernetes_manifest_format=manifests is not None,
            kubernetes_manifest_options=manifests,
        )
        output.parent.mkdir(parents=True, exist_ok=True)
        with replaced(output) as path:
            shutil.copyfile(compiled, path)
