"""What the API server's answers, and its silence, mean for the user."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import urllib3
from kubernetes.client.exceptions import ApiException

from defectline.components.common.errors import Conflict, ServingError
from defectline.components.deploy.api_form import NotOfTheApi, in_short, kind_of
from defectline.components.deploy.kserve.refusals import fix_of

OLDEST_KSERVE = "0.17"
INSTALL_KSERVE = f"Install KServe ({OLDEST_KSERVE} or later), then deploy again."


class Unavailable(ServingError):
    """The API server does not answer now; it may in a moment."""


def conflict(kind: tuple[str, str, str], name: str) -> Conflict:
    return Conflict(
        f"Another process is deploying {name}.",
        got=f"{kind[2]} {name} is not as it was read or written a moment ago",
        expected="one deployment at a time",
        fix="Wait until the other deployment is done, then start again.",
    )


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what the API server says, or its silence, into an error that the user can fix."""
    try:
        yield
    except ApiException as error:
        raise _explain(error, doing) from error
    except (NotOfTheApi, UnicodeDecodeError) as error:
        raise ServingError(
            f"What answers is not the API of Kubernetes, so it cannot {doing}.",
            got=str(error),
            expected="JSON of an API server, with apiVersion and kind",
            fix="Correct the server's address in the kubeconfig, or log in to the proxy in front of it.",
        ) from error
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(
            f"The cluster cannot be reached to {doing}.",
            got=str(error),
            expected="an answer of the API server",
            fix="Check the network, and the server's address in the kubeconfig.",
        ) from error


def _explain(error: ApiException, doing: str) -> ServingError:
    message = _message(error)
    if error.status == 401:
        return ServingError(
            f"The cluster does not know who wants to {doing}.",
            got="401 Unauthorized",
            expected="valid credentials",
            fix="Log in to the cluster again, so that the kubeconfig holds a fresh token.",
        )
    if error.status == 404 and "page not found" in message:
        return ServingError(
            "KServe is not installed in this cluster.",
            got=f"404 page not found when trying to {doing}",
            expected="the custom resources of KServe and, in Knative mode, of Knative Serving",
            fix=INSTALL_KSERVE,
        )
    if error.status == 429 or error.status >= 500 or error.status == 0:
        return Unavailable(
            f"The cluster cannot {doing} now.",
            got=f"{error.status} {message}",
            expected="HTTP 200",
            fix="Wait a moment and deploy again; if it stays, look at the log of KServe's controller.",
        )
    if error.status == 404 and message.startswith("namespaces "):
        return ServingError(
            f"The cluster cannot {doing}.",
            got=f"404 {message}",
            expected="a namespace that exists",
            fix="Correct `namespace`, or create it.",
        )
    return ServingError(
        f"The cluster refuses to {doing}.",
        got=f"{error.status} {message}",
        expected="HTTP 200",
        fix=fix_of(
            message, "Change the setting that the message names, or ask the administrators of the cluster."
        ),
    )


def is_missing(error: ApiException) -> bool:
    """Whether the API server says that an object is not there; a page of a proxy does not say so."""
    return error.status == 404 and kind_of(error.body) == "Status"


def _message(error: ApiException) -> str:
    """What the server says in one line: the message of its Status, or the start of the plain text."""
    body = error.body.decode() if isinstance(error.body, bytes) else error.body or error.reason or ""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        return in_short(body)
