"""Where everything is in a store: docs/store.md in code.

snapshots/<id>/                  index.parquet, snapshot.json, pictures.html
snapshots/head.json              which of them is the newest
snapshots/packs/<digest>.tar     the files of the pairs
snapshots/roi/<digest>.png       regions of interest
snapshots/journal/<source>/      <pack>.parquet: what an ingest packed that was cut off
models/<name>/<version>/         a bundle
models/<name>/current.json       the champion of the local target
models/<name>/gated.json         the last run that reached its gate
models/<name>/waiting.json       the version that a person must approve
approvals/<name>/<version>/      what each person said of it
serving/<name>/<version>/        what KServe loads of a bundle
serving/<name>/deployed/<namespace>/<version>.json     how a version was deployed
serving/<name>/unfinished/<namespace>/<spec>.json      what a rollout goes back to
runs/<run>/                      the names below
tuning/<study>/                  what `defectline tune` tried: see pipeline/tuning/study.py
crossval/<id>.json               what `defectline crossval` came to
index.html                       the front page
audit.jsonl                      who changed what serves or what is learned: see common/reporting/audit.py
checkpoints/<digest>/            epoch-00007.npz: a training whose model is not judged yet
pretrained/<digest>.keras        what was learned from synthetic defects in good pictures
review/<name>/<date>/            <id>.json and the other files of a frame
review/<name>/audit.jsonl        who decided what
"""

import hashlib
import json
import re
from typing import NamedTuple

SNAPSHOTS, MODELS, SERVING, RUNS = "snapshots/", "models/", "serving/", "runs/"
CHECKPOINTS, PRETRAINED, REVIEW = "checkpoints/", "pretrained/", "review/"
APPROVALS = "approvals/"
TUNING, CROSSVALS = "tuning/", "crossval/"

HEAD, PACKS, JOURNAL = f"{SNAPSHOTS}head.json", f"{SNAPSHOTS}packs/", f"{SNAPSHOTS}journal/"
INDEX, SNAPSHOT, PICTURES = "index.parquet", "snapshot.json", "pictures.html"
"""Names below snapshots/<id>/."""
OUTCOME, GATE, METRICS, COUNTS = "outcome.json", "gate.json", "metrics.json", "counts.json"
REPORT, SUMMARY, QUARANTINE, CONFIG = "report.html", "summary.md", "quarantine.csv", "config.yaml"
FRONT_PAGE, AUDIT = "index.html", "audit.jsonl"
"""At the root of the store."""
DECISION = ".decision.json"
"""Ends the name of what was decided about a frame."""
LISTING, SHARDS = "listing.parquet", "shards.json"
"""What ingest in shards needs until it has published."""
JUDGING = "judging/"
"""What evaluate in shards needs until it has written its results."""
STEPS = "steps/"
"""Names below runs/<run>/, with PICTURES."""
CROSSVAL = "crossval-"
"""Starts the names of runs that `defectline crossval` makes; they judge settings, not models."""

_VERSION = re.compile(r"v\d{8}-\d{6}-[0-9a-f]{6}")
_OF_VERSION = re.compile(rf"(?:models|serving)/([^/]+)/({_VERSION.pattern})/.")
_FRAME = re.compile(r"review/([^/]+)/(\d{4}-\d{2}-\d{2})/([0-9a-f]{32})\.json")


def snapshot_key(snapshot: str, name: str) -> str:
    return f"{SNAPSHOTS}{snapshot}/{name}"


def pack_key(pack: str) -> str:
    return f"{PACKS}{pack}.tar"


def roi_key(digest: str) -> str:
    return f"{SNAPSHOTS}roi/{digest}.png"


def journal_prefix(source: str) -> str:
    """Of a source's URI: versions of another source say nothing about this one's files."""
    return f"{JOURNAL}{hashlib.sha256(source.encode()).hexdigest()[:16]}/"


def model_folder(name: str, version: str) -> str:
    return f"{MODELS}{name}/{version}"


def champion_key(name: str) -> str:
    return f"{MODELS}{name}/current.json"


def gate_key(name: str) -> str:
    return f"{MODELS}{name}/gated.json"


def waiting_key(name: str) -> str:
    return f"{MODELS}{name}/waiting.json"


