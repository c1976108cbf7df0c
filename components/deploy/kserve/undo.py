"""Go back from a rollout that did not end well, or not at all."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from defectline.components.common.errors import Conflict, ServingError
from defectline.components.common.steps import say
from defectline.components.common.waiting import poll
from defectline.components.deploy.kserve import canary
from defectline.components.deploy.kserve.answers import Unavailable
from defectline.components.deploy.kserve.cluster import SERVICES, Cluster
from defectline.components.deploy.kserve.history import History, Unfinished, spec_digest
from defectline.components.deploy.kserve.live import LiveService
from defectline.components.deploy.kserve.manifests import (
    RUN_ANNOTATION,
    Manifest,
    candidate_name,
    merge_patch,
    mode_of,
    version_of,
)
from defectline.components.deploy.kserve.readiness import wait_until_gone
from defectline.components.deploy.kserve.settings import KServeSettings


class Place(NamedTuple):
    """Where and how a model serves, for those who change it."""

    cluster: Cluster
    history: History
    settings: KServeSettings
    poll_s: float

    def live(self, found: Manifest) -> LiveService:
        return LiveService(self.cluster, found, self.settings, self.poll_s)


def go_back(place: Place, live: LiveService, rollout: Unfinished, digest: str) -> str:
    """Bring back what served before a rollout of the spec with `digest`, ask it, and say what serves now.

    Raises ServingError where it cannot be brought back, Conflict where another process changes the service.
    """
    if rollout.previous is None:
        place.cluster.delete(SERVICES, live.current)
        wait_until_gone(place.cluster, live.name, place.settings.timeout_s, place.poll_s)
        place.history.end(digest)
        return "nothing serves, as before."
    changed = _restore(live, rollout.previous, rollout.metadata)
    version = version_of(rollout.previous)
    try:
        checked = check_live(place, live, version)
    except Unavailable:
        raise
    except ServingError as error:
        if changed:
            raise
        # What was never changed needs no way back; only whether it answers could not be told.
        place.history.end(digest)
        return f"{version} was left as it was, and could not be asked: {error.what} {error.got}."
    place.history.end(digest)
    if checked:
        return f"{version} still serves."
    return f"{version} still serves; the store contains no golden pictures to check it with."


def _restore(live: LiveService, previous: Manifest, metadata: Mapping[str, Manifest]) -> bool:
    """Put the spec `previous` in force, with the metadata; whether anything had to change."""
    changed = False
    if live.current["spec"] != previous:
        changed = True
        if mode_of(live.current) == "Knative":
            canary.roll_back(live, previous)
        else:
            live.change({"spec": merge_patch(live.current["spec"], previous)})
    there = live.current["metadata"]
    if any(
        (there.get(part) or {}).get(key) != value
        for part, entries in metadata.items()
        for key, value in entries.items()
    ):
        changed = True
        live.change({"metadata": dict(metadata)})
    return changed


def end_canary(place: Place, live: LiveService) -> None:
    """Give all requests to the version that serves beside a canary, in Standard mode."""
    canaries = live.current["spec"]["canary"]
    live.change({"spec": {"canary": None}})
    for one in canaries:
        place.history.end(spec_digest(one))


def check_live(place: Place, live: LiveService, version: str) -> bool:
    """Wait for the pods of `version`, and ask for its golden pictures; False where the store has none."""
    live.wait()
    with tempfile.TemporaryDirectory() as temporary:
        bundle = place.history.fetch_golden(version, Path(temporary))
        if bundle:
            live.check(Path(temporary), bundle)
        return bundle is not None


def remove_candidate(place: Place, name: str, run: str = "") -> bool:
    """Remove the candidate of the service `name`, of `run` or of any; whether there was one.

    A deployment that is still at work on it notices, and gives up.
    """
    found = place.cluster.get(SERVICES, candidate_name(name))
    if found is None or (run and run_of(found) != run):
        return False
    place.cluster.delete(SERVICES, found)
    wait_until_gone(place.cluster, candidate_name(name), place.settings.timeout_s, place.poll_s)
    return True


def run_of(candidate: Manifest) -> str:
    """The run that made a candidate; "" where that is not known."""
    return (candidate["metadata"].get("annotations") or {}).get(RUN_ANNOTATION, "")


def undo(place: Place, name: str, run: str) -> str:
    """Undo what the deployment of `run` left that was killed; the sentences that say it, "" for nothing.

    What another run has put in force since stays. Raises ServingError where it cannot be undone.
    """
    if not run:
        return ""
    said = []

    def attempt() -> None:
        if remove_candidate(place, name, run):
            said.append("Its candidate was removed.")
        for digest, rollout in place.history.unfinished_of(run).items():
            found = place.cluster.get(SERVICES, name)
            if found is None or not rollout.writes(found["spec"], digest):
                place.history.end(digest)
                continue
            sentence = go_back(place, place.live(found), rollout, digest)
            said.append(f"Its rollout was taken back: {sentence}")

    try:
        poll(attempt, place.settings.timeout_s, place.poll_s, Unavailable)
    except Conflict as error:
        say(f"{error.what} {error.got}")
        said.append("Another deployment has taken over what it left.")
    return " ".join(said)
