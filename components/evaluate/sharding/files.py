"""What the steps before an evaluation in shards leave in the store for it, until it has written its results.

runs/<run>/judging/chosen.json.gz         a `ChosenFile`: the network that is served and where it decides
runs/<run>/judging/<who>/<part>.json.gz   a `Tally` of a part of the test pictures, by CHALLENGER or a version

A part is some of the test pictures, pack by pack, so that a pod downloads few packs. Numbers alone are kept
of a picture: the few that the report shows are judged once more.
"""

import gzip
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from defectline.components.common.bundle import NETWORKS
from defectline.components.common.errors import SettingsError
from defectline.components.common.inference.network import Network
from defectline.components.common.layout import JUDGING, run_key
from defectline.components.common.snapshot import Pair, by_pack
from defectline.components.common.storage import Storage, checksums
from defectline.components.evaluate.inputs import Inputs
from defectline.components.evaluate.metrics import Count
from defectline.components.evaluate.pixels import Pixels
from defectline.components.evaluate.scoring import Scored
from defectline.components.evaluate.validation.calibration import OperatingPoint
from defectline.components.evaluate.validation.candidates import Chosen

LEAST = 50
"""Test pictures that a shard is worth: a pod takes some ten seconds to start."""
CHALLENGER = "challenger"
CHOSEN = f"{JUDGING}chosen.json.gz"

M = TypeVar("M", bound=BaseModel)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tally(_File):
    """`Scored`, as a file holds it."""

    counts: list[Count]
    good: list[int]
    bad: list[int]
    """The two histograms of `Pixels`."""

    @classmethod
    def of(cls, scored: Scored) -> Self:
        return cls(counts=scored.counts, good=scored.pixels.good.tolist(), bad=scored.pixels.bad.tolist())

    @property
    def scored(self) -> Scored:
        pixels = Pixels()
        pixels.good, pixels.bad = np.array(self.good, np.int64), np.array(self.bad, np.int64)
        return Scored(list(self.counts), pixels)


class ChosenFile(_File):
    model: str
    """SHA-256 of the SHA256SUMS of its folder."""
    snapshot: str
    served: Literal["openvino", "openvino_int8"]
    reason: str
    point: OperatingPoint
    first_look: float | None
    validated: Tally


class Before(NamedTuple):
    """What the steps before left."""

    chosen: Chosen
    found: Mapping[str, Scored]
    """Who judged → what is known of the test pictures."""


def cut(pairs: Sequence[Pair], shards: int) -> int:
    """Into how many parts test pictures are cut, at most `shards`. Pure."""
    return max(1, min(shards, len(pairs) // LEAST))


def part_of(pairs: Sequence[Pair], number: int, count: int) -> list[Pair]:
    """The part `number` of `count`, from 0. Pure."""
    ordered = [pair for members in by_pack(pairs).values() for pair in members]
    return ordered[number * len(ordered) // count : (number + 1) * len(ordered) // count]


def write_chosen(storage: Storage, run: str, model: Path, snapshot: str, chosen: Chosen) -> None:
    content = ChosenFile(
        model=_digest(model),
        snapshot=snapshot,
        served=chosen.served,
        reason=chosen.reason,
        point=chosen.point,
        first_look=chosen.network.first_look,
        validated=Tally.of(chosen.validated),
    )
    _write(storage, run_key(run, CHOSEN), content)


def read_chosen(storage: Storage, run: str, model: Path, inputs: Inputs) -> Chosen | None:
    """The network, loaded, as it was chosen for the run; None where there is none of this model and
    snapshot."""
    found = _read(storage, run_key(run, CHOSEN), ChosenFile)
    if found is None or (found.model, found.snapshot) != (_digest(model), inputs.taken.id):
        return None
    network = Network(
        model / NETWORKS[found.served],
        inputs.imaging,
        classes=inputs.names.classes,
        roi=inputs.roi,
        first_look=found.first_look,
    )
    return Chosen(network, found.point, found.validated.scored, found.served, found.reason)


def write_part(storage: Storage, run: str, who: str, number: int, scored: Scored) -> None:
    _write(storage, run_key(run, f"{JUDGING}{who}/{number}.json.gz"), Tally.of(scored))


def read_before(storage: Storage, run: str, model: Path, inputs: Inputs) -> Before | None:
    """What was chosen and judged for the run by steps before; None where it has no shards."""
    chosen = read_chosen(storage, run, model, inputs)
    if chosen is None:
        return None
    parts: dict[str, list[Scored]] = defaultdict(list)
    for one in storage.list(run_key(run, JUDGING)):
        who, slash, _ = one.key.removeprefix(run_key(run, JUDGING)).partition("/")
        if slash and (tally := _read(storage, one.key, Tally)):
            parts[who].append(tally.scored)
    return Before(chosen, {who: _together(found) for who, found in parts.items()})


def forget(storage: Storage, run: str) -> None:
    """Remove what the steps before left."""
    storage.delete_below(run_key(run, JUDGING))


def missing(run: str) -> SettingsError:
    return SettingsError(
        f"The run {run} has no network that was chosen for this model and snapshot.",
        got="nothing from the step before",
        expected="what calibrate wrote",
        fix="Start the run again.",
    )


def _together(parts: Sequence[Scored]) -> Scored:
    pixels = Pixels()
    for part in parts:
        pixels.add(part.pixels)
    return Scored([count for part in parts for count in part.counts], pixels)


def _digest(model: Path) -> str:
    return hashlib.sha256((model / checksums.NAME).read_bytes()).hexdigest()


def _write(storage: Storage, key: str, content: BaseModel) -> None:
    storage.write(key, gzip.compress(content.model_dump_json().encode(), mtime=0))


def _read(storage: Storage, key: str, kind: type[M]) -> M | None:
    """None for a file that is not there, or that another version wrote."""
    try:
        return kind.model_validate_json(gzip.decompress(storage.read(key)))
    except (KeyError, ValidationError, OSError, EOFError):
        return None
