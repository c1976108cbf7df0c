"""How and where a model serves on KServe."""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from defectline.components.common.errors import SettingsError
from defectline.components.deploy.oci import Repository

_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
NAMESPACE_FORM = "at most 63 small letters, digits and hyphens, with no hyphen at the ends"
NAME_FORM = "small letters, digits, hyphens and dots, with a letter or digit at the ends"
URL_FORM = "http://HOST or https://HOST, with :PORT where it is another"
REVIEW_S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
REVIEW_S3_PLACE = ("AWS_ENDPOINT_URL_S3", "AWS_REGION")
"""Keys that such a secret may have besides, where the server is not Amazon's or the region another."""
REVIEW_GCS_KEY = "key.json"
WAITS, WAITS_BACK = 4, 3
"""How often at most a deployment waits for `timeout_s`: until what another left is gone, the candidate or
canary is up, it is gone, the service is up; and to go back: for the API server, and for pods twice."""
CANARY_STEP_S = 60
"""What a canary's step takes beside `canary_step_s`: until routes have its share, and its last answers."""
MARGIN_S = 600
"""For all else: the checks before, the upload, the golden pictures."""


def is_namespace(name: str) -> bool:
    """Whether Kubernetes takes it as the name of a namespace. Pure."""
    return re.fullmatch(_LABEL, name) is not None


def is_object_name(name: str) -> bool:
    """Whether Kubernetes takes it as the name of a secret or service account. Pure."""
    return len(name) <= 253 and re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", name) is not None


