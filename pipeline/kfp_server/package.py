"""Compiled pipelines in files, read and checked before anything is sent to a server."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from defectline.components.common.errors import SettingsError
from defectline.pipeline import CROSSVAL_PIPELINE, PIPELINE

OF = {PIPELINE: "of runs", CROSSVAL_PIPELINE: "of a cross-validation"}
COMPILE = {PIPELINE: "defectline compile", CROSSVAL_PIPELINE: "defectline compile --what crossval"}
"""What writes each pipeline."""
START = {
    PIPELINE: "`defectline submit` or `defectline schedule apply`",
    CROSSVAL_PIPELINE: "`defectline crossval --host`",
}
"""What starts it."""


@dataclass(frozen=True)
class Package:
    """A compiled pipeline."""

    path: Path
    spec: dict[str, Any]
    version: str
    """Named by its content."""
    steps: frozenset[str]
    """Names of the tasks that run a container."""


def read_package(path: Path, parameters: dict[str, object], name: str = PIPELINE) -> Package:
    """A compiled pipeline whose parameters fit, read before anything is changed on the server.

    Raises SettingsError, also where it is another one of defectline's pipelines than that of the `name`.
    """
    content, documents = read_documents(path, name)
    pipeline = documents[0]
    _check_name(path, (pipeline.get("pipelineInfo") or {}).get("name", ""), name)
    root = pipeline["root"]
    _check_parameters(root.get("inputDefinitions", {}).get("parameters", {}), parameters)
    spec = {"pipeline_spec": pipeline, "platform_spec": documents[1]} if len(documents) > 1 else pipeline
    steps = _step_names(root, pipeline["components"])
    return Package(path, spec, hashlib.sha256(content).hexdigest()[:12], steps)


def read_documents(path: Path, name: str = PIPELINE) -> tuple[bytes, list[dict[str, Any]]]:
    """The content of a compiled pipeline: the pipeline itself and, for a cluster, its platform part.

    Raises SettingsError where it is none, and says how to write the pipeline of that name.
    """
    expected = f"a YAML file written by `{COMPILE[name]}`"
    fix = f"Write it with `{COMPILE[name]} -o {path}`."
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"There is no compiled pipeline at {path}.",
            got=str(error),
            expected=expected,
            fix=fix,
        ) from None
    try:
        documents = list(yaml.safe_load_all(content))
        _ = documents[0]["root"]["dag"], documents[0]["components"]
    except (UnicodeDecodeError, yaml.YAMLError, IndexError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path} is not a compiled pipeline.",
            got=f"{type(error).__name__}: {error}",
            expected=expected,
            fix=fix,
        ) from None
    return content, documents


def _check_name(path: Path, found: str, wanted: str) -> None:
    # Of pipelines that others wrote nothing is known but their parameters.
    if found in OF and found != wanted:
        raise SettingsError(
            f"{path} is the compiled pipeline {OF[found]}.",
            got=f"the pipeline {found}",
            expected=f"the pipeline {wanted}, as `{COMPILE[wanted]}` writes it",
            fix=f"Name one that was compiled {'with' if wanted == CROSSVAL_PIPELINE else 'without'} "
            f"`--what crossval`; {START[found]} starts this one.",
        )


def _check_parameters(declared: dict[str, dict[str, Any]], given: dict[str, object]) -> None:
    unknown = sorted(given.keys() - declared.keys())
    if unknown:
        raise SettingsError(
            "The pipeline does not have all of these parameters.",
            got=", ".join(unknown),
            expected=", ".join(sorted(declared)) or "no parameter",
            fix="Correct or remove what the pipeline does not have.",
        )
    optional = {
        name for name, about in declared.items() if "defaultValue" in about or about.get("isOptional")
    }
    missing = sorted(declared.keys() - optional - given.keys())
    if missing:
        raise SettingsError(
            "The pipeline needs more parameters.",
            got=", ".join(sorted(given)) or "no parameter",
            expected=f"also {', '.join(missing)}",
            fix=f"Give {' and '.join(missing)}.",
        )


def _step_names(root: dict[str, Any], components: dict[str, Any]) -> frozenset[str]:
    """The tasks that run a container; a run's details also list drivers and the groups around them."""
    return frozenset(
        name
        for part in (root, *components.values())
        for name, task in part.get("dag", {}).get("tasks", {}).items()
        if "executorLabel" in components[task["componentRef"]["name"]]
    )
