"""The evaluate step.

1. Calibrate threshold and minimal area on the validation split, for the network in float32 and in INT8, and
   choose which of the two is served.
2. Score challenger and champion on the same test pictures, from the files as the line would send them,
   with the exported network that the predictor loads.
3. Judge by the gate.
4. Seal the bundle, with golden pictures and the answers that every deployment of it must give.
5. Write metrics.json, gate.json and report.html into the run's folder.
"""

import io
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from sklearn.metrics import roc_curve

from defectline.components.common import checksums
from defectline.components.common.bundle import NETWORKS, Bundle, Data, Golden, read_bundle, seal_bundle
from defectline.components.common.errors import BundleError
from defectline.components.common.imaging import ImagingSettings, decode_truth, encode_mask
from defectline.components.common.inspection import LEVELS, Answer, Network, answer
from defectline.components.common.runs import Gated, Outcome, write_gated, write_outcome
from defectline.components.common.settings import checked
from defectline.components.common.snapshot import Pair, read_files, read_pairs, read_snapshot
from defectline.components.common.steps import say, step, track
from defectline.components.common.storage import Storage, open_storage
from defectline.components.evaluate.calibration import Calibration, Calibrator
from defectline.components.evaluate.choosing import choose
from defectline.components.evaluate.gate import Rule, judge, passed
from defectline.components.evaluate.metrics import Count, count, intervals, summarize
from defectline.components.evaluate.report import Case, Report, render

GOLDEN_EACH = 2
"""Golden pictures of each verdict."""
SHOWN_MISSED, SHOWN_RIGHT = 20, 8
"""Test pictures in the report, of each label."""


