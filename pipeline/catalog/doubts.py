"""Labels that cross-validation doubts: pictures of a source that go to the review."""

import base64
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from statistics import mean
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import IGNORE
from defectline.components.common.errors import SettingsError, StoreError
from defectline.components.common.images.colours import encode_numbers
from defectline.components.common.images.masks import encode_mask
from defectline.components.common.images.reading import decode_image, format_of
from defectline.components.common.layout import COUNTS, CROSSVAL, METRICS, RUNS, FrameKey, run_key
from defectline.components.common.legend import Names
from defectline.components.common.records import read_champion
from defectline.components.common.review import SUFFIXES, Frame, frame_id
from defectline.components.common.snapshot import Pair, read_files, read_pairs, read_snapshot
from defectline.components.common.storage import Storage
from defectline.components.evaluate.metrics import Count
from defectline.pipeline.catalog.review import find_ids


class Doubt(NamedTuple):
    """A picture whose label every network called wrong that had not learned it."""

    pair: Pair
    score: float
    """Mean over the seeds."""
    threshold: float
    worth: float
    """How sure they were, from 0 to 1."""
    snapshot: str
    """One that has the pair."""


def find_doubts(crossval: Storage) -> list[Doubt]:
    """Those of all that was cross-validated in a store, the surest first.

    A picture is doubted where each seed gave it the other verdict, or found nothing of its defect and
    something elsewhere. Raises SettingsError where nothing was cross-validated.
    """
    judged: dict[str, list[tuple[Count, float, str]]] = defaultdict(list)
    pairs: dict[tuple[str, str], Pair] = {}
    for counts, threshold, snapshot in _folds(crossval):
        rows = {pair.id: pair for pair in read_pairs(crossval, snapshot) if pair.accepted}
        for count in counts:
            if count.id in rows:
                judged[count.id].append((count, threshold, snapshot))
                pairs[count.id, snapshot] = rows[count.id]
    if not judged:
        raise SettingsError(
            f"Nothing was cross-validated in {crossval.uri}.",
            got="no fold that ended",
            expected="the --store of a `defectline crossval`",
            fix="Run `defectline crossval SOURCE` first, or correct --crossval.",
        )
    doubts = [_doubt(found, pairs) for found in judged.values() if all(_disagrees(one) for one, *_ in found)]
    return sorted(doubts, key=lambda doubt: (-doubt.worth, doubt.pair.id))


def _folds(crossval: Storage) -> Iterator[tuple[list[Count], float, str]]:
    """Counts, threshold and snapshot of each fold that ended."""
    keys = {found.key for found in crossval.list(f"{RUNS}{CROSSVAL}")}
    for key in sorted(keys):
        run = key.removeprefix(RUNS).partition("/")[0]
        if key != run_key(run, COUNTS) or run_key(run, METRICS) not in keys:
            continue
        try:
            metrics = json.loads(crossval.read(run_key(run, METRICS)))
            counts = [Count(**row) for row in json.loads(crossval.read(key))]
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"The files of {crossval.url(key)} are damaged.",
                got=str(error),
                expected="what crossval wrote",
                fix="Remove the run's folder, and run the same crossval again.",
            ) from error
        yield counts, metrics["threshold"], metrics["snapshot"]


def _disagrees(count: Count) -> bool:
    return count.missed and (count.wrong or count.fp > 0)


def _doubt(found: Sequence[tuple[Count, float, str]], pairs: dict[tuple[str, str], Pair]) -> Doubt:
    score = mean(count.score for count, *_ in found)
    count, threshold, snapshot = found[-1]
    # Of a good picture, and of a defect that is said to be elsewhere, a high score is sure; of a defective
    # one that was called good, a low one.
    worth = 1 - score if count.label == "NG" and count.verdict == "OK" else score
    return Doubt(pairs[count.id, snapshot], score, threshold, worth, snapshot)


def queue_doubts(
    crossval: Storage, store: Storage, model: str, doubts: Sequence[Doubt], now: datetime | None = None
) -> int:
    """Put the pictures into the review of a model, with their present label and mask; how many are new.

    Raises StoreError where a picture cannot be read any more.
    """
    there = find_ids(store, model)
    now = now or datetime.now(UTC)
    champion = read_champion(store, model)
    by_snapshot: dict[str, list[Doubt]] = defaultdict(list)
    for doubt in doubts:
        by_snapshot[doubt.snapshot].append(doubt)
    new = 0
    for snapshot, some in by_snapshot.items():
        taken = read_snapshot(crossval, snapshot)
        of = {doubt.pair: doubt for doubt in some}
        names = Names.of(crossval, taken, of)
        for pair, image, mask in read_files(crossval, of):
            id = frame_id(image)
            if id in there:
                continue
            doubt, shape = of[pair], decode_image(image, channels=3).shape[:2]
            truth = names.truth(mask, shape, pair)
            key = FrameKey(model, f"{now:%Y-%m-%d}", id)
            frame = Frame(
                id=id,
                model=model,
                version=champion.version if champion else "",
                taken=now.isoformat(timespec="milliseconds"),
                reason="label",
                worth=round(doubt.worth, 6),
                threshold=doubt.threshold,
                picture=f"{id}.{SUFFIXES[format_of(image)]}",
                prediction=_as_prediction(doubt, np.where(truth == IGNORE, 0, truth), taken.classes),
                labelled="OK" if pair.label == "OK" else "NG",
                image=pair.image_key,
                source=taken.source,
            )
            store.write(key.folder + frame.picture, image)
            store.write(key.frame, frame.model_dump_json(indent=2).encode())
            there.add(id)
            new += 1
    return new


def _as_prediction(doubt: Doubt, truth: NDArray[np.uint8], classes: Sequence[str]) -> dict[str, Any]:
    """What the networks said of the picture, with the mask (H, W) that it has at present."""
    several = len(classes) > 1
    count, _, stats, centres = cv2.connectedComponentsWithStats((truth > 0).astype(np.uint8))
    regions = [
        {
            "bbox": stats[number, :4].tolist(),
            "area_px": int(stats[number, 4]),
            "centroid": [round(float(at), 1) for at in centres[number]],
        }
        for number in range(1, count)
    ]
    areas = {name: int(np.sum(truth == number)) for number, name in enumerate(classes, start=1)}
    data = encode_numbers(truth) if several else encode_mask(truth)
    return {
        "verdict": "NG" if doubt.score >= doubt.threshold else "OK",
        "score": round(doubt.score, 3),
        "defect_area_px": int(np.sum(truth > 0)),
        "regions": regions,
        "mask_png": base64.b64encode(data).decode(),
        **({"class_areas_px": areas} if several else {}),
    }
