"""The pipeline, compiled once for all tests that read it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from compiled import CLUSTER

from defectline.pipeline.compiling import compile_pipeline


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_pipeline(path, None, CLUSTER)
    return path


@pytest.fixture(scope="session")
def documents(compiled: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline, and what Kubernetes is told of each step."""
    spec, platform = yaml.safe_load_all(compiled.read_text())
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
