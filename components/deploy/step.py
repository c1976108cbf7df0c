"""The deploy step: a sealed bundle becomes the champion, on this machine or on KServe."""

from pathlib import Path
from typing import Any

from defectline.components.common.bundle import read_bundle
from defectline.components.common.errors import DefectlineError
from defectline.components.common.records import GateRecord, Outcome, Waiting, read_outcome, write_gate
from defectline.components.common.reporting.audit import HERE, by_run, note
from defectline.components.common.reporting.front_page import end_run
from defectline.components.common.steps import say, step
from defectline.components.common.storage import open_storage
from defectline.components.common.trust.approvals import needed
from defectline.components.common.trust.signatures import check_if_asked
from defectline.components.deploy.approval import hold
from defectline.components.deploy.deployer import open_deployer
from defectline.components.deploy.reason import explain


def find_champion(store: str, model_name: str, kserve: dict[str, Any]) -> str:
    """The version that serves now, "" for none: found where it serves, not remembered.

    `kserve` contains the fields of KServeSettings; an empty dict means this machine.
    """
    with step("find-champion", store) as report:
        version = open_deployer(store, model_name, kserve).champion()
        report.summary = version or "there is none yet"
        return version


def deploy(
    bundle: Path,
    store: str,
    kserve: dict[str, Any],
    run: str = "manual",
    model_name: str = "defects",
    settings_key: str = "",
) -> str:
    """Deploy the sealed `bundle` and record the outcome of the run; returns its version.

    Where the bundle says that people must approve it, it is not deployed, but waits: see approval.py.

    Raises, with the previous champion still serving, when the bundle is not what was sealed, or not signed
    with a key that DEFECTLINE_TRUST names where that is set, when the
    endpoint does not give the golden answers, or when another run deploys at the same time.
    """
    with step("deploy", store) as report:
        storage = open_storage(store)
        sealed = read_bundle(bundle)
        if signer := check_if_asked(bundle):
            say(f"deploy: signed {signer.told}")
        if needed(sealed):
            waiting = Waiting(version=sealed.version, run=run, settings_key=settings_key, kserve=kserve)
            report.summary = hold(bundle, sealed, storage, model_name, waiting)
            return sealed.version
        done = open_deployer(store, model_name, kserve).deploy(bundle, sealed, run)
        warning = f". {done.warning}" if done.warning else ""
        report.summary = f"{sealed.version} is the champion {done.where}{warning}"
        gate = GateRecord(run=run, snapshot=sealed.data.snapshot, settings_key=settings_key)
        write_gate(storage, model_name, gate)
        note(storage, "deploy", model_name, sealed.version, by_run(run), _place(kserve))
        reason = f"every rule of the gate passed{warning}"
        end_run(storage, run, Outcome(state="deployed", reason=reason, version=sealed.version))
        return sealed.version


def finish(
    store: str, run: str, state: str, message: str, model_name: str = "defects", kserve: Any = None
) -> None:
    """Write the outcome `failed` of a run that no step has ended: the last thing that every run does.

    `state` is KFP's final status of the pipeline. What the deployment of this run left, where it was killed
    half-way, is undone first; the outcome says so, and where that was not possible. It fails for nothing.
    """
    storage = open_storage(store)
    outcome = read_outcome(storage, run)
    if outcome is not None and outcome.state != "failed":
        return
    version, left = _end_deployment(store, run, model_name, kserve or {})
    if version:
        reason = "every rule of the gate passed; the run was stopped once the version served"
        outcome = Outcome(state="deployed", reason=reason, version=version)
    elif outcome is None:
        reason = explain(storage, run, state, message)
        outcome = Outcome(state="failed", reason=f"{reason.rstrip('.')}. {left}" if left else reason)
    elif left:
        outcome = outcome.model_copy(update={"reason": f"{outcome.reason}. {left}"})
    end_run(storage, run, outcome)
    # The outcome is what people wait for, so it is written first.
    if version:
        note(storage, "deploy", model_name, version, by_run(run), _place(kserve or {}))


def _place(kserve: dict[str, Any]) -> str:
    """Where it is deployed to, as the log of acts says it."""
    return kserve.get("namespace") or HERE


def _end_deployment(store: str, run: str, model_name: str, kserve: dict[str, Any]) -> tuple[str, str]:
    """The version that the run deployed after all, and what was undone of its deployment; or "" each."""
    try:
        deployer = open_deployer(store, model_name, kserve)
        left = deployer.undo(run)
        if not left and (version := deployer.deployed_by(run)):
            return version, ""
    except DefectlineError as error:
        left = f"What its deployment may have left could not be undone: {error.what} {error.got}. {error.fix}"
    except Exception as error:  # this step must write the outcome, whatever else is the matter
        left = f"What its deployment may have left could not be undone: {error!r}"
    if left:
        say(left)
    return "", left