class Limits(BaseModel):
    """The gate's absolute rules, as rates from 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_iou: float = Field(ge=0, le=1)
    max_escape: float = Field(ge=0, le=1)
    max_overkill: float = Field(ge=0, le=1)


class Judged(NamedTuple):
    """One test picture, with all that the report and the golden answers need of it."""

    pair: Pair
    image: bytes
    truth: NDArray[np.uint8]
    answer: Answer
    peak: float
    """The highest probability inside the true defect; of a good picture, anywhere."""


class Candidate(NamedTuple):
    """A network that could be served, and how it does on the validation split."""

    network: Network
    constants: Calibration
    counts: list[Count]


class Result(NamedTuple):
    passed: bool
    metrics: dict[str, dict[str, float | int | None]]
    roc: tuple[list[float], list[float], list[float]]
    """False alarm rate, detection rate and threshold, of the image score on the test split."""
    confusion: list[list[int]]
    """Rows true OK and NG, columns called OK and NG."""


def evaluate(
    store: str,
    snapshot: str,
    model: Path,
    bundle: Path,
    report: Path,
    limits: Mapping[str, float],
    run: str = "manual",
    model_name: str = "defects",
    champion: str = "",
    settings: str = "",
) -> Result:
    """Judge `model`, seal it into the new folder `bundle`, and write the HTML `report`.

    `limits` are the fields of Limits. `champion` is the version that serves now, "" for none. A refused
    challenger ends the story: the run's outcome is written here.
    """
    with step("evaluate") as progress:
        rates = checked(Limits, **limits)
        storage = open_storage(store)
        content = _read_model(model)
        pairs = [p for p in read_pairs(storage, snapshot) if p.status == "accepted"]
        validation = [p for p in pairs if p.split == "validation"]
        test = [p for p in pairs if p.split == "test"]

        candidates = _candidates(model, ImagingSettings(**content["imaging"]), storage, validation)
        served, reason = choose({name: each.counts for name, each in candidates.items()})
        network, constants, validated = candidates[served]
        say(f"evaluate: {served} is served: {reason}")
        say(f"evaluate: threshold {constants.threshold}, regions of at least {constants.min_area_px} px")
        counts, shown = _judge_pictures(network, constants, storage, test)
        rival, no_champion = _score_champion(storage, model_name, champion, test)
        metrics = {"validation": summarize(validated), "test": summarize(counts)}
        rival_metrics = None if rival is None else summarize(rival)
        rules = judge(metrics["test"], rival_metrics, **rates.model_dump(), no_champion=no_champion)
        ok = passed(rules)

        data = Data(
            snapshot=snapshot,
            fingerprint=read_snapshot(storage, snapshot).fingerprint,
            pairs={s: sum(p.split == s for p in pairs) for s in ("train", "validation", "test")},
        )
        draft = Bundle(
            version="",
            name=model_name,
            created="",
            imaging=network.imaging,
            threshold=constants.threshold,
            min_area_px=constants.min_area_px,
            metrics=metrics,
            data=data,
            training=content["training"],
            golden=[],
            served=served,
            served_reason=reason,
        )
        sealed = _seal(model, bundle, draft, shown)
        page = render(
            Report(
                run=run,
                bundle=sealed,
                champion=champion,
                champion_metrics=rival_metrics,
                rules=rules,
                counts=counts,
                intervals=intervals(counts),
                cases=[Case(j.pair.id, j.image, j.truth, j.answer, j.peak) for j in shown],
                history=(model / "history.png").read_bytes(),
            )
        )
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(page, encoding="utf-8")
        _publish(storage, run, sealed, rival_metrics, rules, intervals(counts), page)
        if not ok:
            failed = "; ".join(
                f"{r.name} is {_number(r.got)}, needed {r.needed}" for r in rules if not r.passed
            )
            write_gated(storage, model_name, Gated(run=run, snapshot=snapshot, settings=settings))
            write_outcome(storage, run, Outcome(state="refused", reason=failed, version=champion))
        iou = metrics["test"]["iou"]
        progress.did = (
            f"{'passed' if ok else 'refused'}: test IoU {_number(iou)}, escape "
            f"{_number(metrics['test']['escape'])}, overkill {_number(metrics['test']['overkill'])}"
        )
        return Result(ok, metrics, _roc(counts), _confusion(counts))


def _number(value: float | int | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _read_model(model: Path) -> dict:
    checksums.verify(model)
    return json.loads((model / "model.json").read_text())


def _candidates(
    model: Path, imaging: ImagingSettings, storage: Storage, pairs: Sequence[Pair]
) -> dict[str, Candidate]:
    """Every network of the model that could be served, at constants of its own."""
    found = {}
    for served, file in NETWORKS.items():
        if (model / file).exists():
            network = Network(model / file, imaging)
            constants = _calibrate(network, storage, pairs)
            counts = _score(network, constants, storage, pairs, f"judging {served} on validation pictures")
            found[served] = Candidate(network, constants, counts)
    return found


def _calibrate(network: Network, storage: Storage, pairs: Sequence[Pair]) -> Calibration:
    calibrator = Calibrator()
    for pair, image, _ in track(read_files(storage, pairs), len(pairs), "calibrating"):
        calibrator.see(pair.label, network.levels(image))
    return calibrator.calibrate()


def _score(
    network: Network, constants: Calibration, storage: Storage, pairs: Sequence[Pair], what: str
) -> list[Count]:
    counts = []
    for pair, image, mask in track(read_files(storage, pairs), len(pairs), what):
        levels = network.levels(image)
        truth = decode_truth(mask, levels.shape)
        counts.append(count(pair.id, pair.label, answer(levels, *constants), truth))
    return counts


def _judge_pictures(
    network: Network, constants: Calibration, storage: Storage, pairs: Sequence[Pair]
) -> tuple[list[Count], list[Judged]]:
    """Counts of every picture, and those that the report shows: missed ones first, both labels among them."""
    counts = []
    kinds: defaultdict[tuple[bool, str], list[Judged]] = defaultdict(list)
    for pair, image, mask in track(read_files(storage, pairs), len(pairs), "judging"):
        levels = network.levels(image)
        truth = decode_truth(mask, levels.shape)
        given = answer(levels, *constants)
        counts.append(count(pair.id, pair.label, given, truth))
        where = truth.astype(bool) if truth.any() else np.ones_like(truth, bool)
        missed = counts[-1].missed
        kind = kinds[not missed, pair.label]
        if len(kind) < (SHOWN_MISSED if missed else SHOWN_RIGHT):
            kind.append(Judged(pair, image, truth, given, float(levels[where].max()) / LEVELS))
    return counts, [judged for key in sorted(kinds) for judged in kinds[key]]


def _score_champion(
    storage: Storage, model_name: str, champion: str, pairs: Sequence[Pair]
) -> tuple[list[Count] | None, str]:
    """The champion's counts on the same pictures, at its own constants; or None, and why."""
    if not champion:
        return None, "there is no champion yet"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, champion)
        try:
            storage.download_folder(f"models/{model_name}/{champion}", folder)
            bundle = read_bundle(folder)
            network = Network(folder / bundle.network, bundle.imaging)
        except BundleError as error:
            # The copy that was looked at is gone by the time somebody reads this.
            what = error.what.replace(str(folder), storage.url(f"models/{model_name}/{champion}"))
            say(
                f"evaluate: WARNING: the champion {champion} cannot be loaded, so nothing is compared: {what}"
            )
            return None, f"the champion {champion} cannot be loaded: {what}"
        constants = Calibration(bundle.threshold, bundle.min_area_px)
        return _score(network, constants, storage, pairs, "judging the champion"), ""


