"""The container image of each component, and where its reference comes from."""

import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

from defectline.components.common.errors import SettingsError

REGISTRY = "ghcr.io/defectline"
LOCK = Path("images.lock.json")
LOCAL_TARGET = "local"
"""Has every command: for pods that do more than a step."""
LOCAL_GPU_TARGET = "local-gpu"
NODES_TARGET = "train-jax"
"""Stands in for `train` where several nodes train, with GPUs or without."""
GPU_TARGETS = ("train-gpu", "serve-gpu", LOCAL_GPU_TARGET, NODES_TARGET)
"""Stand in for `train`, `serve` and `local` where there is a GPU."""
WITHOUT = {
    "train-gpu": "Build it in a clone with `make images PUSH=1 GPU=1`, or compile with --gpus 0.",
    NODES_TARGET: "Build it in a clone with `make images PUSH=1 GPU=1`, or compile with --nodes 1.",
    LOCAL_GPU_TARGET: "Build it in a clone with `make images PUSH=1 GPU=1`, or leave --gpus out.",
    "serve-gpu": "Build it in a clone with `make images PUSH=1 GPU=1`, or compile with --kserve gpu=0.",
}
"""What to do where a lock file names no such image."""
TARGETS = ("ingest", "preprocess", "train", "evaluate", "deploy", "serve", LOCAL_TARGET, *GPU_TARGETS)
"""The targets of the Dockerfile."""

_NAME = r"[^\s:@]+(:\d+/[^\s:@]+)?"
_PINNED = re.compile(_NAME + r"(:(?!latest$)\w[\w.-]*|(:\w[\w.-]*)?@sha256:[0-9a-f]{64})")


def reference(target: str, registry: str = REGISTRY) -> str:
    """The image of a target as this version of the package is tagged: `registry/defectline-serve:0.1.0`."""
    return f"{registry}/defectline-{target}:{version('defectline')}"


def variable(target: str) -> str:
    """The environment variable that names another image: `DEFECTLINE_IMAGE_SERVE`."""
    return f"DEFECTLINE_IMAGE_{target.upper().replace('-', '_')}"


@dataclass(frozen=True)
class Images:
    """One pinned reference a component: a tag other than `latest`, or a digest."""

    ingest: str
    preprocess: str
    train: str
    evaluate: str
    deploy: str
    serve: str

    @classmethod
    def load(cls, lock: Path | None = None, on_gpu: Collection[str] = (), on_nodes: bool = False) -> Self:
        """The images of this version, unless the lock file or, above it, the environment names others.

        `lock` is a JSON object from target to reference; without it, `images.lock.json` is read where
        there is one. Of `train` and `serve`, those in `on_gpu` take the images for GPUs; `on_nodes`
        says that several nodes train.

        Raises SettingsError: no such lock file, one that cannot be read, a name that is not a target, a
        target that it lacks, a reference that is not pinned.
        """
        source = {target: target for target in TARGETS if target not in (LOCAL_TARGET, *GPU_TARGETS)}
        source |= {component: f"{component}-gpu" for component in on_gpu}
        if on_nodes:
            source["train"] = NODES_TARGET
        images = load_images(source.values(), lock)
        return cls(**{component: images[target] for component, target in source.items()})


def load_images(targets: Collection[str], lock: Path | None = None) -> dict[str, str]:
    """The image of each of these targets: see `Images.load`, which says what is raised as well."""
    locked = lock or LOCK.exists()
    images = _read_lock(lock or LOCK) if locked else {target: reference(target) for target in TARGETS}
    for target in TARGETS:
        if named := os.environ.get(variable(target)):
            images[target] = _pinned(named, f"The environment variable {variable(target)}")
    for target in targets:
        if target not in images:
            raise SettingsError(
                f"The lock file {lock or LOCK} names no image for {target}.",
                got=", ".join(sorted(images)) or "none at all",
                expected=", ".join(targets),
                fix=WITHOUT.get(target, "Build it in a clone with `make images PUSH=1`."),
            )
    return {target: images[target] for target in targets}


def _read_lock(lock: Path) -> dict[str, str]:
    try:
        images = json.loads(lock.read_text())
    except FileNotFoundError:
        raise SettingsError(
            f"There is no lock file {lock}.",
            got=f"the path {lock.absolute()}",
            expected="a file that `make images PUSH=1` wrote",
            fix="Correct the path, or build and push the images first.",
        ) from None
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"The lock file {lock} cannot be read.",
            got=str(error),
            expected='a JSON object such as {"serve": "registry/defectline-serve@sha256:…"}',
            fix="Write it again in a clone with `make images PUSH=1`.",
        ) from None
    unknown = set(images) - set(TARGETS) if isinstance(images, dict) else {str(images)}
    if unknown:
        raise SettingsError(
            f"The lock file {lock} names images that no component uses.",
            got=", ".join(sorted(unknown)),
            expected=", ".join(TARGETS),
            fix="Remove or rename these entries.",
        )
    return {target: _pinned(image, f"The entry {target} of {lock}") for target, image in images.items()}


def _pinned(image: object, origin: str) -> str:
    """The reference itself, refused if what it points to may change under a running pipeline."""
    if isinstance(image, str) and _PINNED.fullmatch(image):
        return image
    raise SettingsError(
        f"{origin} does not pin an image.",
        got=str(image),
        expected="a digest (name@sha256:…) or a tag other than latest (name:1.2.0)",
        fix="Name the exact version: cached steps and schedules rely on it.",
    )
