"""Where and how pods that train run: what `defectline compile --nodes` writes into the pipeline."""

from pydantic import BaseModel, ConfigDict, Field

RUNTIME = "defectline-jax"
"""The TrainingRuntime of manifests/training."""


class PodSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    resources: dict[str, dict[str, str]] = {}
    """`requests` and `limits` of each pod."""
    env: dict[str, str] = {}
    secret_env: dict[str, dict[str, str]] = {}
    """Secret → key in it → environment variable."""
    gcs_secret: str = ""
    """Name of the secret whose key `key.json` is a service account's file."""
    pull_secret: str = ""
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, str]] = []


class NodesSettings(PodSettings):
    """The image is of the target train-jax."""

    nodes: int = Field(ge=2)
    runtime: str = RUNTIME
    """A TrainingRuntime in the namespace of the run."""
    timeout_s: int = 24 * 3600
