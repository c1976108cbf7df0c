"""One deployment on KServe, from the first write to the last check.

candidate: wait for its pods, ask for the golden pictures
      → write → wait for the pods → ask again; else go back, see `undo.py`, and ask what serves then.
"""

import tempfile
from pathlib import Path

from defectline.components.common.bundle import Bundle
from defectline.components.common.errors import Conflict, DefectlineError, ServingError
from defectline.components.common.steps import say
from defectline.components.common.waiting import poll
from defectline.components.deploy.golden import Side
from defectline.components.deploy.kserve import canary
from defectline.components.deploy.kserve.answers import Unavailable, conflict
from defectline.components.deploy.kserve.cluster import BUDGETS, RUNTIMES, SERVICES, same_spec
from defectline.components.deploy.kserve.history import Unfinished, spec_digest
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
    same_content,
    version_of,
)
from defectline.components.deploy.kserve.readiness import wait_until_gone
from defectline.components.deploy.kserve.runtimes import remove_unneeded, runtimes_of
from defectline.components.deploy.kserve.settings import KServeSettings
from defectline.components.deploy.kserve.undo import Place, end_canary, go_back, remove_candidate


class Rollout:
    """The deployment of a bundle to a service, by `run`; `uri` is where KServe fetches the model.

    `noted` are the settings that the history remembers: the place may be asked at another address this time.
    """

    def __init__(self, place: Place, folder: Path, bundle: Bundle, uri: str, run: str, noted: KServeSettings):
        self.place, self.cluster, self.history = place, place.cluster, place.history
        self.settings, self.poll_s, self.name = place.settings, place.poll_s, place.history.name
        self.folder, self.bundle, self.noted = folder, bundle, noted
        self.service = inference_service(self.name, bundle.version, uri, self.settings)
        self.candidate = candidate_service(self.name, bundle.version, uri, self.settings, run)
        self.digest = spec_digest(self.service["spec"])
        found = self.cluster.get(SERVICES, self.name)
        self.live = place.live(found) if found else None
        """None as long as there is no service."""
        self.found = spec_digest(found["spec"]) if found else self.digest
        previous, metadata = self.history.before(found, self.service)
        self.record = Unfinished(previous=previous, metadata=metadata, run=run, settings=noted)
        """The spec to go back to, None where nothing served; and the labels and annotations."""

    @property
    def previous(self) -> Manifest | None:
        return self.record.previous

    def run(self) -> LiveService:
        """Deploy, and return the service. Raises ServingError or Conflict, rolled back."""
        try:
            self._remove_what_was_left()
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
        before = previous.get(VERSION_LABEL, "")
        self.history.write_deployed(self.bundle.version, before, self.noted, self.record.run)
        self._end()
        remove_unneeded(self.cluster, self.history.store)
        url = self.settings.url or live.current["status"]["url"]
        say(f"{self.name} serves {self.bundle.version} at {url}")
        return live

    def _is_checked(self) -> bool:
        """Whether the new spec is in force already, by a rollout that has ended."""
        spec = self.live.current["spec"] if self.live else None
        return spec is not None and spec == self.previous and same_content(spec, self.service["spec"])

    def _begin(self) -> None:
        """From here on, a deployment that finds the new spec in force knows that it was never checked."""
        self.history.begin(self.service["spec"], self.record)

    def _end(self) -> None:
        """Note that nothing is under way any more: this rollout, and one that it found in force."""
        for digest in {self.digest, self.found}:
            self.history.end(digest)

    # Checks before the service changes for every client.

    def _run_canary(self, live: LiveService, version: str) -> None:
        """Share requests between the new version and `version`, which serves now."""
        with tempfile.TemporaryDirectory() as temporary:
            previous = self.history.fetch_golden(version, Path(temporary))
            if previous is None or not previous.golden:
                raise ServingError(
                    f"Whether {self.name} answers well during a canary cannot be told.",
                    got=f"no golden pictures of {version} in the store",
                    expected="the golden pictures of both versions",
                    fix="Set `strategy` to candidate.",
                )
            sides = Side(self.folder, self.bundle), Side(Path(temporary), previous)
            canary.run_canary(live, self.service, self._begin, *sides)

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

    def _remove_what_was_left(self) -> None:
        """Remove what another deployment left behind; one that is still at work notices, and gives up."""
        if remove_candidate(self.place, self.name):
            say(f"{candidate_name(self.name)} was there from another deployment: it is removed")
        spec = self.live.current["spec"] if self.live else {}
        if self.live and "canary" in spec:
            say(f"{self.name} had a canary of another deployment: it gets no more requests")
            end_canary(self.place, self.live)
        elif self.live and spec.get("predictor", {}).get("canaryTrafficPercent"):
            say(f"{self.name} had a canary of another deployment: it gets no more requests")
            self.live.change({"spec": {"predictor": {"canaryTrafficPercent": 0}}})

    # Writing.

    def _write_runtimes(self) -> None:
        for runtime in runtimes_of(self.settings):
            name = runtime["metadata"]["name"]
            if self.cluster.get(RUNTIMES, name) is None:
                try:
                    self.cluster.create(RUNTIMES, runtime)
                except Conflict:
                    # With the same content: the name is its digest.
                    say(f"{name} was made by another process meanwhile")

    def _write(self) -> LiveService:
        """Create or change the service itself."""
        self._write_runtimes()  # another model's deployment may have found no use for them
        self._begin()
        if self.live is None:
            self.live = self.place.live(self._create(self.service))
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
        say(f"{self.name} {self.bundle.version} failed: what served before goes on")
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
            self.live = self.place.live(found)  # interrupted between the request and its answer
        if (found is None) != (self.live is None):
            raise conflict(SERVICES, self.name)
        if found is None or self.live is None:
            return "nothing serves, as before."
        # What is there may be of a request of this rollout whose answer was lost.
        ours = same_spec(found, self.live.current) or found["spec"] == self.previous
        if not (ours or self.record.writes(found["spec"], self.digest)):
            raise conflict(SERVICES, self.name)
        self.live.current = found
        said = go_back(self.place, self.live, self.record, self.digest)
        self._end()
        return said
