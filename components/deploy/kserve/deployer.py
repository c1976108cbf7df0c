"""Models that serve on KServe.

deploy: preflight → publish → `Rollout`, which leaves what served before in force where anything fails.
"""

import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from defectline.components.common import layout
from defectline.components.common.bundle import Bundle, copy_served, publish_folder
from defectline.components.common.errors import ServingError
from defectline.components.common.records import read_outcome
from defectline.components.common.settings import checked
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.common.waiting import poll
from defectline.components.deploy.kserve.answers import Unavailable
from defectline.components.deploy.kserve.cluster import SERVICES, Cluster
from defectline.components.deploy.kserve.gateway.check import warn_of_gateway
from defectline.components.deploy.kserve.history import History, spec_digest
from defectline.components.deploy.kserve.live import check_gateway, is_ready
from defectline.components.deploy.kserve.manifests import (
    SERVICE_LABEL,
    VERSION_LABEL,
    Manifest,
    candidate_name,
    is_managed,
    version_of,
)
from defectline.components.deploy.kserve.preflight.checks import preflight
from defectline.components.deploy.kserve.preflight.findings import check, not_managed
from defectline.components.deploy.kserve.rollout import Rollout
from defectline.components.deploy.kserve.settings import KServeSettings
from defectline.components.deploy.kserve.undo import (
    Place,
    check_live,
    end_canary,
    go_back,
    remove_candidate,
    run_of,
    undo,
)
from defectline.components.deploy.oci import Repository, push
from defectline.components.deploy.rollback import RUN, fetched
from defectline.components.deploy.status import Deployed, Status, last_run

T = TypeVar("T")


