"""What the suite for a cluster is told, all of it by environment variables."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from defectline.components.common.errors import SettingsError

VARIABLES = {
    "KUBECONFIG": "the cluster, and an account with the rights above",
    "KFP_HOST": "the address of Kubeflow Pipelines' API",
    "KFP_TOKEN": "the bearer token, where the server wants one",
    "KFP_NAMESPACE": "the profile's namespace, on multi-user Kubeflow",
    "E2E_STORE": "a bucket and prefix, `s3://…`: the suite works in a folder of its own below it",
    "E2E_S3_ENDPOINT": "the S3 server as pods reach it; empty for AWS",
    "E2E_REGISTRY": "the registry of the images; empty where `images.lock.json` names them",
    "E2E_OVERLAY": "the overlay of `manifests/overlays` to apply, `s3` or `s3-irsa`; `s3`",
    "E2E_STEPS_NAMESPACE": "where the steps' pods run; KFP_NAMESPACE, else `kubeflow`",
    "E2E_RESOURCES": "what `compile --resources` gets; `small`",
    "E2E_GATEWAY": "the URL of the gateway, to ask from outside; empty for the API server's proxy",
    "E2E_TIMEOUT_S": "seconds for one run; `1800`",
    "E2E_MINUTE_S": "seconds that the cluster's minute takes, for the schedules; `60`",
    "E2E_SIZE": "pixels of an image's side; `64`",
    "E2E_RESULTS": "where the summary and what failures left go; `build/test-cluster`",
    "E2E_KEEP": "`1` leaves everything in place, to look at",
}
"""Every variable, with what it is and its default."""

OVERLAYS = ("s3", "s3-irsa")
"""Those that make their own namespace, read a store on S3, and need nothing that only some clusters have."""
NEEDED = ("KUBECONFIG", "KFP_HOST", "E2E_STORE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Knobs:
    kubeconfig: str
    host: str
    token: str
    profile: str
    store: str
    s3_endpoint: str
    registry: str
    overlay: str
    steps_namespace: str
    resources: str
    gateway: str
    timeout_s: float
    minute_s: float
    size: int
    results: Path
    keep: bool
    suffix: str
    """Part of every name that the suite makes."""

    @property
    def namespace(self) -> str:
        """Where the model serves."""
        return f"e2e-{self.suffix}"

    @property
    def line(self) -> str:
        """The namespace of the pods that ask the endpoint."""
        return f"e2e-{self.suffix}-line"

    @property
    def model(self) -> str:
        return f"e2e-{self.suffix}"

    @property
    def folder(self) -> str:
        """The suite's own part of the store."""
        return f"{self.store}/e2e-{self.suffix}"

    @classmethod
    def read(cls, env: Mapping[str, str], suffix: str) -> Self:
        """Raises SettingsError, before anything is done anywhere, for what is missing or wrong."""
        missing = [name for name in NEEDED if not env.get(name)]
        if missing:
            raise SettingsError(
                "The suite does not know its cluster.",
                got=f"no {', '.join(missing)}",
                expected=", ".join(NEEDED),
                fix="Set them as docs/test-cluster.md says; E2E_STAND_IN=1 plays a cluster on this machine.",
            )
        store = env["E2E_STORE"].rstrip("/")
        if not re.match("s3://[^/]+", store):
            raise SettingsError(
                "E2E_STORE is not a store that the suite can use.",
                got=store,
                expected="s3://bucket/prefix",
                fix="Name a bucket that this machine and the pods reach.",
            )
        overlay = env.get("E2E_OVERLAY") or OVERLAYS[0]
        if overlay not in OVERLAYS:
            raise SettingsError(
                "E2E_OVERLAY is not an overlay that the suite can try.",
                got=overlay,
                expected=" or ".join(OVERLAYS),
                fix=f"Unset it for {OVERLAYS[0]}. The others need what the suite does not make, such as a "
                "profile, an identity provider, a router or a bucket of Google's.",
            )
        return cls(
            kubeconfig=env["KUBECONFIG"],
            host=env["KFP_HOST"],
            token=env.get("KFP_TOKEN", ""),
            profile=env.get("KFP_NAMESPACE", ""),
            store=store,
            s3_endpoint=env.get("E2E_S3_ENDPOINT", ""),
            registry=env.get("E2E_REGISTRY", ""),
            overlay=overlay,
            steps_namespace=env.get("E2E_STEPS_NAMESPACE") or env.get("KFP_NAMESPACE") or "kubeflow",
            resources=env.get("E2E_RESOURCES") or "small",
            gateway=env.get("E2E_GATEWAY", "").rstrip("/"),
            timeout_s=_number(env, "E2E_TIMEOUT_S", 1800),
            minute_s=_number(env, "E2E_MINUTE_S", 60),
            size=int(_number(env, "E2E_SIZE", 64)),
            results=Path(env.get("E2E_RESULTS") or "build/test-cluster"),
            keep=env.get("E2E_KEEP", "") not in ("", "0"),
            suffix=suffix,
        )


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise SettingsError(
            f"{name} is wrong.", got=text, expected="a number above 0", fix=f"Correct {name}, or unset it."
        )
    return value


def own_environment() -> dict[str, str]:
    """The environment, whose images come from E2E_REGISTRY where that is set."""
    from defectline.pipeline.images import TARGETS, reference, variable

    env = dict(os.environ)
    if registry := env.get("E2E_REGISTRY"):
        env |= {variable(target): reference(target, registry) for target in TARGETS}
    return env
