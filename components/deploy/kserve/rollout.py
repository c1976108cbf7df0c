"""Deploy a bundle on KServe, and put the former one back whenever anything goes wrong.

check → publish → candidate: wait for its pods, ask for the golden pictures
      → write → wait for the pods → ask again; else restore, and ask what serves then.
"""

import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from defectline.components.common import layout
from defectline.components.common.bundle import Bundle, copy_served, publish_folder
from defectline.components.common.errors import Conflict, DefectlineError, ServingError
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.deploy import golden
from defectline.components.deploy.kserve import canary as kserve_canary
from defectline.components.deploy.kserve.cluster import (
    BUDGETS,
    RUNTIMES,
    SERVICES,
    Cluster,
    Unavailable,
    conflict,
    same_spec,
)
from defectline.components.deploy.kserve.history import History
from defectline.components.deploy.kserve.manifests import (
    VERSION_LABEL,
    KServeSettings,
    Manifest,
    candidate_name,
    candidate_service,
    candidate_settings,
    change_to,
    disruption_budget,
    inference_service,
    is_ours,
    merge_patch,
    mode_of,
    same_content,
    serving_runtime,
    version_of,
    without_canary,
)
from defectline.components.deploy.kserve.preflight import check, not_ours, preflight
from defectline.components.deploy.kserve.readiness import wait_until_gone, wait_until_rolled_out

__all__ = ["KServeSettings", "deploy_kserve", "find_champion"]


def deploy_kserve(
    bundle_folder: Path,
    bundle: Bundle,
    store: Storage,
    name: str,
    settings: KServeSettings,
    poll_s: float = 2.0,
) -> str:
    """Serve the sealed bundle as InferenceService `name`, and return the service's URL.

    No client reaches the version before it has given the golden answers: it first serves beside, as
    `<name>-candidate`, or as a canary where that is asked for. Then the service is updated pod by pod.
    Raises ServingError, or Conflict where somebody else deploys at the same time; what served before then
    serves again, was asked, and the error says so. What a deployment that was killed left behind, the next
    one clears away.
    """
    cluster = Cluster(settings.namespace)
    findings = preflight(cluster, name, store.uri, settings)
    check(findings, name, settings.namespace)
    for finding in findings:
        say(f"{finding.what} {finding.got}")
    uri = publish(bundle_folder, bundle, store, name)
    history = History(store, settings.namespace, name)
    return Rollout(cluster, history, bundle_folder, bundle, settings, uri, poll_s).run()


def find_champion(name: str, settings: KServeSettings) -> str | None:
    """The version that InferenceService `name` serves, or None where there is no such service.

    Raises ServingError if somebody else made it, unless it is to be adopted.
    """
    cluster = Cluster(settings.namespace)
    service = cluster.get(SERVICES, name)
    if service is None:
        return None
    if not is_ours(service) and not settings.adopt:
        check([not_ours(service, cluster.namespace)], name, cluster.namespace)
    return service["spec"]["predictor"].get("labels", {}).get(VERSION_LABEL)


def publish(bundle_folder: Path, bundle: Bundle, store: Storage, name: str) -> str:
    """Upload what the predictor reads to `serving/<name>/<version>/`, and return its URI.

    The whole bundle goes to `models/<name>/<version>/`: the next evaluation compares with it, and going
    back to it needs its golden pictures. SHA256SUMS comes last, so a folder that has it is complete; such a
    one is used as it is. Raises StoreError if it holds something else.
    """
    prefix = layout.serving_folder(name, bundle.version)
    with tempfile.TemporaryDirectory() as temporary:
        copy_served(bundle_folder, Path(temporary))
        publish_folder(Path(temporary), store, prefix)
    publish_folder(bundle_folder, store, layout.model_folder(name, bundle.version))
    return f"{store.url(prefix)}/"


def settings_of(store: Storage, name: str, namespace: str, to: str) -> tuple[KServeSettings, str]:
    """How to deploy the version `to` again, or with "" the one that served before; and which that is.

    Everything is as for the version that serves now, but for the image, which is the one that `to` ran in,
    with the GPUs that it ran on; and without a canary's steps, because whoever goes back is in a hurry.
    Raises ServingError where that cannot be known.
    """
    service = Cluster(namespace).get(SERVICES, name)
    if service is None or not is_ours(service):
        raise ServingError(
            f"Nothing of defectline serves {name} in namespace {namespace}.",
            got="no InferenceService" if service is None else "an InferenceService of somebody else",
            expected="a service to roll back",
            fix="Correct --name or --namespace.",
        )
    history = History(store, namespace, name)
    version = version_of(service["spec"])
    now = history.deployed(version)
    to = to or (now.former if now else "")
    then = history.deployed(to) if to else None
    if then is None:
        raise ServingError(
            f"{name} cannot go back {f'to {to}' if to else 'from ' + version}.",
            got=f"{to} was never deployed to namespace {namespace}" if to else "no version before it",
            expected=f"one of {', '.join(history.versions()) or 'those that were deployed'}",
            fix="Name one with --to.",
        )
    changes = {key: getattr(then.settings, key) for key in ("image", "gpu", "gpu_type")}
    changes |= {"strategy": "candidate", "adopt": False}
    return (now or then).settings.model_copy(update=changes), to


