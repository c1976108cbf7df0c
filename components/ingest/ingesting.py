"""The ingest step: take a snapshot of the source, and say whether there is anything new to learn."""

from defectline.components.common.runs import Outcome, read_current, read_gated, write_outcome
from defectline.components.common.snapshot import read_pairs
from defectline.components.common.steps import step
from defectline.components.common.storage import Storage, open_storage
from defectline.components.ingest.taking import take_snapshot


def ingest(
    source: str,
    store: str,
    run: str = "manual",
    model_name: str = "defects",
    settings: str = "",
    min_new_images: int = 1,
    max_rejected: float = 0.1,
    force: bool = False,
) -> str:
    """Bring the source into the store.

    Returns the snapshot's id, or "" where the run may end: nothing new since the last gate.

    New are pairs that the snapshot of the last run that reached its gate does not have. Other `settings`
    than that run's, or `force`, count as new.
    """
    with step("ingest") as report:
        target = open_storage(store)
        snapshot = take_snapshot(open_storage(source), target, max_rejected, f"runs/{run}/quarantine.csv")
        new, reason = _news(target, model_name, snapshot.id, settings, min_new_images, force)
        report.did = f"{snapshot.accepted} pairs, {snapshot.rejected} rejected, {reason}"
        if new:
            return snapshot.id
        current = read_current(target, model_name)
        version = current.version if current else ""
        write_outcome(target, run, Outcome(state="nothing_new", reason=reason, version=version))
        return ""


def _news(
    store: Storage, model_name: str, snapshot: str, settings: str, least: int, force: bool
) -> tuple[bool, str]:
    """Whether to go on, and why in a few words."""
    gated = read_gated(store, model_name)
    if gated is None:
        return True, "all of them new"
    before = {p.content for p in read_pairs(store, gated.snapshot) if p.status == "accepted"}
    now = {p.content for p in read_pairs(store, snapshot) if p.status == "accepted"}
    count = len(now - before)
    if force:
        return True, f"{count} new, and --force"
    if gated.settings != settings:
        return True, f"{count} new, and other settings"
    if count >= least:
        return True, f"{count} new"
    return False, f"{count} new since run {gated.run}, {least} needed"
