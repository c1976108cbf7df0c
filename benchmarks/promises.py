"""Do promised rates hold on parts that the threshold was not chosen on?

    python benchmarks/promises.py BUNDLE --store store --max-escape 0.05 --max-overkill 0.1
    python benchmarks/promises.py --crossval ID --store crossval

The pictures that a sealed bundle was not trained on, validation and test, are split by groups in two halves,
again and again: one half chooses the levels, on the other verdicts are counted. A part is wrong by the share
of its pictures that is. Of a cross-validation (the name of its file in crossval/), which is seed by seed,
these are all pictures, each with the score that its fold's network gave it.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from defectline.components.common.bundle import bundle_roi, read_bundle
from defectline.components.common.classes import defect_mask
from defectline.components.common.inference.inspection import LEVELS, judge_score
from defectline.components.common.inference.network import Network
from defectline.components.common.layout import crossval_key
from defectline.components.common.legend import Names
from defectline.components.common.snapshot import read_files, read_pairs, read_snapshot
from defectline.components.common.storage import open_storage
from defectline.components.evaluate.collecting import FoldRun, read_judged
from defectline.components.evaluate.validation.calibration import AREAS_PX, Calibrator


def see_all(bundle_folder: Path, store: str) -> Calibrator:
    """Every picture that the bundle was not trained on, scored."""
    bundle, storage = read_bundle(bundle_folder), open_storage(store)
    pairs = [
        pair
        for pair in read_pairs(storage, bundle.data.snapshot)
        if pair.accepted and pair.split in ("validation", "test")
    ]
    taken = read_snapshot(storage, bundle.data.snapshot)
    names = Names.of(storage, taken, pairs)
    network = Network(
        bundle_folder / bundle.network,
        bundle.imaging,
        classes=bundle.classes,
        roi=bundle_roi(bundle_folder),
    )
    calibrator = Calibrator(taken.classes)
    for pair, image, mask in read_files(storage, pairs):
        score_map = network.score_map(image)
        known = pair.label == "NG" and pair.masked
        truth = names.truth(mask, score_map.shape, pair) if known else None
        found = truth if known and defect_mask(truth).any() else None
        calibrator.see(pair.label, score_map, truth=found, part=pair.group)
    return calibrator


def see_crossval(name: str, store: str) -> list[Calibrator]:
    """One a seed."""
    storage = open_storage(store)
    folds = [FoldRun(**run) for run in json.loads(storage.read(crossval_key(name)))["runs"]]
    groups = {pair.id: pair.group for fold in folds for pair in read_pairs(storage, fold.snapshot)}
    found = []
    for judged in read_judged(storage, folds):
        calibrator = Calibrator()
        for count in judged.counts:
            # At another place than the defect's, no score finds it.
            lost = count.label == "NG" and count.masked and not count.tp
            level = 0 if lost else round(count.score * LEVELS)
            calibrator.labels.append(count.label == "NG")
            calibrator.parts.append(groups[count.id] or f"{len(calibrator.parts)} alone")
            calibrator.scores.append((level,) * len(AREAS_PX))
            calibrator.costs.append(None)
            calibrator.kinds.append(frozenset())
        found.append(calibrator)
    return found


def part_of(whole: Calibrator, chosen: np.ndarray) -> Calibrator:
    part = Calibrator(whole.classes)
    for index in np.flatnonzero(chosen).tolist():
        part.labels.append(whole.labels[index])
        part.parts.append(whole.parts[index])
        part.scores.append(whole.scores[index])
        part.costs.append(whole.costs[index])
        part.kinds.append(whole.kinds[index])
    return part


def rate(wrong: np.ndarray, parts: np.ndarray) -> float:
    """Of parts, each of which is wrong by the share of its pictures (N,) that is."""
    _, part, pictures = np.unique(parts, return_inverse=True, return_counts=True)
    return float(np.sum(wrong / pictures[part]) / len(pictures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    judged = parser.add_mutually_exclusive_group(required=True)
    judged.add_argument("bundle", type=Path, nargs="?")
    judged.add_argument("--crossval", metavar="ID")
    parser.add_argument("--store", required=True)
    parser.add_argument("--max-escape", type=float, default=0.05)
    parser.add_argument("--max-overkill", type=float, default=0.1)
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    if options.crossval:
        for whole in see_crossval(options.crossval, options.store):
            split(whole, options)
    else:
        split(see_all(options.bundle, options.store), options)


def split(whole: Calibrator, options: argparse.Namespace) -> None:
    labels = np.array(whole.labels)
    groups = np.unique(whole.parts, return_inverse=True)[1]
    random = np.random.default_rng(0)
    kinds: dict[str, list[float]] = {"escape": [], "overkill": [], "look": []}
    certain: dict[str, list[bool]] = {"escape": [], "overkill": []}
    promised = bands = 0
    for _ in range(options.draws):
        half = random.permutation(groups.max() + 1) < (groups.max() + 1) // 2
        chosen = half[groups]
        point = part_of(whole, chosen).calibrate(3.0, options.max_overkill, options.max_escape, "LOOK")
        if not all(promise.holds for promise in point.promises):
            continue
        promised += 1
        bands += point.ng_from is not None
        column = AREAS_PX.index(point.min_area_px)
        scores = np.array(whole.scores)[~chosen, column] / LEVELS
        verdicts = np.array([judge_score(score, point.threshold, point.ng_from) for score in scores])
        bad, others = labels[~chosen], groups[~chosen]
        found = {
            "escape": rate(verdicts[bad] == "OK", others[bad]),
            "overkill": rate(verdicts[~bad] == "NG", others[~bad]),
        }
        for promise in point.promises:
            kinds[promise.rate].append(found[promise.rate])
            certain[promise.rate].append(found[promise.rate] <= (promise.certain or 1.0))
        kinds["look"].append(float(np.mean(verdicts == "LOOK")))
    print(
        f"{labels.sum()} defective and {(~labels).sum()} good pictures in {groups.max() + 1} groups; "
        f"{promised} of {options.draws} halves could promise both, {bands} of them with LOOK"
    )
    if not promised:
        return
    for name, at_most in (("escape", options.max_escape), ("overkill", options.max_overkill)):
        values = np.array(kinds[name])
        print(
            f"{name}: promised {at_most:.3f}, mean {values.mean():.3f}, 95 % of splits up to "
            f"{np.quantile(values, 0.95):.3f}; within the promise in {np.mean(values <= at_most):.3f} of "
            f"splits, within the rate of 95 % certainty in {np.mean(certain[name]):.3f}"
        )
    print(f"LOOK: {np.mean(kinds['look']):.3f} of the pictures on average")


if __name__ == "__main__":
    main()
