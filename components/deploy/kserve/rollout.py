"""One deployment on KServe, from the first write to the last check.

candidate: wait for its pods, ask for the golden pictures
      → write → wait for the pods → ask again; else put the previous spec back, and ask what serves then.
"""

import tempfile
from pathlib import Path

from defectline.components.common.bundle import Bundle
from defectline.components.common.errors import Conflict, DefectlineError, ServingError
from defectline.components.common.steps import say
from defectline.components.common.waiting import poll
from defectline.components.deploy.kserve import canary
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
from defectline.components.deploy.kserve.live import LiveService
from defectline.components.deploy.kserve.manifests import (
    VERSION_LABEL,
    Manifest,
    candidate_name,
    candidate_service,
    candidate_settings,
    change_to,
    disruption_budget,
    inference_service,
    merge_patch,
    mode_of,
    same_content,
    serving_runtime,
    version_of,
    without_canary,
)
from defectline.components.deploy.kserve.readiness import wait_until_gone
from defectline.components.deploy.kserve.settings import KServeSettings


class Rollout:
    """The deployment of a bundle to the service `name`; `uri` is where KServe fetches the model."""

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
        found = cluster.get(SERVICES, self.name)
        self.live = self._live(found) if found else None
        """None as long as there is no service."""
        self.previous, self.metadata = history.previous(found, self.service)
        """The spec to go back to, None where nothing served; and the labels and annotations."""

    def run(self) -> str:
        """Deploy, and return the URL of the service. Raises ServingError or Conflict, rolled back."""
        try:
            self._remove_candidate()
            if not self._is_checked():
                self._write_runtimes()
                if self.live and self.previous and self.settings.strategy == "canary":
                    self._run_canary(self.live, version_of(self.previous))
                else:
                    self._run_candidate()
            live = self._write()
            live.wait()
            self._protect(live.current)
            live.check(self.folder, self.bundle)
        except BaseException as error:
            # Also an interrupt must not leave a version behind that was never checked.
            raise self._fail(error) from error
        previous = self.previous["predictor"].get("labels", {}) if self.previous else {}
        self.history.write_deployed(self.bundle.version, previous.get(VERSION_LABEL, ""), self.settings)
        self.history.end(self.service["spec"])
        url = self.settings.url or live.current["status"]["url"]
        say(f"{self.name} serves {self.bundle.version} at {url}")
        return url

    def _live(self, found: Manifest) -> LiveService:
        return LiveService(self.cluster, found, self.settings, self.poll_s)

    def _is_checked(self) -> bool:
        """Whether the new spec is in force already, by a rollout that has ended."""
        spec = self.live.current["spec"] if self.live else None
        return spec is not None and spec == self.previous and same_content(spec, self.service["spec"])

    def _begin(self) -> None:
        """From here on, a deployment that finds the new spec in force knows that it was never checked."""
        self.history.begin(self.service["spec"], self.previous, self.metadata)

    # Checks before the service changes for every client.

    def _run_canary(self, live: LiveService, version: str) -> None:
        """Share requests between the new version and `version`, which serves now."""
        with tempfile.TemporaryDirectory() as temporary:
            previous = self.history.fetch_golden(version, Path(temporary))
            if previous is None:
                raise ServingError(
                    f"Whether {self.name} answers well during a canary cannot be told.",
                    got=f"no bundle of {version} in the store",
                    expected="the golden pictures of both versions",
                    fix="Set `strategy` to candidate.",
                )
            new = self.folder, self.bundle
            canary.run_canary(live, self.service, self._begin, new, (Path(temporary), previous))

    def _run_candidate(self) -> None:
        """Check the version in a second service of one pod, which no client knows.

        It is gone before the service changes, so that a rollout never needs more than one pod more.
        """
        candidate = candidate_name(self.name)
        written = None
        try:
            written = self._create(self.candidate)
            live = LiveService(self.cluster, written, candidate_settings(self.settings), self.poll_s)
            live.wait()
            live.check(self.folder, self.bundle)
        except BaseException:
            try:
                if written:
                    self.cluster.delete(SERVICES, written)
            except ServingError as error:
                say(f"{candidate} is left for the next deployment to remove: {error.what} {error.got}")
            except Conflict:
                say(f"{candidate} is another deployment's by now")
            raise
        self.cluster.delete(SERVICES, written)
        wait_until_gone(self.cluster, candidate, self.settings.timeout_s, self.poll_s)

    def _remove_candidate(self) -> None:
        """Remove what another deployment left behind; one that is still at work notices, and gives up."""
        candidate = candidate_name(self.name)
        found = self.cluster.get(SERVICES, candidate)
        if found:
            say(f"{candidate} is there from another deployment: removing it")
            self.cluster.delete(SERVICES, found)
            wait_until_gone(self.cluster, candidate, self.settings.timeout_s, self.poll_s)

    # Writing.

    def _write_runtimes(self) -> None:
        for settings in (candidate_settings(self.settings), self.settings):
            runtime = serving_runtime(settings)
            name = runtime["metadata"]["name"]
            if self.cluster.get(RUNTIMES, name) is None:
                try:
                    self.cluster.create(RUNTIMES, runtime)
                except Conflict:
                    # With the same content: the name is its digest.
                    say(f"{name} was made by another process meanwhile")

    def _write(self) -> LiveService:
        """Create or change the service itself."""
        self._begin()
        if self.live is None:
            self.live = self._live(self._create(self.service))
            return self.live
        try:
            self.live.change(change_to(self.live.current, self.service))
        except Unavailable:
            found = self._written_after_all(self.service)
            if found is None:
                raise
            self.live.current = found
        return self.live

    def _create(self, service: Manifest) -> Manifest:
        try:
            return self.cluster.create(SERVICES, service)
        except Unavailable:
            found = self._written_after_all(service)
            if found is None:
                raise
            return found

    def _written_after_all(self, service: Manifest) -> Manifest | None:
        """The service, if it is there as it was written: the answer was lost, but perhaps not the request."""
        found = self.cluster.get(SERVICES, service["metadata"]["name"])
        return found if found and same_content(found["spec"], service["spec"]) else None

    def _protect(self, service: Manifest) -> None:
        """Have pods taken away one at a time where nodes are drained."""
        if self.settings.max_replicas > 1 and self.cluster.get(BUDGETS, self.name) is None:
            try:
                self.cluster.create(BUDGETS, disruption_budget(service))
            except Conflict:
                say(f"the disruption budget {self.name} was made by another process meanwhile")

    # Rolling back.

    def _fail(self, error: BaseException) -> BaseException:
        """The error to raise, once what served before serves again."""
        if isinstance(error, Conflict):
            # What is there now is the other deployment's, which checks it.
            return Conflict(
                f"{self.bundle.version} was not deployed: another process is deploying {self.name}.",
                got=f"{error.what} {error.got}",
                expected=error.expected,
                fix=error.fix,
            )
        say(f"{self.name} {self.bundle.version} failed: rolling back")
        try:
            state = poll(self._roll_back, self.settings.timeout_s, self.poll_s, Unavailable)
        except DefectlineError as another:
            state = f"rolling back failed as well. {another.what} {another.got}. {another.fix}"
        if not isinstance(error, DefectlineError):
            say(state)
            return error
        return ServingError(
            f"{self.bundle.version} was not deployed: {state}",
            got=f"{error.what} {error.got}",
            expected=error.expected,
            fix=error.fix,
        )

    def _roll_back(self) -> str:
        """Bring back what served before, ask it, and say in a sentence what serves now."""
        found = self.cluster.get(SERVICES, self.name)
        if self.live is None and found and same_content(found["spec"], self.service["spec"]):
            self.live = self._live(found)  # interrupted between the request and its answer
        if (found is None) != (self.live is None):
            raise conflict(SERVICES, self.name)
        if found is None or self.live is None:
            return "nothing serves, as before."
        # What is there may be of a request of this rollout whose answer was lost.
        written = [found["spec"], *(found["spec"].get("canary") or [])]
        if not (
            same_spec(found, self.live.current)
            or any(same_content(spec, self.service["spec"]) for spec in written)
            or without_canary(found["spec"]) == self.previous
        ):
            raise conflict(SERVICES, self.name)
        self.live.current = found
        if self.previous is None:
            self.cluster.delete(SERVICES, found)
            wait_until_gone(self.cluster, self.name, self.settings.timeout_s, self.poll_s)
            self.history.end(self.service["spec"])
            return "nothing serves, as before."
        return self._restore(self.live, self.previous)

    def _restore(self, live: LiveService, previous: Manifest) -> str:
        """Put the spec `previous` back in force, with the metadata; the sentence of `_roll_back`."""
        if live.current["spec"] != previous:
            if mode_of(live.current) == "Knative":
                canary.roll_back(live, previous)
            else:
                live.change({"spec": merge_patch(live.current["spec"], previous)})
        there = live.current["metadata"]
        if any(
            (there.get(part) or {}).get(key) != value
            for part, entries in self.metadata.items()
            for key, value in entries.items()
        ):
            live.change({"metadata": self.metadata})
        live.wait()
        version = version_of(previous)
        with tempfile.TemporaryDirectory() as temporary:
            bundle = self.history.fetch_golden(version, Path(temporary))
            if bundle:
                live.check(Path(temporary), bundle)
        self.history.end(self.service["spec"])
        if bundle:
            return f"{version} still serves."
        return f"{version} still serves; the store contains no golden pictures to check it with."