def _seal(model: Path, bundle: Path, draft: Bundle, shown: Sequence[Judged]) -> Bundle:
    """Copy the model into `bundle`, add golden pictures, and seal it."""
    shutil.copytree(model, bundle, ignore=shutil.ignore_patterns(checksums.NAME, "history.png", "model.json"))
    (bundle / "golden").mkdir()
    # Verdicts far from the threshold stay what they are on every processor.
    steady = sorted(shown, key=lambda j: -abs(j.answer.score - draft.threshold))
    golden = []
    for verdict in ("OK", "NG"):
        for index, item in enumerate([j for j in steady if j.answer.verdict == verdict][:GOLDEN_EACH]):
            file = f"{verdict}-{index}{PurePosixPath(item.pair.image_key).suffix.lower()}"
            mask = f"{verdict}-{index}.mask.png"
            (bundle / "golden" / file).write_bytes(item.image)
            (bundle / "golden" / mask).write_bytes(encode_mask(item.answer.mask))
            golden.append(
                Golden(
                    file=file,
                    content_type=_content_type(item.image),
                    verdict=verdict,
                    score=item.answer.score,
                    mask_file=mask,
                )
            )
    return seal_bundle(bundle, draft.model_copy(update={"golden": golden}))


def _content_type(image: bytes) -> str:
    return Image.MIME[Image.open(io.BytesIO(image)).format or ""]


def _publish(
    storage: Storage,
    run: str,
    bundle: Bundle,
    rival: dict[str, float | int | None] | None,
    rules: list[Rule],
    spans: dict,
    page: str,
) -> None:
    content = {
        "version": bundle.version,
        **bundle.metrics,
        "test_intervals_95": {key: span and list(span) for key, span in spans.items()},
        "champion_test": rival,
        "served": bundle.served,
        "served_reason": bundle.served_reason,
        "threshold": bundle.threshold,
        "min_area_px": bundle.min_area_px,
    }
    storage.write(f"runs/{run}/metrics.json", json.dumps(content, indent=2).encode())
    rows = [rule._asdict() for rule in rules]
    storage.write(f"runs/{run}/gate.json", json.dumps(rows, indent=2, ensure_ascii=False).encode())
    storage.write(f"runs/{run}/report.html", page.encode())


def _roc(counts: Sequence[Count]) -> tuple[list[float], list[float], list[float]]:
    # The curve starts at an infinite threshold, which KFP's JSON cannot carry.
    fpr, tpr, thresholds = roc_curve([c.label == "NG" for c in counts], [c.score for c in counts])
    return fpr.tolist(), tpr.tolist(), np.clip(thresholds, 0, 1).tolist()


def _confusion(counts: Sequence[Count]) -> list[list[int]]:
    return [
        [sum(c.label == true and c.verdict == called for c in counts) for called in ("OK", "NG")]
        for true in ("OK", "NG")
    ]
