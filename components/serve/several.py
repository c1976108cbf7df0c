"""Several models of one process: who answers a request, and what is told of all of them together."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, Metric
from starlette.types import ASGIApp, Receive, Scope, Send

MODEL = re.compile(r"/v[12]/models/([^/]+?)(:predict)?(/.*)?")
OF_PROCESS = ("process_", "python_", "defectline_review_")
"""How metrics begin that are those of the process, whichever model is meant."""


class Several:
    """Hands a request to the app of the model that its path names, or that the page's address does after
    `?model=`; any other to the first, which speaks for all."""

    def __init__(self, apps: Mapping[str, ASGIApp]):
        """`apps` has those of all models, by each of their names."""
        self.apps, self.first = apps, next(iter(apps.values()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.apps.get(named(scope), self.first) if scope["type"] == "http" else self.first
        await app(scope, receive, send)


def named(scope: Scope) -> str:
    """The name of the model that an HTTP request is about; "" for none."""
    if found := MODEL.fullmatch(scope["path"]):
        return found[1]
    if scope["path"] == "/":
        return parse_qs(scope["query_string"].decode("latin-1")).get("model", [""])[0]
    return ""


class OfAll:
    """The metrics of several models, each sample with the label `model_name`; those of the process once."""

    def __init__(self, registries: Mapping[str, CollectorRegistry]):
        self.registries = registries

    def collect(self) -> Iterable[Metric]:
        found: dict[str, Metric] = {}
        for model, registry in self.registries.items():
            for family in registry.collect():
                shared = family.name.startswith(OF_PROCESS)
                if shared and family.name in found:
                    continue
                empty = Metric(family.name, family.documentation, family.type, family.unit)
                known = found.setdefault(family.name, empty)
                known.samples += [
                    sample if shared else sample._replace(labels={**sample.labels, "model_name": model})
                    for sample in family.samples
                ]
        return found.values()
