"""Why a run ended without an outcome."""

from contextlib import suppress

from defectline.components.common.errors import StoreError
from defectline.components.common.reporting.pod import RUN_LABEL, this_pod
from defectline.components.common.reporting.step_record import StepRecord, find_reason, read_steps
from defectline.components.common.steps import reported_error
from defectline.components.common.storage import Storage


def explain(store: Storage, run: str, state: str, message: str) -> str:
    """One or two sentences, from what the steps wrote and what Kubernetes knows of their pods.

    Where neither tells, they say how to find out.

    `state` and `message` are KFP's. On a cluster its message is always empty, and its state is RUNNING where
    the run was cancelled or a pod was killed.
    """
    if error := reported_error():
        return error
    steps: list[StepRecord] = []
    # Writing the outcome says more of a store that is away.
    with suppress(StoreError):
        steps = read_steps(store, run)
    found = find_reason(steps)
    if found and found.record.state == "failed":
        return found.text
    if trouble := _trouble(run):
        return trouble
    if found:
        return found.cancelled_text if state == "RUNNING" else found.text
    if message:
        return message
    after = f" after {steps[-1].title}" if steps else ""
    if state == "RUNNING":
        what = f"stopped{after}: the run was cancelled, or a pod was killed before it could say anything"
    else:
        what = f"failed{after}, in a step that could not say why: it did not start, or cannot reach the store"
    pod = this_pod()
    where = f" -n {pod.namespace}" if pod.namespace else ""
    look = f". Look at its pods: kubectl get pods -l {RUN_LABEL}={run}{where}" if pod.name else ""
    return what + look


def _trouble(run: str) -> str:
    """What Kubernetes tells of the run's pods; "" also where this account may not ask."""
    if not (namespace := this_pod().namespace):
        return ""
    # The packages of Kubernetes are slow to import.
    from defectline.components.deploy.pods import find_trouble

    try:
        return find_trouble(run, namespace)
    except Exception as error:  # the outcome has to be written, whatever else is the matter
        print(f"The run's pods cannot be looked at: {error}", flush=True)
        return ""
