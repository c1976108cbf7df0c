"""Models that serve on KServe.

deploy: preflight → publish → `Rollout`, which leaves what served before in force where anything fails.
"""

import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from defectline.components.common import layout
from defectline.components.common.bundle import Bundle, copy_served, publish_folder
from defectline.components.common.errors import ServingError
from defectline.components.common.settings import checked
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.deploy.kserve.cluster import SERVICES, Cluster
from defectline.components.deploy.kserve.history import History
from defectline.components.deploy.kserve.manifests import (
    SERVICE_LABEL,
    VERSION_LABEL,
    Manifest,
    candidate_name,
    is_managed,
    version_of,
)
from defectline.components.deploy.kserve.preflight import check, not_managed, preflight
from defectline.components.deploy.kserve.rollout import Rollout
from defectline.components.deploy.kserve.settings import KServeSettings
from defectline.components.deploy.rollback import fetched
from defectline.components.deploy.status import Status, last_run


class KServe:
    """A `Deployer`: the InferenceService `name` in the namespace that `fields` names.

    `fields` are those of KServeSettings; to roll back and for the status the namespace is enough. `poll_s` is
    the pause between two looks at the cluster.
    """

    def __init__(self, store: Storage, name: str, fields: Mapping[str, Any], poll_s: float = 2.0):
        self.store, self.name, self.fields, self.poll_s = store, name, fields, poll_s
        self.namespace: str = fields["namespace"]

    @cached_property
    def settings(self) -> KServeSettings:
        return checked(KServeSettings, **self.fields)

    @cached_property
    def cluster(self) -> Cluster:
        return Cluster(self.namespace)

    @property
    def history(self) -> History:
        return History(self.store, self.namespace, self.name)

    def champion(self) -> str:
        """The version that the service names, "" where there is no service or it names none.

        Raises ServingError if defectline did not make the service, unless it is to be adopted.
        """
        settings = self.settings
        service = self.cluster.get(SERVICES, self.name)
        if service is None:
            return ""
        if not is_managed(service) and not settings.adopt:
            check([not_managed(service, self.namespace)], self.name, self.namespace)
        return service["spec"]["predictor"].get("labels", {}).get(VERSION_LABEL, "")

    def deploy(self, folder: Path, bundle: Bundle, run: str) -> str:
        """Serve the sealed bundle, and return where: `at <URL>`. The `run` is not kept on a cluster.

        No client reaches the version before it has given the golden answers: it first serves as
        `<name>-candidate`, or as a canary where that is asked for. Then the service is updated pod by pod.
        Raises ServingError, or Conflict where another process deploys at the same time; what served before
        then serves again, was checked, and the error says so. What a deployment that was killed left behind,
        the next one removes.
        """
        return f"at {self._deploy(folder, bundle, self.settings)}"

    def roll_back(self, to: str = "") -> str:
        """Serve the version `to`, or with "" the one before the champion; return the version."""
        settings, version = self._settings_for(to)
        with fetched(self.store, self.name, version) as (folder, bundle):
            self._deploy(folder, bundle, settings)
        return version

    def status(self) -> Status:
        under_way = []
        if candidate := self.cluster.get(SERVICES, candidate_name(self.name)):
            under_way.append(f"candidate {version_of(candidate['spec'])}")
        place = {"name": self.name, "namespace": self.namespace, **last_run(self.store, self.name)}
        service = self.cluster.get(SERVICES, self.name)
        if service is None:
            return Status(**place, ready_pods=0, under_way=under_way)
        spec, version = service["spec"], version_of(service["spec"])
        for canary in spec.get("canary") or []:
            under_way.append(f"canary {version_of(canary)} at {canary['trafficPercent']} %")
        if (percent := spec["predictor"].get("canaryTrafficPercent")) is not None:
            under_way.append(f"canary {version} at {percent} %")
        if self.history.is_unfinished(service):
            under_way.append(f"rollout of {version}, not checked yet")
        pods = self.cluster.pods({SERVICE_LABEL: self.name, VERSION_LABEL: version})
        deployed = self.history.deployed(version)
        return Status(
            **place,
            version=version,
            previous=deployed.previous if deployed else "",
            url=service.get("status", {}).get("url", ""),
            ready_pods=sum(_is_ready(pod) for pod in pods),
            wanted_pods=spec["predictor"].get("minReplicas", 1),
            under_way=under_way,
        )

    def _deploy(self, folder: Path, bundle: Bundle, settings: KServeSettings) -> str:
        findings = preflight(self.cluster, self.name, self.store.uri, settings)
        check(findings, self.name, self.namespace)
        for finding in findings:
            say(f"{finding.what} {finding.got}")
        uri = publish(folder, bundle, self.store, self.name)
        return Rollout(self.cluster, self.history, folder, bundle, settings, uri, self.poll_s).run()

    def _settings_for(self, to: str) -> tuple[KServeSettings, str]:
        """How to deploy the version `to` again, or with "" the one that served before; and which that is.

        Everything is as for the version that serves now, but for the image, which is the one that `to` ran
        in, with the GPUs that it ran on; and without a canary's steps, because a rollback is urgent.
        Raises ServingError where that cannot be known.
        """
        service = self.cluster.get(SERVICES, self.name)
        if service is None or not is_managed(service):
            raise ServingError(
                f"Nothing of defectline serves {self.name} in namespace {self.namespace}.",
                got="no InferenceService" if service is None else "an InferenceService of another owner",
                expected="a service to roll back",
                fix="Correct --name or --namespace.",
            )
        version = version_of(service["spec"])
        now = self.history.deployed(version)
        to = to or (now.previous if now else "")
        then = self.history.deployed(to) if to else None
        if then is None:
            raise ServingError(
                f"{self.name} cannot go back {f'to {to}' if to else 'from ' + version}.",
                got=f"{to} was never deployed to namespace {self.namespace}"
                if to
                else "no version before it",
                expected=f"one of {', '.join(self.history.versions()) or 'those that were deployed'}",
                fix="Name one with --to.",
            )
        changes = {key: getattr(then.settings, key) for key in ("image", "gpu", "gpu_type")}
        changes |= {"strategy": "candidate", "adopt": False}
        return (now or then).settings.model_copy(update=changes), to


def publish(folder: Path, bundle: Bundle, store: Storage, name: str) -> str:
    """Upload what the predictor reads to `serving/<name>/<version>/`, and return its URI.

    The whole bundle goes to `models/<name>/<version>/`: the next evaluation compares with it, and going
    back to it needs its golden pictures. SHA256SUMS comes last, so a folder that has it is complete; such a
    one is used as it is. Raises StoreError if it holds something else.
    """
    prefix = layout.serving_folder(name, bundle.version)
    with tempfile.TemporaryDirectory() as temporary:
        copy_served(folder, Path(temporary))
        publish_folder(Path(temporary), store, prefix)
    publish_folder(folder, store, layout.model_folder(name, bundle.version))
    return f"{store.url(prefix)}/"


def _is_ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any((condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions)
