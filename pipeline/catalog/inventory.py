"""What a store holds: bundles, runs, and which belong together."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from defectline.components.common import checksums, layout
from defectline.components.common.bundle import Bundle
from defectline.components.common.errors import SettingsError, StoreError
from defectline.components.common.records import Outcome, read_champion, read_outcome
from defectline.components.common.steps import Say
from defectline.components.common.storage import Object, Storage
from defectline.components.train.settings import WEIGHTS


class Model(NamedTuple):
    """A version below models/ or serving/, or the trace of one that a run judged and did not deploy."""

    name: str
    """Empty for a refused version of a run whose metrics.json does not name its model."""
    version: str
    state: str
    """`champion`, `published`, `incomplete` (an upload that was cut off), or, where only the run is left,
    how that ended: `refused`, `failed`, `unfinished`."""
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


class Run(NamedTuple):
    id: str
    outcome: Outcome | None
    """None while it is under way, and for ever where it was killed together with its last step."""
    metrics: dict[str, Any]
    """The content of metrics.json; empty for a run that did not reach its gate."""
    gate: list[dict[str, Any]]
    began: str
    ended: str
    """When the first and the last of its files were written: ISO 8601, UTC."""
    files: tuple[str, ...]
    """Names below runs/<id>/."""

    @property
    def state(self) -> str:
        if self.outcome:
            return self.outcome.state
        return "judged" if self.id.startswith(layout.CROSSVAL) and self.metrics else "unfinished"

    @property
    def judged(self) -> str:
        """The version that it judged, or empty."""
        return str(self.metrics.get("version", ""))


def read_runs(store: Storage, say: Say) -> list[Run]:
    """Every run, the oldest first; `say` gets what cannot be read and is left out."""
    found: dict[str, list[Object]] = defaultdict(list)
    for one in store.list(layout.RUNS):
        _, run, *rest = one.key.split("/")
        if rest:
            found[run].append(one)
    runs = [_read_run(store, run, files, say) for run, files in found.items()]
    return sorted(runs, key=lambda run: (run.began, run.id))


def _read_run(store: Storage, run: str, files: Sequence[Object], say: Say) -> Run:
    times = sorted(one.modified for one in files)
    names = tuple(sorted(one.key.removeprefix(layout.run_key(run, "")) for one in files))
    outcome = None
    if layout.OUTCOME in names:
        try:
            outcome = read_outcome(store, run)
        except StoreError:
            say(f"{store.url(layout.run_key(run, layout.OUTCOME))} cannot be read and is left out")
    metrics = _json(store, run, layout.METRICS, {}, say) if layout.METRICS in names else {}
    gate = _json(store, run, layout.GATE, [], say) if layout.GATE in names else []
    return Run(run, outcome, metrics, gate, times[0], times[-1], names)


def _json(store: Storage, run: str, name: str, otherwise: Any, say: Say) -> Any:
    key = layout.run_key(run, name)
    try:
        found = json.loads(store.read(key))
    except (KeyError, ValueError):
        found = None
    if isinstance(found, type(otherwise)):
        return found
    say(f"{store.url(key)} cannot be read and is left out")
    return otherwise


def _starts_from(bundle: Bundle) -> str:
    named = (str(bundle.training.get(key, "none")) for key in WEIGHTS)
    return " ".join(weights for weights in named if weights != "none")


def read_models(store: Storage, runs: Iterable[Run], say: Say) -> list[Model]:
    """Every version of every model, the oldest first, those that a gate refused among them."""
    judged = {run.judged: run for run in runs if run.judged and not run.id.startswith(layout.CROSSVAL)}
    folders = find_versions(store)
    champions = {name: read_champion(store, name) for name in {name for name, _ in folders}}
    models = []
    for (name, version), keys in folders.items():
        current = champions[name]
        champion = current is not None and current.version == version
        run = judged.get(version)
        bundle = next((_read_bundle(store, key, say) for key in keys if key.endswith("/bundle.json")), None)
        whole = any(key.endswith(f"/{checksums.NAME}") for key in keys)
        state = "champion" if champion else "published" if whole else "incomplete"
        models.append(
            Model(
                name,
                version,
                state,
                bundle.created if bundle else "",
                bundle.data.snapshot if bundle else "",
                bundle.metrics.get("test", {}) if bundle else {},
                run.id if run else "",
                ("this machine",) if champion else (),
                _starts_from(bundle) if bundle else "",
            )
        )
    there = {version for _, version in folders}
    models += [_of_run(run) for version, run in judged.items() if version not in there]
    began = {run.id: run.began for run in judged.values()}
    return sorted(models, key=lambda m: (m.name, _age(m), began.get(m.run, ""), m.version))


def find_versions(store: Storage) -> dict[tuple[str, str], list[str]]:
    """Name and version of each model → the keys of its files, those below models/ before serving/."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for place in (layout.MODELS, layout.SERVING):
        for one in store.list(place):
            if version := layout.parse_version(one.key):
                found[version].append(one.key)
    return found


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
    )


def _read_bundle(store: Storage, key: str, say: Say) -> Bundle | None:
    """What bundle.json says; None where there is none, or a damaged one, which `say` gets."""
    try:
        return Bundle.model_validate_json(store.read(key))
    except KeyError:
        return None
    except ValidationError:
        say(f"{store.url(key)} cannot be read and is left out")
        return None


def resolve(start: str, ids: Sequence[str], what: str, command: str) -> str:
    """The one of `ids` that is `start` or begins with it. Raises SettingsError, which names `command`."""
    if start in ids:
        return start
    matching = sorted({id for id in ids if id.startswith(start)}) if start else []
    if len(matching) == 1:
        return matching[0]
    shown = ", ".join((matching or list(ids))[-5:])
    raise SettingsError(
        f"Several {what}s begin with {start}." if matching else f"There is no {what} {start}.",
        got=start or "an empty name",
        expected=f"one of {shown}" if shown else f"the name of a {what}; there are none",
        fix="Write more of it." if matching else f"`{command}` lists them.",
    )
