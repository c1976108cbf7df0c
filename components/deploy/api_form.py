"""Which answers have the form of Kubernetes' API: a proxy in front of the server may answer in its place."""

import json
from typing import Any

from kubernetes import client

MOST_TOLD = 200
"""Characters of an answer that are told of what is not the API server, such as a page of a proxy."""


class NotOfTheApi(Exception):
    """An answer, with success, that is not an object of Kubernetes; its text says what it is."""


class ApiClient(client.ApiClient):
    """Makes objects of the API server's answers alone. Raises NotOfTheApi for others that tell of success."""

    def deserialize(self, response: Any, response_type: str) -> Any:
        if response_type == "str":  # a log, which may be any text
            return super().deserialize(response, response_type)
        try:
            if not kind_of(response.data):
                raise ValueError("without kind or apiVersion")
            return super().deserialize(response, response_type)
        except (ValueError, TypeError, AttributeError) as error:
            raise NotOfTheApi(in_short(response.data)) from error


def kind_of(text: Any) -> str:
    """The kind of an object of Kubernetes, as JSON; "" for another text."""
    try:
        found = json.loads(text)
        kind = str(found["kind"])
        # Lists of what the server has, such as APIResourceList, may leave their version out.
        return kind if found.get("apiVersion") or kind.startswith("API") else ""
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""


def in_short(text: Any) -> str:
    """The start of a text, on one line."""
    line = " ".join(str(text).split())
    return f"{line[:MOST_TOLD]} …" if len(line) > MOST_TOLD else line or "an empty answer"
