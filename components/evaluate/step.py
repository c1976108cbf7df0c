"""The evaluate step.

1. Calibrate threshold and minimal area on the validation split, for the network in float32 and in INT8, and
   choose which of the two is served.
2. Score challenger and champion on the same test pictures, from the files as the line would send them,
   with the exported network that the predictor loads.
3. Judge by the gate.
4. Seal the bundle, with golden pictures and the answers that every deployment of it must give.
5. Write metrics.json, gate.json, counts.json, report.html and summary.md into the run's folder, and
   provenance.json there and beside the bundle's seal.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any, Literal, NamedTuple

from defectline.components.common import layout
from defectline.components.common.bundle import TOLD_FROM_NOISE, Bundle, Data
from defectline.components.common.classes import LABELS, describe_supervision
from defectline.components.common.inference.inspection import LEVELS
from defectline.components.common.inference.network import Network
from defectline.components.common.legend import Names
from defectline.components.common.records import GateRecord, Outcome, write_gate
from defectline.components.common.reporting import audit
from defectline.components.common.reporting.front_page import end_run
from defectline.components.common.settings import checked
from defectline.components.common.snapshot import Pair
from defectline.components.common.steps import say, step
from defectline.components.common.storage import Storage, checksums, open_storage
from defectline.components.common.trust.keys import TRUST_ENV, signing_key
from defectline.components.evaluate.champion import (
    choose_opponent,
    describe_settings,
    find_reference,
    score_champion,
)
from defectline.components.evaluate.classes import confusion_of_regions
from defectline.components.evaluate.gate import Rule, judge, kept, passed
from defectline.components.evaluate.inputs import read_inputs
from defectline.components.evaluate.metrics import (
    Count,
    Metrics,
    Roc,
    called,
    confusion,
    grade_counts,
    intervals,
    roc,
    spread_scores,
    summarize,
    summarize_classes,
)
from defectline.components.evaluate.provenance import attach
from defectline.components.evaluate.reporting.examples import Example, ExampleCollector, choose_shown
from defectline.components.evaluate.reporting.report import Report, render, summarize_run
from defectline.components.evaluate.scoring import Scored, score
from defectline.components.evaluate.sealing import import_early, seal
from defectline.components.evaluate.settings import EvaluateSettings
from defectline.components.evaluate.sharding.files import CHALLENGER, forget, read_before
from defectline.components.evaluate.validation.calibration import OperatingPoint
from defectline.components.evaluate.validation.candidates import choose_network
from defectline.components.evaluate.validation.novelty import learn_novelty

LEAST_TESTED = 2
"""Defective test pictures: an escape rate of one says nothing."""
FEW = 12
"""Defective pictures of which so few may be tested: they are the first ones, which train."""
DECIDING_EACH = 4
"""Validation pictures at most that the report shows of each reason for the threshold."""
NEAR_EACH = 2
"""Those of each label that it shows for being near."""


State = Literal["passed", "kept", "refused"]
STATES: dict[State, str] = {
    "passed": "passed",
    "kept": "not better than the champion",
    "refused": "refused",
}


class Result(NamedTuple):
    state: State
    metrics: dict[str, Metrics]
    roc: Roc | None
    """Of the test split; None unless it has pictures of both labels."""
    confusion: list[list[int]]
    """Of the test split: rows true, columns called, both of `called`."""
    called: tuple[str, ...]
    summary: str
    """Verdict, rules and metrics as Markdown."""

    @property
    def passed(self) -> bool:
        return self.state == "passed"


def evaluate(
    store: str,
    snapshot: str,
    model: Path,
    bundle: Path,
    report: Path,
    settings: Mapping[str, object],
    run: str = "manual",
    model_name: str = "defects",
    champion: str = "",
    settings_key: str = "",
) -> Result:
    """Judge `model`, seal it into the new folder `bundle`, and write the HTML `report`.

    `settings` are fields of EvaluateSettings. `champion` is the version that serves now, "" for none. A
    refused challenger ends the run: its outcome is written here.
    """
    # A fold of a cross-validation judges settings: nothing of it is ever served.
    is_fold = run.startswith(layout.CROSSVAL)
    with step("evaluate", store, part=f"fold {run}" if is_fold else "") as progress:
        chosen = checked(EvaluateSettings, **settings)
        key = signing_key()
        if key:
            import_early()
        storage = open_storage(store)
        inputs = read_inputs(storage, snapshot, model, chosen)
        content, _, taken, rows, splits, names, roi = inputs
        if names.rois and roi is None:
            say("evaluate: regions of interest differ from picture to picture: the endpoint will apply none")

        before = read_before(storage, run, model, inputs)
        network, point, validated, served, reason = (
            before.chosen if before else choose_network(model, inputs, storage, chosen)
        )

        def ask(
            who: str, network: Network, point: OperatingPoint, pairs: Sequence[Pair], what: str
        ) -> Scored:
            there = before.found.get(who) if before else None
            return score(network, point, storage, pairs, names, what, there=there)

        say(f"evaluate: {served} is served: {reason}")
        look = "" if point.ng_from is None else f", LOOK below {point.ng_from}"
        say(f"evaluate: threshold {point.threshold}{look}, regions of at least {point.min_area_px} px")
        for told in filter(None, (point.why, point.note and f"WARNING: {point.note}", *point.promises)):
            say(f"evaluate: {told}")
        tested = splits["test"]
        champion_result = score_champion(storage, model_name, champion, tested, names, ask)
        answered = champion_result.scored.counts if champion_result.scored else []
        verdicts = {count.id: count.verdict for count in answered}
        collector = ExampleCollector(taken.classes, verdicts)
        if before:
            scored = ask(CHALLENGER, network, point, tested, "judging")
            shown = choose_shown(tested, scored.counts, verdicts)
            score(network, point, storage, shown, names, "drawing what is shown", collector.add)
        else:
            scored = score(network, point, storage, tested, names, "judging", collector.add)
        reference = find_reference(storage, model_name, champion_result, tested, names, chosen, ask)
        metrics = {"validation": summarize(*validated), "test": summarize(*scored)}
        draft = Bundle(
            version="",
            name=model_name,
            created="",
            imaging=network.imaging,
            classes=taken.classes,
            approval=chosen.approval,
            supervision=content.get("supervision", ""),
            threshold=point.threshold,
            ng_from=point.ng_from,
            first_look=network.first_look,
            min_area_px=point.min_area_px,
            calibration_note=point.note,
            calibration_why=point.why,
            promises=point.promises,
            validation_scores=spread_scores(validated.counts),
            grades=chosen.grades,
            metrics=metrics,
            data=Data(
                snapshot=snapshot,
                fingerprint=taken.fingerprint,
                pairs={name: len(pairs) for name, pairs in splits.items()},
            ),
            training=content["training"],
            golden=[],
            served=served,
            served_reason=reason,
            reference=reference.version,
        )
        opponent, note = choose_opponent(
            champion_result, reference, taken.fingerprint, describe_settings(draft), chosen.replace
        )
        advice = content.get("advice", "")
        rules = judge(scored.counts, opponent, chosen, note, taken.classes, _judged(inputs.used), not advice)
        state: State = "passed" if passed(rules) else "kept" if kept(rules) else "refused"
        config = layout.run_key(run, layout.CONFIG)
        settings_file = storage.read(config) if storage.exists(config) else b""
        novelty = learn_novelty(network, storage, splits["train"], splits["validation"])
        sealed = seal(model, bundle, draft, collector.examples, settings_file, roi, novelty, key)
        reported = Report(
            run=run,
            bundle=sealed,
            settings=chosen,
            champion=champion,
            champion_result=champion_result,
            rules=rules,
            scored=scored,
            intervals=intervals(scored.counts),
            kinds=collector.kinds,
            rejected=sum(p.status == "rejected" for p in rows),
            history=(model / "history.png").read_bytes(),
            store=storage.uri,
            # Where bundles are signed, decisions most likely are as well: deploy knows, and says so too.
            signed=key is not None or bool(os.environ.get(TRUST_ENV)),
            rois=names.rois,
            roi=roi,
            advice=advice,
            deciding=_deciding(network, point, validated, storage, splits["validation"], names),
        )
        page, summary = render(reported), summarize_run(reported)
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(page, encoding="utf-8")
        results = _results(reported, page, summary)
        results[checksums.PROVENANCE] = attach(
            bundle, sealed, storage, run, taken, champion, settings_key, chosen.approval, state, results, key
        )
        for name, data in results.items():
            storage.write(layout.run_key(run, name), data)
        if key:
            say(f"evaluate: signed {key.public.told}")
        if not is_fold:
            audit.note(storage, "gate", model_name, sealed.version, audit.by_run(run), state)
        if state != "passed":
            if not is_fold:
                gate = GateRecord(run=run, snapshot=snapshot, settings_key=settings_key)
                write_gate(storage, model_name, gate)
            end_run(
                storage,
                run,
                Outcome(state=state, reason=_why_not(rules, state), version=champion, advice=advice),
            )
        if before:
            forget(storage, run)
        for name in content.get("checkpoints", ()):
            storage.delete_below(layout.checkpoint_prefix(name))
        iou = metrics["test"]["iou"]
        progress.summary = (
            f"{STATES[state]}: test IoU {_number(iou)}, escape "
            f"{_number(metrics['test']['escape'])}, overkill {_number(metrics['test']['overkill'])}"
        )
        counts = scored.counts
        return Result(state, metrics, roc(counts), confusion(counts), called(counts), summary)


def _why_not(rules: Sequence[Rule], state: State) -> str:
    failed = [rule for rule in rules if not rule.passed]
    if state == "kept":
        return "not better: " + "; ".join(rule.reason for rule in failed)
    return "; ".join(f"{rule.name} is {_number(rule.got)}, needed {rule.needed}" for rule in failed)


def _deciding(
    network: Network,
    point: OperatingPoint,
    validated: Scored,
    storage: Storage,
    pairs: Sequence[Pair],
    names: Names,
) -> list[Example]:
    """The validation pictures that end the range which the threshold was chosen from: the good ones just
    below it, the defective ones just above; those that no threshold may call right; and of each label those
    nearest to the threshold."""
    low, high = TOLD_FROM_NOISE
    lost = [c for c in validated.counts if (c.score < low if c.label == "NG" else c.score >= high)]
    ids = {count.id for count in lost[:DECIDING_EACH]}
    for end in point.decided_by:
        for label, at in (("OK", end - 1 / LEVELS), ("NG", end)):
            there = [c for c in validated.counts if c.label == label and isclose(c.score, at, abs_tol=1e-6)]
            ids |= {count.id for count in there[:DECIDING_EACH]}
    near = sorted(validated.counts, key=lambda count: abs(count.score - point.threshold))
    for label in LABELS:
        ids |= {count.id for count in [c for c in near if c.label == label][:NEAR_EACH]}
    collector = ExampleCollector(names.classes)
    chosen = [pair for pair in pairs if pair.id in ids]
    score(network, point, storage, chosen, names, "drawing what decided", collector.add)
    return sorted(collector.examples, key=lambda example: example.counted.score)


def _judged(pairs: Sequence[Pair]) -> list[str]:
    """The labels that something can be said of: those of which the source has pictures, and not only a few
    defective ones that were learned from."""
    there = Counter(pair.label for pair in pairs)
    tested = sum(pair.label == "NG" for pair in pairs if pair.split == "test")
    few = there["OK"] > 0 and there["NG"] < FEW and tested < LEAST_TESTED
    return [label for label in LABELS if there[label] and not (few and label == "NG")]


def _number(value: float | int | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _results(report: Report, page: str, summary: str) -> dict[str, bytes]:
    """The files of the run's folder that say how it was judged."""
    bundle, champion_result = report.bundle, report.champion_result.scored
    content: dict[str, Any] = {
        "model": bundle.name,
        "version": bundle.version,
        "created": bundle.created,
        "snapshot": bundle.data.snapshot,
        "champion": report.champion,
        "reference": bundle.reference,
        **bundle.metrics,
        "test_intervals_95": {key: span and list(span) for key, span in report.intervals.items()},
        "champion_test": champion_result and summarize(*champion_result),
        "reliability": [point._asdict() for point in report.scored.pixels.reliability()],
        "served": bundle.served,
        "served_reason": bundle.served_reason,
        "threshold": bundle.threshold,
        **({} if bundle.ng_from is None else {"ng_from": bundle.ng_from}),
        "min_area_px": bundle.min_area_px,
        "calibration_note": bundle.calibration_note,
        "calibration_why": bundle.calibration_why,
        "learned_from": describe_supervision(bundle.supervision, bundle.classes),
        "promises": [promise.model_dump() for promise in bundle.promises],
        "grades": bundle.grades and _grades(report.scored.counts, bundle),
        **_classes(report),
    }
    rows = [rule._asdict() for rule in report.rules]
    counts = [
        {
            key: value
            for key, value in count._asdict().items()
            if value is not None and (key, value) != ("masked", True)
        }
        for count in report.scored.counts
    ]
    texts = {
        layout.METRICS: json.dumps(content, indent=2, allow_nan=False),
        layout.GATE: json.dumps(rows, indent=2, ensure_ascii=False),
        layout.COUNTS: json.dumps(counts, ensure_ascii=False),
        layout.REPORT: page,
        layout.SUMMARY: summary,
    }
    return {name: text.encode() for name, text in texts.items()}


def _classes(report: Report) -> dict[str, Any]:
    """What is known of each class, and as what regions of each were found; nothing where there is one."""
    classes = report.bundle.classes
    found = summarize_classes(report.scored.counts, classes)
    if not found:
        return {}
    counted = [count.classes for count in report.scored.counts if count.classes]
    return {
        "test_classes": {name: {**each._asdict(), "rare": each.rare} for name, each in found.items()},
        "regions_found_as": {
            "classes": ["good", *classes],
            "rows_true_columns_found": confusion_of_regions(counted, classes),
        },
    }


def _grades(counts: Sequence[Count], bundle: Bundle) -> dict[str, Any]:
    """The limits, and the rate of each grade by true label; None without pictures of it."""
    assert bundle.grades
    given = grade_counts(counts, bundle.grades)
    rates = {
        label: {name: number / of if (of := sum(row.values())) else None for name, number in row.items()}
        for label, row in given.items()
    }
    return {"limits": bundle.grades.model_dump(), **rates}
