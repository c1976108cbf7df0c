"""Where and how the pods of a TrainJob run: what `defectline compile --nodes` writes into the pipeline."""

from pydantic import BaseModel, ConfigDict, Field

RUNTIME = "defectline-jax"
"""The TrainingRuntime of manifests/training."""


class NodesSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: int = Field(ge=2)
    image: str
    """Of the target train-jax."""
    runtime: str = RUNTIME
    """A TrainingRuntime in the namespace of the run."""
    resources: dict[str, dict[str, str]] = {}
    """`requests` and `limits` of each pod."""
    timeout_s: int = 24 * 3600
    env: dict[str, str] = {}
    secret_env: dict[str, dict[str, str]] = {}
    """Secret → key in it → environment variable."""
    gcs_secret: str = ""
    """Name of the secret whose key `key.json` is a service account's file."""
    pull_secret: str = ""
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, str]] = []
