"""Cross-validation: every picture is judged once, by a network that has not seen it.

A test split of a few pictures says little of a recipe. Here the parts of each label, in the order of
their ids, are dealt out to folds: each fold is the test split of one training, and every fifth of the others
its validation split. Pictures of one group stay together. The steps are those of the pipeline, with its
parameters.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SettingsError
from defectline.components.common.layout import COUNTS, CROSSVAL, run_key
from defectline.components.common.snapshot import Pair, publish_snapshot, read_head, read_pairs, read_snapshot
from defectline.components.common.steps import Say
from defectline.components.common.storage import Storage, open_storage
from defectline.components.evaluate.metrics import Count, summarize
from defectline.components.ingest.grouping.groups import TOO_FEW_PARTS, without_twins
from defectline.pipeline.local import run_lock, temporary_workdir
from defectline.pipeline.parameters import Parameters, check_weights
from defectline.pipeline.step_runner import StepRunner

VALIDATION = 5
"""Every fifth part that is not in the fold chooses epoch and threshold."""


class Judged(NamedTuple):
    """All pictures, each judged by the network of its fold, with one seed."""

    seed: int
    counts: list[Count]

    @property
    def metrics(self) -> dict[str, float | int | None]:
        return summarize(self.counts, None)


def cross_validate(parameters: Parameters, folds: int, seeds: Sequence[int], say: Say) -> list[Judged]:
    """Train and judge every fold with every seed, in `parameters.store`; what is there already is kept.

    Reports of single folds are `runs/<run>/report.html` there. Raises SettingsError for a source that is too
    small, and whatever a step raises.
    """
    check_weights(parameters)
    store = open_storage(parameters.store)
    with run_lock(store), temporary_workdir() as work:
        whatever_is_new = parameters.model_copy(update={"force": True})
        StepRunner(whatever_is_new, work, say).run("ingest", parameters.source, parameters.store)
        snapshot = read_head(store)
        assert snapshot is not None
        pairs = [p for p in read_pairs(store, snapshot) if p.accepted]
        dealt = deal_all(pairs, folds, say)
        judged = []
        for seed in seeds:
            counts: list[Count] = []
            for fold, rows in enumerate(dealt):
                say(f"seed {seed}, fold {fold + 1} of {folds}")
                counts += _judge_fold(
                    parameters.model_copy(update={"seed": seed}), store, rows, snapshot, work, say
                )
            judged.append(Judged(seed, counts))
        return judged


def deal_all(pairs: Sequence[Pair], folds: int, say: Say) -> list[list[Pair]]:
    """As `deal`, for every fold; looks alone never leave too few parts: such pictures then stand alone."""
    try:
        return [deal(pairs, fold, folds) for fold in range(folds)]
    except SettingsError:
        alone = without_twins(pairs)
        if alone == list(pairs):
            raise
        dealt = [deal(alone, fold, folds) for fold in range(folds)]
        say(TOO_FEW_PARTS)
        return dealt


def deal(pairs: Sequence[Pair], fold: int, folds: int) -> list[Pair]:
    """The pairs with their splits in one fold, from 0 to folds - 1. Pure."""
    rows = []
    for label, parts in _parts(pairs).items():
        if label == "OK" and not parts:
            # A source may have none: then nothing can be said of overkill.
            continue
        pictures = [0] * folds
        others = []
        for part in parts:
            # The fold that has fewest so far: one after another, where every picture stands alone.
            dealt = pictures.index(min(pictures))
            pictures[dealt] += len(part)
            if dealt == fold:
                rows += [pair._replace(split="test") for pair in part]
            else:
                others.append(part)
        if len(parts) < folds or len(others) <= VALIDATION:
            raise SettingsError(
                f"There are too few {label} pictures for {folds} folds.",
                got=f"{sum(map(len, parts))} {label} pictures of {len(parts)} parts",
                expected=f"at least one part a fold, and more than {VALIDATION} in the others",
                fix="Bring more pictures, or use other folds.",
            )
        for index, part in enumerate(others):
            split = "validation" if index % VALIDATION == VALIDATION // 2 else "train"
            rows += [pair._replace(split=split) for pair in part]
    return sorted(rows)


def _parts(pairs: Sequence[Pair]) -> dict[str, list[list[Pair]]]:
    """Labels to parts with their pictures, both in the order of ids; a part with a defect is NG."""
    parts: dict[tuple[str, str], list[Pair]] = {}
    for pair in sorted(pairs):
        parts.setdefault((pair.group, "" if pair.group else pair.id), []).append(pair)
    of_label: dict[str, list[list[Pair]]] = {label: [] for label in LABELS}
    for part in parts.values():
        of_label["NG" if any(pair.label == "NG" for pair in part) else "OK"].append(part)
    return of_label


def _judge_fold(
    parameters: Parameters, store: Storage, rows: Sequence[Pair], whole: str, work: Path, say: Say
) -> list[Count]:
    """The counts of the fold's test pictures, from the store where they are there already; `rows` are those
    of the snapshot `whole` with other splits."""
    taken = read_snapshot(store, whole)
    snapshot = publish_snapshot(store, rows, parameters.source, taken.classes, taken.class_map).id
    unlike = {"source", "store", "force", "min_new_images", "max_rejected", "group_by"}
    cache_key = f"{snapshot} {parameters.model_dump_json(exclude=unlike)}"
    run = f"{CROSSVAL}{hashlib.sha256(cache_key.encode()).hexdigest()[:12]}"
    key = run_key(run, COUNTS)
    if not store.exists(key):
        steps = StepRunner(parameters, work, say)
        folder = work / run
        dataset, model = folder / "dataset", folder / "model"
        steps.run("preprocess", parameters.store, snapshot, dataset)
        steps.run("train", dataset, model, "--store", parameters.store)
        bundle, page = folder / "bundle", folder / "report.html"
        # Another name than any model's, whose gate must not take this for one of its runs.
        named = ("--run", run, "--model-name", "crossval")
        steps.run("evaluate", parameters.store, snapshot, model, bundle, page, *named)
        shutil.rmtree(folder)
    return [Count(**row) for row in json.loads(store.read(key))]