class Rollout:
    """One deployment of a bundle to the service `name`, from the first write to the last check."""

    def __init__(
        self,
        cluster: Cluster,
        history: History,
        folder: Path,
        bundle: Bundle,
        settings: KServeSettings,
        uri: str,
        poll_s: float,
    ):
        self.cluster, self.history, self.name = cluster, history, history.name
        self.folder, self.bundle, self.settings, self.poll_s = folder, bundle, settings, poll_s
        self.service = inference_service(self.name, bundle.version, uri, settings)
        self.candidate = candidate_service(self.name, bundle.version, uri, settings)
        self.current = cluster.get(SERVICES, self.name)
        """The service as it was last read or written here."""
        self.former, self.marks = history.former(self.current, self.service)
        """The spec to go back to, None where nothing served; and the labels and annotations."""

    def run(self) -> str:
        """Deploy, and return the URL of the service."""
        try:
            self._remove_candidate()
            if self.current is None or self.current["spec"] != self.former or not self._is_there():
                self._write_runtimes()
                if self.current and self.settings.strategy == "canary":
                    kserve_canary.try_out(self)
                else:
                    self._try_candidate()
            live = self.wait(self._write())
            self._protect(live)
            self.ask(live, self.folder, self.bundle)
        except BaseException as error:
            # Also an interrupt must not leave a version behind that nobody has checked.
            raise self._given_up(error) from error
        former = self.former["predictor"].get("labels", {}) if self.former else {}
        self.history.write_deployed(self.bundle.version, former.get(VERSION_LABEL, ""), self.settings)
        self.history.end(self.service["spec"])
        url = self.settings.url or live["status"]["url"]
        say(f"{self.name} serves {self.bundle.version} at {url}")
        return url

    def wait(self, service: Manifest, canary: Manifest | None = None) -> Manifest:
        """The live service, once its pods, or those of its canary, are ready."""
        return wait_until_rolled_out(self.cluster, service, self.settings.timeout_s, self.poll_s, canary)

    def address(self, live: Manifest, url: str = "") -> tuple[str, dict[str, str] | None]:
        """Where the live service, or the part of it that answers at `url`, is asked; with which headers."""
        status = live.get("status", {})
        if not self.settings.url:
            inner = status.get("address", {}).get("url") if self.cluster.inside else None
            return url or inner or status["url"], None
        is_service = not url and live["metadata"]["name"] == self.name
        host = (is_service and self.settings.host_header) or urlsplit(url or status["url"]).netloc
        return self.settings.url, {"Host": host}

    def ask(self, live: Manifest, folder: Path, bundle: Bundle) -> None:
        """Ask the live service for the golden pictures of the bundle in `folder`."""
        url, headers = self.address(live)
        name = live["metadata"]["name"]
        golden.wait_until_ready(url, name, golden.SETTLE_S, headers=headers)
        golden.ask(url, name, folder, bundle, headers=headers)
        say(f"{name} {bundle.version}: {len(bundle.golden)} golden pictures answered as sealed")

    def change(self, patch: Manifest) -> Manifest:
        """Change the service, unless somebody else has changed it since."""
        assert self.current is not None
        self.current = self.cluster.patch(SERVICES, self.current, patch)
        return self.current

    def begin(self) -> None:
        """From here on, a deployment that finds the new spec in force knows that it was never checked."""
        self.history.begin(self.service["spec"], self.former, self.marks)

    def _is_there(self) -> bool:
        return self.current is not None and same_content(self.current["spec"], self.service["spec"])

    # The candidate.

    def _try_candidate(self) -> None:
        """Check the version beside the service, in one pod that no client knows.

        It is gone before the service changes, so that a rollout never needs more than one pod more.
        """
        beside = candidate_name(self.name)
        written = None
        try:
            written = self._create(self.candidate)
            live = self.wait(written)
            self.ask(live, self.folder, self.bundle)
        except BaseException:
            try:
                if written:
                    self.cluster.delete(SERVICES, written)
            except ServingError as error:
                say(f"{beside} is left for the next deployment to clear away: {error.what} {error.got}")
            except Conflict:
                say(f"{beside} is another deployment's by now")
            raise
        self.cluster.delete(SERVICES, written)
        wait_until_gone(self.cluster, beside, self.settings.timeout_s, self.poll_s)

    def _remove_candidate(self) -> None:
        """Remove what another deployment left behind; one that is still at work notices, and gives up."""
        beside = candidate_name(self.name)
        found = self.cluster.get(SERVICES, beside)
        if found:
            say(f"{beside} is there from another deployment: removing it")
            self.cluster.delete(SERVICES, found)
            wait_until_gone(self.cluster, beside, self.settings.timeout_s, self.poll_s)

    # Writing.

    def _write_runtimes(self) -> None:
        for settings in (candidate_settings(self.settings), self.settings):
            runtime = serving_runtime(settings)
            name = runtime["metadata"]["name"]
            if self.cluster.get(RUNTIMES, name) is None:
                try:
                    self.cluster.create(RUNTIMES, runtime)
                except Conflict:
                    say(f"{name} was made by somebody else meanwhile")  # and holds the same: see its name

    def _write(self) -> Manifest:
        """Create or change the service itself."""
        self.begin()
        if self.current is None:
            self.current = self._create(self.service)
            return self.current
        try:
            return self.change(change_to(self.current, self.service))
        except Unavailable:
            found = self._after_all(self.service)
            if found is None:
                raise
            self.current = found
            return found

    def _create(self, service: Manifest) -> Manifest:
        try:
            return self.cluster.create(SERVICES, service)
        except Unavailable:
            found = self._after_all(service)
            if found is None:
                raise
            return found

    def _after_all(self, service: Manifest) -> Manifest | None:
        """The service, if it is there as it was written: the answer was lost, but perhaps not the request."""
        found = self.cluster.get(SERVICES, service["metadata"]["name"])
        return found if found and same_content(found["spec"], service["spec"]) else None

    def _protect(self, live: Manifest) -> None:
        """Have pods taken away one at a time where nodes are drained."""
        if self.settings.max_replicas > 1 and self.cluster.get(BUDGETS, self.name) is None:
            try:
                self.cluster.create(BUDGETS, disruption_budget(live))
            except Conflict:
                say(f"the disruption budget {self.name} was made by somebody else meanwhile")

    # Going back.

    def _given_up(self, error: BaseException) -> BaseException:
        """The error to raise, once what served before serves again."""
        if isinstance(error, Conflict):
            # What is there now is theirs, and they check it.
            return Conflict(
                f"{self.bundle.version} was not deployed: somebody else is deploying {self.name}.",
                got=f"{error.what} {error.got}",
                expected=error.expected,
                fix=error.fix,
            )
        say(f"{self.name} {self.bundle.version} failed: going back")
        deadline = time.monotonic() + self.settings.timeout_s
        state = ""
        try:
            while not state:
                try:
                    state = self._go_back()
                except Unavailable:
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(self.poll_s)
        except DefectlineError as another:
            state = f"going back failed as well. {another.what} {another.got}. {another.fix}"
        if not isinstance(error, DefectlineError):
            say(state)
            return error
        return ServingError(
            f"{self.bundle.version} was not deployed: {state}",
            got=f"{error.what} {error.got}",
            expected=error.expected,
            fix=error.fix,
        )

    def _go_back(self) -> str:
        """Bring back what served before, ask it, and say in a sentence what serves now."""
        found = self.cluster.get(SERVICES, self.name)
        if self.current is None and found and same_content(found["spec"], self.service["spec"]):
            self.current = found  # interrupted between the request and its answer
        if (found is None) != (self.current is None):
            raise conflict(SERVICES, self.name)
        if found is None or self.current is None:
            return "nothing serves, as before."
        # What is there may be of a request of ours whose answer was lost.
        ours = [found["spec"], *(found["spec"].get("canary") or [])]
        if not (
            same_spec(found, self.current)
            or any(same_content(spec, self.service["spec"]) for spec in ours)
            or without_canary(found["spec"]) == self.former
        ):
            raise conflict(SERVICES, self.name)
        self.current = found
        if self.former is None:
            self.cluster.delete(SERVICES, found)
            wait_until_gone(self.cluster, self.name, self.settings.timeout_s, self.poll_s)
            self.history.end(self.service["spec"])
            return "nothing serves, as before."
        if found["spec"] != self.former:
            if mode_of(found) == "Knative":
                kserve_canary.go_back(self, self.former)
            else:
                self.change({"spec": merge_patch(found["spec"], self.former)})
        there = self.current["metadata"]
        if any(
            (there.get(part) or {}).get(key) != value
            for part, marks in self.marks.items()
            for key, value in marks.items()
        ):
            self.change({"metadata": self.marks})
        live = self.wait(self.current)
        version = version_of(self.former)
        with tempfile.TemporaryDirectory() as temporary:
            bundle = self.history.fetch_golden(version, Path(temporary))
            if bundle:
                self.ask(live, Path(temporary), bundle)
        self.history.end(self.service["spec"])
        if bundle:
            return f"{version} still serves."
        return f"{version} still serves; the store holds no golden pictures to ask it for."