def approvals_prefix(name: str, version: str) -> str:
    return f"{APPROVALS}{name}/{version}/"


def approval_key(name: str, version: str, person: str) -> str:
    """A person's name may hold anything, and is the same in small letters."""
    digest = hashlib.sha256(person.casefold().encode()).hexdigest()[:16]
    return f"{approvals_prefix(name, version)}{digest}.json"


def serving_folder(name: str, version: str) -> str:
    return f"{SERVING}{name}/{version}"


def deployed_prefix(name: str, namespace: str = "") -> str:
    """Of one namespace, or of all."""
    return f"{SERVING}{name}/deployed/" + (f"{namespace}/" if namespace else "")


def deployed_key(name: str, namespace: str, version: str) -> str:
    return f"{deployed_prefix(name, namespace)}{version}.json"


def unfinished_prefix(name: str) -> str:
    return f"{SERVING}{name}/unfinished/"


def unfinished_key(name: str, namespace: str, spec: str) -> str:
    return f"{unfinished_prefix(name)}{namespace}/{spec}.json"


def run_key(run: str, name: str) -> str:
    return f"{RUNS}{run}/{name}"


def canonical(settings: str) -> str:
    """A text `key=value key=value …` that is the same for the same settings, in whatever order they come and
    however numbers and truths are written: Kubeflow writes 60 as 60.0. Pure.

    >>> canonical("tile=False epochs=60.0 masks=all")
    'epochs=60 masks=all tile=false'
    """
    return " ".join(sorted(map(_plain, settings.split())))


def _plain(pair: str) -> str:
    name, equals, text = pair.partition("=")
    try:
        value = json.loads(text.lower())
    except ValueError:
        return pair
    whole = isinstance(value, float) and value.is_integer()
    return f"{name}{equals}{json.dumps(int(value) if whole else value)}"


def fold_run(snapshot: str, settings: str) -> str:
    """The name of the run that judges a fold's snapshot with these settings."""
    key = f"{snapshot} {canonical(settings)}"
    return f"{CROSSVAL}{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def checkpoint_prefix(training: str) -> str:
    return f"{CHECKPOINTS}{training}/"


def pretrained_key(digest: str) -> str:
    return f"{PRETRAINED}{digest}.keras"


def tuning_key(study: str, name: str) -> str:
    return f"{TUNING}{study}/{name}"


def crossval_key(id: str) -> str:
    return f"{CROSSVALS}{id}.json"


def review_prefix(name: str, date: str = "") -> str:
    """Of one day, or of all."""
    return f"{REVIEW}{name}/" + (f"{date}/" if date else "")


def audit_key(name: str) -> str:
    return f"{review_prefix(name)}audit.jsonl"


class FrameKey(NamedTuple):
    """Where a frame of the line is."""

    model: str
    date: str
    """UTC, YYYY-MM-DD."""
    id: str

    @property
    def folder(self) -> str:
        return review_prefix(self.model, self.date)

    @property
    def frame(self) -> str:
        return f"{self.folder}{self.id}.json"

    @property
    def decision(self) -> str:
        return f"{self.folder}{self.id}{DECISION}"


def parse_frame_key(key: str) -> FrameKey | None:
    """Of the JSON of a frame; None for any other key."""
    found = _FRAME.fullmatch(key)
    return FrameKey(*found.groups()) if found else None


def is_version(text: str) -> bool:
    """Whether this has the form of a whole version."""
    return bool(_VERSION.fullmatch(text))


def parse_version(key: str) -> tuple[str, str] | None:
    """Name and version of the model that a key below models/ or serving/ is a file of, or None."""
    found = _OF_VERSION.match(key)
    return (found[1], found[2]) if found else None


def parse_snapshot(key: str) -> str | None:
    """The snapshot that a key is a file of, or None."""
    place, _, rest = key.partition("/")
    folder, slash, _ = rest.partition("/")
    known = f"{place}/" == SNAPSHOTS and slash and folder not in ("packs", "journal", "roi")
    return folder if known else None


def parse_name(key: str) -> str:
    """What stands between the first and the second slash: the name of a model, a run or a training."""
    return key.split("/")[1]


def stem(key: str) -> str:
    """The last part of a key, without its suffix."""
    return key.rpartition("/")[2].rpartition(".")[0]
