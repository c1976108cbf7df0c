"""The pod of a step on a cluster, and the run that it belongs to."""

import os
from pathlib import Path
from typing import NamedTuple

RUN_ENV = "DEFECTLINE_RUN"
"""The id of the run, which steps on a cluster have."""
RUN_LABEL = "pipeline/runid"
"""KFP gives it, with the id, to every pod of a run."""
POD_ENV = "KFP_POD_NAME"
"""Set by KFP. The name of the host would be cut after 63 characters."""
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Pod(NamedTuple):
    """The pod that this process runs in; both are empty elsewhere, the namespace where it is not told."""

    name: str
    namespace: str


def this_pod() -> Pod:
    name = os.environ.get(POD_ENV, "")
    return Pod(name, NAMESPACE.read_text().strip() if name and NAMESPACE.exists() else "")