def is_url(text: str) -> bool:
    """Whether it is an address that HTTP requests can go to. Pure."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class KServeSettings(BaseModel):
    """How and where the endpoint runs on KServe."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    namespace: str = Field(min_length=1)
    image: str
    """The serve image, with a digest or a tag that never moves; serve-gpu where `gpu` is set."""
    service_account: str = ""
    """Its secrets let KServe fetch the model; empty for the namespace's default."""
    deployment_mode: Literal["Standard", "Knative"] = "Standard"
    min_replicas: int = Field(default=1, ge=0)
    """0, in Knative mode only, stops the last pod when no requests come: the next one waits for a start."""
    max_replicas: int = Field(default=1, ge=1)
    """Pods at most; with more than `min_replicas` their number follows the load."""
    cpu_target: int = Field(default=0, ge=0, le=100)
    """Standard mode: load in percent of `cpu` that the number of pods follows; 0 keeps the number fixed."""
    concurrency: int = Field(default=0, ge=0)
    """Knative mode: requests at once per pod that the number of pods follows; 0 for Knative's default."""
    cpu: str = "1"
    """Processors a pod."""
    memory: str = "1Gi"
    """Memory a pod."""
    gpu: int = Field(default=0, ge=0)
    """GPUs a pod; with any, the network runs in ONNX Runtime."""
    gpu_type: str = "nvidia.com/gpu"
    """The resource that a GPU is for Kubernetes."""
    review: str = ""
    """Store, s3:// or gs://, where the pods keep frames for people to review; empty for none."""
    review_secret: str = ""
    """Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or with key.json, to write there; empty where
    the service account itself has the rights."""
    traces: str = ""
    """OpenTelemetry collector that the pods send spans to over HTTP, http://collector.monitoring:4318; empty
    for none."""
    registry: str = ""
    """Where to push models as images, registry.example.com/plates; pods then mount those, and no store is
    asked. Needs Kubernetes 1.33. Empty: pods load from the store."""
    trust: str = ""
    """ConfigMap of public keys in files *.pub, of which one must have signed what is deployed and what the
    pods load; in the namespaces of the pipeline and of the service. Empty: nothing need be signed."""
    spread_over: str = "kubernetes.io/hostname"
    """Standard mode: node label over whose values pods are spread where there is room; empty for nowhere."""
    strategy: Literal["candidate", "canary"] = "candidate"
    """How a new version gets its first requests: only from checks, or also from clients, step by step."""
    canary_steps: tuple[Annotated[int, Field(ge=1, le=99)], ...] = (10, 50)
    """Percent of the requests on the way from 0 to 100."""
    canary_step_s: float = Field(default=60, ge=0)
    """How long each of these is watched."""
    adopt: bool = False
    """Take over a service of this name that defectline did not make."""
    url: str = ""
    """A gateway to ask the service by, instead of the address in its status or the API server."""
    host_header: str = ""
    """The Host that such a gateway routes by; empty for the one in the service's status."""
    timeout_s: float = Field(default=600, gt=0)
    """For each wait of a rollout; going back after a failed one gets the same time again."""

    @property
    def deploy_s(self) -> float:
        """Seconds that a deployment may take at most, with going back."""
        steps = len(self.canary_steps) if self.strategy == "canary" else 0
        watched_s = steps * (self.canary_step_s + CANARY_STEP_S)
        return (WAITS + WAITS_BACK) * self.timeout_s + watched_s + MARGIN_S

    @property
    def undo_s(self) -> float:
        """Seconds that it may take at most to undo what a deployment left that was killed."""
        return (1 + WAITS_BACK) * self.timeout_s + MARGIN_S

    @field_validator("image")
    @classmethod
    def _pinned(cls, image: str) -> str:
        name, _, tag = image.rpartition("/")[2].partition(":")
        if "@sha256:" not in image and (not name or tag in ("", "latest")):
            raise ValueError(f"{image!r} may change under a running service: name a digest or a tag")
        return image

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, name: str) -> str:
        if not is_namespace(name):
            raise ValueError(f"{name!r} is not a namespace of Kubernetes: write {NAMESPACE_FORM}")
        return name

    @field_validator("service_account", "review_secret", "trust")
    @classmethod
    def _name(cls, name: str) -> str:
        if name and not is_object_name(name):
            raise ValueError(f"{name!r} is not a name that Kubernetes takes: write {NAME_FORM}")
        return name

    @field_validator("url", "traces")
    @classmethod
    def _url(cls, url: str) -> str:
        if url and not is_url(url):
            raise ValueError(f"{url!r} is not an address: write {URL_FORM}")
        return url

    @field_validator("registry")
    @classmethod
    def _place(cls, place: str) -> str:
        try:
            if place and Repository.parse(place).tag:
                raise ValueError(f"{place!r} has a tag: images are called by the versions of their models")
        except SettingsError as error:
            raise ValueError(f"{place!r} is no place for images: write {error.expected}") from None
        return place

    @field_validator("cpu", "memory")
    @classmethod
    def _amount(cls, amount: str) -> str:
        if not re.fullmatch(r"\d+(\.\d+)?([eE]\d+|m|[kMGTPE]|[KMGTPE]i)?", amount):
            raise ValueError(f"{amount!r} is not an amount: write one such as 2, 500m or 1Gi")
        return amount

    @field_validator("review")
    @classmethod
    def _reachable(cls, review: str) -> str:
        if review and not re.match("(s3|gs)://[^/]", review):
            raise ValueError(f"{review!r} is not a store that pods can write to: name one on s3:// or gs://")
        return review

    @field_validator("canary_steps", mode="before")
    @classmethod
    def _split(cls, steps: Any) -> Any:
        return steps.split(",") if isinstance(steps, str) else steps

    @field_validator("canary_steps")
    @classmethod
    def _rising(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if list(steps) != sorted(set(steps)):
            raise ValueError(f"{steps} must rise: each step sends more requests to the new version")
        return steps

    @model_validator(mode="after")
    def _reviewed(self) -> Self:
        if self.review_secret and not self.review:
            raise ValueError("review_secret is for writing to review, which is not set")
        return self

    @model_validator(mode="after")
    def _replicas(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} exceeds max_replicas {self.max_replicas}")
        if self.deployment_mode == "Knative":
            if self.cpu_target:
                raise ValueError("cpu_target is for Standard mode: in Knative mode set concurrency")
            return self
        if self.concurrency:
            raise ValueError("concurrency is for Knative mode: in Standard mode set cpu_target")
        if self.min_replicas < 1:
            raise ValueError("Standard mode keeps at least one pod: only Knative mode scales to zero")
        # KServe takes the canary's pods off those of the previous version.
        if self.strategy == "canary" and self.min_replicas < 2:
            raise ValueError(
                "a canary in Standard mode needs min_replicas ≥ 2: it takes the place of one pod"
            )
        if self.min_replicas != self.max_replicas and not self.cpu_target:
            raise ValueError(
                "Standard mode without cpu_target keeps a fixed number of pods: min_replicas = max_replicas"
            )
        return self
