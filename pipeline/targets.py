"""All that differs between a laptop and a cluster."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kfp.dsl import PipelineTask

from defectline.components.common.errors import SettingsError
from defectline.components.common.reporting.pod import RUN_ENV, RUN_LABEL
from defectline.components.common.trust.keys import PASSWORD_ENV, SIGN_KEY_ENV, TRUST_ENV
from defectline.components.deploy.kserve.manifests import TRUST_MOUNT
from defectline.components.deploy.kserve.settings import NAME_FORM, URL_FORM, is_object_name, is_url
from defectline.pipeline.resources import DEFAULT, Resources

S3_KEYS = {"AWS_ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY": "AWS_SECRET_ACCESS_KEY"}
"""Key in the secret → environment variable in the step."""


SIGN_KEY, SIGN_PASSWORD = {"sign.key": SIGN_KEY_ENV}, {"password": PASSWORD_ENV}
"""The same, of the secret with a private key; where that has no password, there need be none."""
LOGIN_MOUNT = "/var/secrets/registry"
TRAIN_S = 24 * 3600
"""The longest that training may take."""


@dataclass(frozen=True)
class Target:
    """Where the steps run and where the model serves. The defaults are this machine."""

    name: str = "local"
    kserve: dict[str, Any] = field(default_factory=dict)
    """Fields of KServeSettings, or empty: the model serves on this machine."""
    gpus: int = 0
    gpu_type: str = "nvidia.com/gpu"
    s3_secret: str = ""
    """Name of the secret with the keys S3_KEYS; empty where the pods' service account has the rights."""
    s3_endpoint: str = ""
    s3_region: str = ""
    gcs_secret: str = ""
    """Name of the secret whose key `key.json` is a service account's file."""
    sign_secret: str = ""
    """Name of the secret with SIGN_KEY and SIGN_PASSWORD, for evaluate alone; empty: nothing is signed."""
    push_secret: str = ""
    """Name of a secret with the login of a registry, as `kubectl create secret docker-registry` makes it, for
    deploy, which pushes models where KServeSettings name a registry."""
    pull_secret: str = ""
    run_as_user: int = 1000
    """The images' user, which Kubernetes must be told as a number; 0 where the cluster chooses one itself."""
    tolerations: tuple[dict[str, str], ...] = ()
    node_selector: dict[str, str] = field(default_factory=dict)
    """This and the one before are for the step with GPUs."""
    retries: int = 2
    """How often a step starts again whose pod is lost. One that fails does not: KFP's settings of Argo say
    so, and nothing in a pipeline can change them."""
    resources: Mapping[str, Resources] = field(default_factory=lambda: dict(DEFAULT))
    """Of every step."""
    shards: int = 1
    """Parts in which the source is read, the dataset prepared and the test pictures judged, each in a pod of
    its own; at least 1."""
    at_once: int = 0
    """How many of these pods may run at the same time, at most; 0 for all."""
    nodes: int = 1
    """Pods that train one network together; above 1 as a TrainJob of Kubeflow Trainer."""

    def __post_init__(self) -> None:
        """Raises SettingsError for a secret or an address that no pod could use."""
        for option in ("s3_secret", "gcs_secret", "sign_secret", "push_secret", "pull_secret"):
            check_option(option, getattr(self, option), is_object_name, NAME_FORM)
        check_option("s3_endpoint", self.s3_endpoint, is_url, URL_FORM)

    @property
    def on_cluster(self) -> bool:
        return self.name != "local"

    def configure(self, task: PipelineTask, step: str, *, timeout_s: int, gpu: bool = False) -> PipelineTask:
        """Give a task what a cluster needs to know of it; on this machine nothing is needed."""
        if not self.on_cluster:
            return task
        from kfp import kubernetes

        # The pods that train on several nodes have the resources and GPUs; the step starts them.
        starts = step == "train" and self.nodes > 1
        resources, gpu = self.resources["find-champion" if starts else step], gpu and not starts
        task.set_cpu_request(resources.cpu).set_memory_request(resources.memory)
        task.set_memory_limit(resources.memory_limit)
        if resources.cpu_limit:
            task.set_cpu_limit(resources.cpu_limit)
        kubernetes.set_timeout(task, timeout_s)
        kubernetes.set_security_context(task, run_as_user=self.run_as_user or None, run_as_non_root=True)
        kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "defectline")
        # Not an input, which would be part of the key of KFP's cache.
        kubernetes.use_field_path_as_env(task, RUN_ENV, f"metadata.labels['{RUN_LABEL}']")
        # Matplotlib, Keras and the like write caches below the home folder.
        task.set_env_variable("HOME", "/tmp")
        # For every step: where one says nothing, KFP's settings of Argo say 2.
        task.set_retry(self.retries, backoff_duration="30s", backoff_factor=2.0)
        if gpu and self.gpus:
            task.set_accelerator_type(self.gpu_type).set_accelerator_limit(self.gpus)
            # Data loaders share batches through /dev/shm, of which a pod has 64 MB.
            kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit="2Gi")
            for toleration in self.tolerations:
                kubernetes.add_toleration(task, **toleration)
            for label, value in self.node_selector.items():
                kubernetes.add_node_selector(task, label, value)
        self._storage_access(task)
        if step == "evaluate" and self.sign_secret:
            kubernetes.use_secret_as_env(task, self.sign_secret, SIGN_KEY)
            kubernetes.use_secret_as_env(task, self.sign_secret, SIGN_PASSWORD, optional=True)
        if step == "deploy" and self.push_secret:
            kubernetes.use_secret_as_volume(task, self.push_secret, mount_path=LOGIN_MOUNT)
            task.set_env_variable("DOCKER_CONFIG", LOGIN_MOUNT)
        if step == "deploy" and (trust := self.kserve.get("trust")):
            kubernetes.use_config_map_as_volume(task, trust, mount_path=TRUST_MOUNT)
            task.set_env_variable(TRUST_ENV, TRUST_MOUNT)
        if self.pull_secret:
            kubernetes.set_image_pull_secrets(task, [self.pull_secret])
        return task

    def on_nodes(self, image: str) -> dict[str, Any]:
        """Fields of NodesSettings, for pods of an `image`; empty where one pod trains."""
        if self.nodes == 1 or not self.on_cluster:
            return {}
        return {"nodes": self.nodes, "timeout_s": TRAIN_S, **self.training_pods(image)}

    def training_pods(self, image: str) -> dict[str, Any]:
        """Fields of PodSettings, for pods of an `image` that train."""
        resources = self.resources["train"]
        requests = {"cpu": resources.cpu, "memory": resources.memory}
        limits = {"memory": resources.memory_limit}
        if resources.cpu_limit:
            limits["cpu"] = resources.cpu_limit
        if self.gpus:
            requests[self.gpu_type] = limits[self.gpu_type] = str(self.gpus)
        env = {"AWS_ENDPOINT_URL_S3": self.s3_endpoint, "AWS_REGION": self.s3_region}
        return {
            "image": image,
            "resources": {"requests": requests, "limits": limits},
            "env": {name: value for name, value in env.items() if value},
            "secret_env": {self.s3_secret: S3_KEYS} if self.s3_secret else {},
            "gcs_secret": self.gcs_secret,
            "pull_secret": self.pull_secret,
            "node_selector": self.node_selector if self.gpus else {},
            "tolerations": list(self.tolerations) if self.gpus else [],
        }

    def _storage_access(self, task: PipelineTask) -> None:
        from kfp import kubernetes

        if self.s3_secret:
            kubernetes.use_secret_as_env(task, self.s3_secret, S3_KEYS)
        if self.s3_endpoint:
            task.set_env_variable("AWS_ENDPOINT_URL_S3", self.s3_endpoint)
        if self.s3_region:
            task.set_env_variable("AWS_REGION", self.s3_region)
        if self.gcs_secret:
            kubernetes.use_secret_as_volume(task, self.gcs_secret, mount_path="/var/secrets/gcs")
            task.set_env_variable("GOOGLE_APPLICATION_CREDENTIALS", "/var/secrets/gcs/key.json")


def check_option(option: str, value: str, fits: Callable[[str], bool], form: str) -> None:
    """Raise SettingsError for a value of an option of a command that does not fit; it may be empty."""
    if value and not fits(value):
        raise SettingsError(
            f"The setting {option} is wrong.",
            got=repr(value),
            expected=form,
            fix=f"Correct --{option.replace('_', '-')}, or leave it out.",
        )


LOCAL = Target()
