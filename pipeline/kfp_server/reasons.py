"""Why a run on a server ended as it did. KFP itself hands on neither a message nor an error of its steps."""

from typing import Any

from defectline.components.common.errors import DefectlineError
from defectline.components.common.records import read_outcome
from defectline.components.common.reporting.step_record import find_reason, read_steps
from defectline.components.common.storage import Storage, open_storage
from defectline.pipeline.kfp_server.client import Server

STEPS_RUN_IN = "kubeflow"
"""The namespace of the steps' pods, where the server does not keep namespaces apart."""


def find_store(run: Any) -> str:
    """The store that a run was told to write to; "" where it was told none."""
    given = (run.runtime_config.parameters if run.runtime_config else None) or {}
    return str(given.get("store") or "")


def explain(store: str, run_id: str) -> str:
    """The outcome's reason, or what the steps left; "" where the store says nothing or cannot be read."""
    if not store:
        return ""
    try:
        return _explain(open_storage(store), run_id)
    except DefectlineError:
        return ""


def _explain(storage: Storage, run_id: str) -> str:
    outcome = read_outcome(storage, run_id)
    if outcome:
        return outcome.reason
    found = find_reason(read_steps(storage, run_id))
    # One that still runs has not ended yet.
    return found.text if found and found.record.state != "running" else ""


def detail(store: str, run_id: str) -> str:
    """What to do about the error that a run ended with; may be empty."""
    try:
        found = find_reason(read_steps(open_storage(store), run_id)) if store else None
    except DefectlineError:
        return ""
    return found.record.detail if found else ""


def ask_kubernetes(run_id: str, namespace: str) -> str:
    """What happened to a pod of the run; "" where nothing did, or Kubernetes cannot be asked."""
    # The packages of Kubernetes are slow to import.
    from defectline.components.deploy.pods import find_trouble

    try:
        return find_trouble(run_id, namespace or STEPS_RUN_IN)
    except DefectlineError:
        return ""


def how_to_look(server: Server, run_id: str) -> str:
    """How to read the log of a run whose steps left nothing in the store."""
    namespace = server.namespace or STEPS_RUN_IN
    return (
        f"no step could say why. Its pods: `kubectl get pods -n {namespace} -l pipeline/runid={run_id}`; the "
        f"log of one: `kubectl logs -n {namespace} POD -c main`, or "
        f"{server.host}/apis/v1alpha1/runs/{run_id}/nodes/POD/log"
    )