class KServe:
    """A `Deployer`: the InferenceService `name` in the namespace that `fields` names.

    `fields` are those of KServeSettings; to roll back and for the status the namespace is enough, and where
    the endpoint is asked may be said as well. `poll_s` is the pause between two looks at the cluster.
    """

    outage_s = 120.0
    """So long a step waits for an API server that is away, before it changes anything: nothing else tries it
    again."""
    gateway_s = 20.0
    """So long the gateway may take to lead clients to a version that serves."""

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
        service = self._patiently(self._service)
        if service is None:
            return ""
        if not is_managed(service) and not settings.adopt:
            check([not_managed(service, self.namespace)], self.name, self.namespace)
        return service["spec"]["predictor"].get("labels", {}).get(VERSION_LABEL, "")

    def deploy(self, folder: Path, bundle: Bundle, run: str) -> Deployed:
        """Serve the sealed bundle.

        No client reaches the version before it has given the golden answers: it first serves as
        `<name>-candidate`, or as a canary where that is asked for. Then the service is updated pod by pod.
        Raises ServingError, or Conflict where another process deploys at the same time; what served before
        then serves again, was checked, and the error says so. What a deployment that was killed left behind,
        `undo` of its run takes back, or the next one. That clients who come through the gateway do not reach
        the version is warned of, and takes nothing back: it answers within the cluster.
        """
        return self._deploy(folder, bundle, self.settings, run)

    def roll_back(self, to: str = "") -> str:
        """Serve the version `to`, or with "" the one before the champion; return the version.

        Where a rollout was begun and never checked, the one before is the last that was.
        """
        if not to and (checked := self._end_what_was_begun()):
            return checked
        settings, version = self._settings_for(to)
        with fetched(self.store, self.name, version) as (folder, bundle):
            self._deploy(folder, bundle, settings, RUN)
        return version

    def deployed_by(self, run: str) -> str:
        service = self._patiently(self._service)
        if service is None or self.history.unfinished(service):
            return ""
        version = version_of(service["spec"])
        deployed = self.history.deployed(version)
        return version if deployed and run and deployed.run == run else ""

    def undo(self, run: str) -> str:
        return undo(self._place(self.settings), self.name, run)

    def status(self) -> Status:
        under_way = []
        if candidate := self.cluster.get(SERVICES, candidate_name(self.name)):
            under_way.append(f"candidate {version_of(candidate['spec'])}{self._by(run_of(candidate))}")
        place = {"name": self.name, "namespace": self.namespace, **last_run(self.store, self.name)}
        service = self.cluster.get(SERVICES, self.name)
        if service is None:
            return Status(**place, ready_pods=0, under_way=under_way)
        spec, version = service["spec"], version_of(service["spec"])
        for canary in spec.get("canary") or []:
            under_way.append(f"canary {version_of(canary)} at {canary['trafficPercent']} %")
        if (percent := spec["predictor"].get("canaryTrafficPercent")) is not None:
            under_way.append(f"canary {version} at {percent} %")
        rollout = self.history.unfinished(service)
        if rollout:
            under_way.append(f"rollout of {version}, not checked yet{self._by(rollout.run)}")
        pods = self.cluster.pods({SERVICE_LABEL: self.name, VERSION_LABEL: version})
        return Status(
            **place,
            version=version,
            previous=self._last_checked(service),
            url=service.get("status", {}).get("url", ""),
            ready_pods=sum(map(is_ready, pods)),
            wanted_pods=spec["predictor"].get("minReplicas", 1),
            under_way=under_way,
        )

    def _by(self, run: str) -> str:
        """Whose deployment it is, and whether that has ended, to follow what is under way."""
        if not run:
            return ""
        who = "a rollback" if run == RUN else f"run {run}"
        if read_outcome(self.store, run) is None:
            return f", by {who}"
        return f", left by {who}: the next deployment ends it, and so does `defectline rollback`"

    def _last_checked(self, service: Manifest) -> str:
        """What `roll_back` goes back to; "" for nothing."""
        if rollout := self.history.unfinished(service):
            return version_of(rollout.previous) if rollout.previous else ""
        version = version_of(service["spec"])
        if service["spec"].get("canary"):
            return version
        deployed = self.history.deployed(version)
        return deployed.previous if deployed else ""

    def _end_what_was_begun(self) -> str:
        """Go back from a canary or a rollout that was never checked; the version, "" where there is none.

        Raises ServingError where nothing was checked before, and where that cannot be brought back.
        """
        service = self.cluster.get(SERVICES, self.name)
        if service is None or not is_managed(service):
            return ""
        rollout, version = self.history.unfinished(service), self._last_checked(service)
        if not rollout and not service["spec"].get("canary"):
            return ""
        if not version:
            raise ServingError(
                f"{self.name} has no version to go back to.",
                got=f"{version_of(service['spec'])}, which was never checked, and nothing before it",
                expected="a version that was checked",
                fix="Run the pipeline, which checks a version before it serves; or name one with --to.",
            )
        settings = rollout.settings if rollout else None
        if settings is None and (deployed := self.history.deployed(version)):
            settings = deployed.settings
        if settings is None:
            return ""
        place = self._place(self._asked(settings))
        live = place.live(service)
        live.check_address()
        if remove_candidate(place, self.name):
            say(f"{candidate_name(self.name)} was there from another deployment: it is removed")
        if rollout:
            say(go_back(place, live, rollout, spec_digest(service["spec"])))
        else:
            end_canary(place, live)
            check_live(place, live, version)
        return version

    def _service(self) -> Manifest | None:
        return self.cluster.get(SERVICES, self.name)

    def _patiently(self, look: Callable[[], T]) -> T:
        return poll(look, self.outage_s, self.poll_s, Unavailable)

    def _place(self, settings: KServeSettings) -> Place:
        return Place(self.cluster, self.history, settings, self.poll_s)

    def _asked(self, settings: KServeSettings) -> KServeSettings:
        """`settings` with the address by which the endpoint is asked this time."""
        given = {key: self.fields[key] for key in ("url", "host_header") if self.fields.get(key)}
        if given or not settings.url or self.cluster.inside or settings.deployment_mode == "Knative":
            return settings.model_copy(update=given)
        try:
            check_gateway(self.name, settings)
        except ServingError as error:
            # The gateway that the pipeline asks by need not be one that this machine reaches.
            say(f"{settings.url} is not reached from here, so the API server is asked: {error.got}")
            return settings.model_copy(update={"url": "", "host_header": ""})
        return settings

    def _deploy(self, folder: Path, bundle: Bundle, settings: KServeSettings, run: str) -> Deployed:
        asked = self._asked(settings)
        findings = self._patiently(lambda: preflight(self.cluster, self.name, self.store.uri, asked))
        check(findings, self.name, self.namespace)
        for finding in findings:
            say(f"{finding.what} {finding.got}")
        place, service = self._place(asked), self._patiently(self._service)
        if service:
            place.live(service).check_address()
        elif asked.url:
            check_gateway(self.name, asked)
        uri = publish(folder, bundle, self.store, self.name, asked.registry)
        live = Rollout(place, folder, bundle, uri, run, noted=settings).run()
        url = asked.url or live.current["status"]["url"]
        return Deployed(f"at {url}", warn_of_gateway(live, folder, bundle, self.gateway_s))

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


def publish(folder: Path, bundle: Bundle, store: Storage, name: str, registry: str = "") -> str:
    """Upload what the predictor reads to `serving/<name>/<version>/`, or push it to the registry, and return
    its URI, there with a digest: a tag that is moved later changes nothing.

    The whole bundle goes to `models/<name>/<version>/`: the next evaluation compares with it, and going
    back to it needs its golden pictures. SHA256SUMS comes last, so a folder that has it is complete; such a
    one is used as it is. Raises StoreError if it holds something else.
    """
    prefix = layout.serving_folder(name, bundle.version)
    if registry:
        publish_folder(folder, store, layout.model_folder(name, bundle.version))
        return f"oci+native://{push(folder, bundle, Repository.parse(registry))}"
    with tempfile.TemporaryDirectory() as temporary:
        copy_served(folder, Path(temporary))
        publish_folder(Path(temporary), store, prefix)
    publish_folder(folder, store, layout.model_folder(name, bundle.version))
    return f"{store.url(prefix)}/"
