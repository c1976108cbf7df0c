"""Ask a network for pictures of a snapshot, and count what it answers."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.bundle import CROSS_FIT, FOLDS
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.inference.inspection import LEVELS, Answer, Maps, judge
from defectline.components.common.inference.network import Network
from defectline.components.common.legend import Names, ignores
from defectline.components.common.snapshot import Pair, by_pack, read_files
from defectline.components.common.steps import say, track
from defectline.components.common.storage import Storage
from defectline.components.evaluate.classes import disregard
from defectline.components.evaluate.metrics import Count, count, with_masks
from defectline.components.evaluate.pixels import Pixels
from defectline.components.evaluate.settings import EvaluateSettings
from defectline.components.evaluate.validation.calibration import EVEN, Calibrator, OperatingPoint


class Scored(NamedTuple):
    counts: list[Count]
    pixels: Pixels
    """Of pictures whose masks are known; of none where no NG one has a mask."""


class Evaluated(NamedTuple):
    """A picture with its truth and the answer to it, while it is in memory."""

    pair: Pair
    image: bytes
    truth: NDArray[np.uint8]
    score_map: NDArray[np.uint16]
    answer: Answer
    counted: Count


def calibrate(
    network: Network,
    storage: Storage,
    pairs: Sequence[Pair],
    names: Names,
    settings: EvaluateSettings,
    seen: Calibrator | None = None,
) -> OperatingPoint:
    """Threshold and least area for the network's answers to `pairs` of a snapshot, with what was `seen`
    before: see `Calibrator`."""
    calibrator = deepcopy(seen) if seen else Calibrator(names.classes)
    _see(calibrator, network, storage, pairs, names, settings)
    return calibrator.calibrate(
        settings.escape_cost,
        settings.max_overkill,
        settings.max_escape,
        settings.look_as,
        settings.of_classes("max_escape"),
        settings.parts_per_day,
    )


def see_cross_fitted(
    model: Path,
    imaging: ImagingSettings,
    storage: Storage,
    pairs: Sequence[Pair],
    names: Names,
    roi: NDArray[np.uint8] | None,
    settings: EvaluateSettings,
) -> Calibrator:
    """What the networks in the model's folder say of training `pairs` that they have not learned; nothing
    where there are none."""
    calibrator, folder = Calibrator(names.classes), model / CROSS_FIT
    folds = json.loads((folder / FOLDS).read_text()) if folder.exists() else {}
    parts: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.id in folds:
            parts[folds[pair.id]].append(pair)
    for fold, part in sorted(parts.items()):
        network = Network(folder / f"{fold}/model.xml", imaging, classes=names.classes, roi=roi)
        _see(calibrator, network, storage, part, names, settings)
    if calibrator.labels:
        count = len(calibrator.labels)
        say(f"evaluate: {count} training pictures choose the threshold too, judged by networks without them")
    return calibrator


def _see(
    calibrator: Calibrator,
    network: Network,
    storage: Storage,
    pairs: Sequence[Pair],
    names: Names,
    settings: EvaluateSettings,
) -> None:
    for pair, image, mask in track(read_files(storage, pairs), len(pairs), "calibrating"):
        score_map = network.score_map(image)
        cost = truth = None
        marked = pair.label == "NG" and pair.masked
        if marked or ignores(pair, names.class_map):
            truth = names.truth(mask, score_map.shape, pair)
            cost = escape_costs(names.classes, truth, settings)
            score_map, truth = disregard(score_map, truth, EVEN)
        calibrator.see(pair.label, score_map, cost, truth if marked else None, pair.group)


def escape_costs(
    classes: Sequence[str], truth: NDArray[np.uint8], settings: EvaluateSettings
) -> float | None:
    """What the escape of a picture costs, of several classes the highest; None for the usual cost."""
    cost_of = settings.of_classes("escape_cost")
    here = [name for number, name in enumerate(classes, start=1) if np.any(truth == number)]
    if not any(name in cost_of for name in here):
        return None
    return max(cost_of.get(name, settings.escape_cost) for name in here)


def score(
    network: Network,
    point: OperatingPoint,
    storage: Storage,
    pairs: Sequence[Pair],
    names: Names,
    what: str,
    collect: Callable[[Evaluated], None] | None = None,
    there: Scored | None = None,
) -> Scored:
    """Counts of every picture of a snapshot, by class where the network knows the snapshot's; `collect` gets
    each, and may keep some.

    Pictures of which the numbers are `there`, as of `tally`, are not looked at again.
    """
    known = {one.id: one for one in there.counts} if there else {}
    left = [pair for pair in pairs if pair.id not in known]
    if there is None or len(left) + len(known) != len(pairs):
        # Histograms of other pictures cannot be taken apart.
        scored = tally(network, point, storage, pairs, names, what, collect)
    else:
        scored = tally(network, point, storage, left, names, what, collect)
        known |= {one.id: one for one in scored.counts}
        scored.pixels.add(there.pixels)
        ordered = (pair for members in by_pack(pairs).values() for pair in members)
        scored = scored._replace(counts=[known[pair.id] for pair in ordered])
    # Pixels of good pictures alone say nothing of how well defects are found.
    return scored if with_masks(scored.counts) else scored._replace(pixels=Pixels())


def tally(
    network: Network,
    point: OperatingPoint,
    storage: Storage,
    pairs: Sequence[Pair],
    names: Names,
    what: str,
    collect: Callable[[Evaluated], None] | None = None,
) -> Scored:
    """As `score`, of some of its pictures: what comes to it together with others is not known yet."""
    scored = Scored([], Pixels())
    classes = names.classes if network.classes == names.classes else ()
    for pair, image, mask in track(read_files(storage, pairs), len(pairs), what):
        maps = network.maps(image)
        truth = names.truth(mask, maps.score_map.shape, pair)
        score_map, truth = disregard(maps.score_map, truth, round(point.threshold * LEVELS))
        given = judge(Maps(score_map, maps.classes), point.threshold, point.min_area_px, point.ng_from)
        scored.counts.append(count(pair.id, pair.label, given, truth, classes, pair.masked))
        if pair.masked:
            scored.pixels.see(score_map, truth)
        if collect:
            collect(Evaluated(pair, image, truth, score_map, given, scored.counts[-1]))
    return scored
