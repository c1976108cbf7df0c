"""Whether Kubernetes, Kubeflow Pipelines and the store can be reached, asked before anything is made."""

import yaml
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError, MaxRetryError

from defectline.components.common.errors import DefectlineError, ServingError
from defectline.components.common.storage import open_storage
from e2e.knobs import Knobs
from e2e.kube import Kube, Refused
from e2e.summary import first_line

PATIENCE_S = 10.0


def look(knobs: Knobs) -> list[DefectlineError]:
    """What cannot be reached, each with its fix."""
    found = []
    for ask in (_kubernetes, _pipelines, _store):
        try:
            ask(knobs)
        except DefectlineError as error:
            found.append(error)
    return found


def _kubernetes(knobs: Knobs) -> None:
    try:
        Kube(knobs.kubeconfig).request("GET", "apis", timeout_s=PATIENCE_S)
    except (ConfigException, OSError, yaml.YAMLError, Refused, HTTPError) as error:
        reason = error.reason if isinstance(error, MaxRetryError) else error
        raise ServingError(
            "The Kubernetes API does not answer.",
            got=first_line(str(reason)),
            expected="the API server of the cluster, and an account that it knows",
            fix=f"Correct KUBECONFIG ({knobs.kubeconfig}), or connect to the cluster's network.",
        ) from None


def _pipelines(knobs: Knobs) -> None:
    from defectline.pipeline.kfp_server.client import Server

    Server(knobs.host, knobs.profile, knobs.token)


def _store(knobs: Knobs) -> None:
    next(iter(open_storage(knobs.folder).list("")), None)
