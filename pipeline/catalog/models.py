"""The models of a store: their versions, which of them serve, and the runs that judged them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from defectline.components.common.bundle import Bundle
from defectline.components.common.classes import describe_supervision
from defectline.components.common.layout import MODELS, SERVING, is_version, parse_version
from defectline.components.common.records import read_champion, read_waiting
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage, checksums
from defectline.components.train.settings import WEIGHTS
from defectline.pipeline.catalog.reading import leave_out, resolve
from defectline.pipeline.catalog.runs import Run


class Model(NamedTuple):
    """A version below models/ or serving/, or the trace of one that a run judged and did not deploy."""

    name: str
    """Empty for a refused version of a run whose metrics.json does not name its model."""
    version: str
    state: str
    """`champion`, `published`, `incomplete` (an upload that was cut off), or, where only the run is left,
    how that ended: `kept`, `refused`, `failed`, `unfinished`."""
    created: str
    """ISO 8601, UTC; empty where it is not known."""
    snapshot: str
    metrics: dict[str, Any]
    """Of the test split."""
    run: str
    """The run that judged it; empty where that is gone."""
    served_by: tuple[str, ...] = ()
    starts_from: str = ""
    """The weights that its training began with, as its settings name them; empty for random ones."""
    learned_from: str = ""
    """In words; empty where that is not known."""

    @property
    def champion(self) -> bool:
        return self.state == "champion"


class Published(NamedTuple):
    """A version of which there are files."""

    name: str
    version: str
    keys: list[str]
    """Of its files, those below models/ before serving/."""
    bundle: Bundle | None
    """None where there is none, or a damaged one."""


def read_published(store: Storage, say: Say) -> Iterator[Published]:
    """Every version of which there are files; `say` gets what cannot be read."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for place in (MODELS, SERVING):
        for one in store.list(place):
            if named := parse_version(one.key):
                found[named].append(one.key)
    for (name, version), keys in found.items():
        key = next((key for key in keys if key.endswith("/bundle.json")), "")
        yield Published(name, version, keys, _read_bundle(store, key, say) if key else None)


def _read_bundle(store: Storage, key: str, say: Say) -> Bundle | None:
    try:
        return Bundle.model_validate_json(store.read(key))
    except KeyError:
        return None
    except ValidationError:
        leave_out(store, key, say)
        return None


def read_models(store: Storage, runs: Iterable[Run], say: Say) -> list[Model]:
    """Every version of every model, the oldest first, those that a gate refused among them."""
    judged = {run.judged: run for run in runs if run.judged and not run.is_fold}
    published = list(read_published(store, say))
    names = {one.name for one in published}
    champions = {name: read_champion(store, name) for name in names}
    waiting = {(name, record.version) for name in names if (record := read_waiting(store, name))}
    models = []
    for one in published:
        current, run, bundle = champions[one.name], judged.get(one.version), one.bundle
        champion = current is not None and current.version == one.version
        whole = any(key.endswith(f"/{checksums.NAME}") for key in one.keys)
        models.append(
            Model(
                one.name,
                one.version,
                "champion"
                if champion
                else "incomplete"
                if not whole
                else "waiting for approval"
                if (one.name, one.version) in waiting
                else "rejected"
                if run and run.state == "refused"
                else "published",
                bundle.created if bundle else "",
                bundle.data.snapshot if bundle else "",
                bundle.metrics.get("test", {}) if bundle else {},
                run.id if run else "",
                ("this machine",) if champion else (),
                _starts_from(bundle) if bundle else "",
                describe_supervision(bundle.supervision, bundle.classes) if bundle else "",
            )
        )
    there = {one.version for one in published}
    models += [_of_run(run) for version, run in judged.items() if version not in there]
    began = {run.id: run.began for run in judged.values()}
    return sorted(models, key=lambda m: (m.name, _age(m), began.get(m.run, ""), m.version))


def _starts_from(bundle: Bundle) -> str:
    named = (str(bundle.training.get(key, "none")) for key in (*WEIGHTS, "pretrained"))
    return " ".join(weights for weights in named if weights != "none")


def _age(model: Model) -> str:
    # A version begins with the time of its sealing, so those without `created` find their place too.
    return model.version.rpartition("-")[0]


def _of_run(run: Run) -> Model:
    return Model(
        str(run.metrics.get("model", "")),
        run.judged,
        run.state,
        str(run.metrics.get("created", "")),
        str(run.metrics.get("snapshot", "")),
        run.metrics.get("test") or {},
        run.id,
        learned_from=str(run.metrics.get("learned_from", "")),
    )


def find_version(store: Storage, name: str, start: str) -> str:
    """The version of a model that begins with `start`; a whole one as it is, there or not. Raises
    SettingsError as `resolve`."""
    if is_version(start):
        return start
    found = {named[1] for one in store.list(f"{MODELS}{name}/") if (named := parse_version(one.key))}
    return resolve(start, sorted(found), "version", "defectline models")


def ask_cluster(models: Sequence[Model], namespace: str) -> list[Model]:
    """The models, with the namespace in `served_by` where it serves them. Raises ServingError."""
    used = versions_in_use(models, [namespace])
    return [
        one._replace(served_by=(*one.served_by, f"KServe, {namespace}"))
        if one.version in used.get(one.name, ())
        else one
        for one in models
    ]


def versions_in_use(models: Sequence[Model], namespaces: Iterable[str]) -> dict[str, set[str]]:
    """Name of each model → those of its versions that its InferenceService in a namespace names anywhere.

    It serves them, or is about to, or may go back to them. Raises ServingError.
    """
    from defectline.components.deploy.kserve.cluster import SERVICES, Cluster

    clusters = [Cluster(namespace) for namespace in namespaces]
    used = {}
    for name in sorted({one.name for one in models} - {""}):
        services = json.dumps([cluster.get(SERVICES, name) for cluster in clusters])
        used[name] = {one.version for one in models if one.name == name and one.version in services}
    return used
