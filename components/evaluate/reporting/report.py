"""The report: one HTML file that needs no network, for the store and for KFP's page.

Its only script moves the threshold; without scripts a table says the same.

And its summary on one screen, as Markdown.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import NamedTuple

import jinja2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.bundle import Bundle
from defectline.components.common.classes import describe_supervision
from defectline.components.common.images.drawing import data_uri
from defectline.components.common.trust.approvals import how_to_approve
from defectline.components.evaluate.champion import ChampionResult
from defectline.components.evaluate.classes import ClassMetrics, confusion_of_regions
from defectline.components.evaluate.gate import BETTER, COST, ENOUGH, Rule, kept, passed
from defectline.components.evaluate.metrics import (
    SIZES,
    Count,
    Interval,
    Metrics,
    cost_of_escape,
    grade_counts,
    summarize,
    summarize_classes,
    to_look_at,
)
from defectline.components.evaluate.reporting.curves import at_thresholds, draw_curves
from defectline.components.evaluate.reporting.examples import (
    Example,
    RenderedExample,
    css_colour,
    kind_of,
    render_example,
)
from defectline.components.evaluate.scoring import Scored
from defectline.components.evaluate.settings import EvaluateSettings

MEANINGS = {
    "escape": "defective parts called OK",
    "overkill": "good parts called NG",
    "iou": "overlap of found and true defect pixels, all pictures together",
    "dice": "the same, as Dice",
    "image_iou": "overlap as mean over pictures; a good picture called OK counts 1",
    "image_dice": "the same, as Dice",
    "pixel_ap": "how well probabilities separate defect pixels, at any threshold",
    "image_auroc": "how well scores separate good from defective pictures",
    "image_ap": "the same, as average precision",
    "region_recall": "true defect regions touched",
}
FIXED = {
    "fixed_escape": "Escapes of the champion that this version finds",
    "fixed_overkill": "Overkills of the champion that this version accepts",
}
SECTIONS = {
    "escape": "Escapes: defective parts called OK",
    "overkill": "Overkills: good parts called NG",
    "look": "LOOK: parts that a person has to look at",
    "mislocalised": "Right verdict for the wrong place",
    "partly": "Right verdict, but a defect was missed",
}

MISSED = ("escape", "mislocalised")
"""Kinds whose pictures have a defect of which nothing was found."""


class Report(NamedTuple):
    run: str
    bundle: Bundle
    settings: EvaluateSettings
    champion: str
    champion_result: ChampionResult
    rules: Sequence[Rule]
    scored: Scored
    """Of the challenger, on all test pictures."""
    intervals: Mapping[str, Interval | None]
    kinds: Mapping[str, Sequence[Example]]
    """Pictures to show, by the kinds of examples.SHOWN."""
    rejected: int
    """Pairs of the snapshot that ingest rejected."""
    history: bytes
    """The training's curves, PNG."""
    store: str
    """As the command names it that approves the version."""
    signed: bool = False
    """Whether who approves it needs a key, as far as this step can know."""
    rois: Mapping[str, NDArray[np.uint8]] = MappingProxyType({})
    """As in Names."""
    roi: NDArray[np.uint8] | None = None
    """The one that the endpoint applies."""
    advice: str = ""
    """As in Outcome."""
    deciding: Sequence[Example] = ()
    """Validation pictures that say why the threshold lies where it does."""


def tell_masks(metrics: Metrics) -> str:
    """Over how many pictures numbers of pixels are; "" where all have masks."""
    known, bad = metrics.get("ng_masked"), metrics["ng"]
    if known is None:
        return ""
    if not known:
        return f"None of the {bad} defective test pictures has a mask: IoU, Dice and regions are not judged."
    return (
        f"IoU, Dice and regions are over {known} of {bad} defective test pictures: the others have no mask."
    )


class Comparison(NamedTuple):
    """Challenger and champion on the pictures on which both can be compared."""

    challenger: Metrics
    champion: Metrics
    changes: list[tuple[str, list[str]]]
    """What became worse and better, with the pictures' ids."""


def render(report: Report) -> str:
    """The page as text. Pictures are inside it as data URIs."""
    counts, bundle, numbers = report.scored.counts, report.bundle, _numbers(report)
    kinds = {
        kind: [render_example(example, bundle, report.rois.get(example.pair.roi)) for example in examples]
        for kind, examples in report.kinds.items()
    }
    if found := [example.contrast for example in kinds["NG"] if example.contrast is not None]:
        for kind in MISSED:
            kinds[kind] = [tell_contrast(example, median(found)) for example in kinds[kind]]
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            bundle=bundle,
            verdict=verdict(report),
            waits_for=waits_for(report),
            passed=passed(report.rules),
            promised=promised(report),
            ended=ended(report.rules),
            test=bundle.metrics["test"],
            validation=bundle.metrics["validation"],
            comparison=compare(report.scored, report.champion_result),
            enough=ENOUGH,
            meanings=MEANINGS,
            sections=[
                (title, kinds[kind], numbers[kind])
                for kind, title in SECTIONS.items()
                if kind not in ("partly", "look") or numbers[kind]
            ],
            fixed=[(title, kinds[kind], numbers[kind]) for kind, title in FIXED.items() if numbers[kind]],
            deciding=[
                render_example(example, bundle, report.rois.get(example.pair.roi))
                for example in report.deciding
            ],
            scores=[[round(c.score, 4), int(c.label == "NG"), _cost_of(c, report)] for c in counts],
            right=kinds["NG"] + kinds["OK"],
            others=numbers["NG"] + numbers["OK"],
            curves=[(curve, data_uri(curve.png)) for curve in draw_curves(*report.scored, bundle.threshold)],
            thresholds=at_thresholds(
                counts,
                [level for level in (bundle.threshold, bundle.ng_from) if level is not None],
                report.settings.costs(bundle.classes),
            ),
            looks=len(to_look_at(counts)),
            sizes=_sizes(bundle.metrics["test"]),
            grades=grade_counts(counts, bundle.grades) if bundle.grades else None,
            history=data_uri(report.history),
            classes=_classes(report),
            confused=confusion_of_regions([c.classes for c in counts if c.classes], bundle.classes),
            any_ignored=any(example.ignored for drawn in kinds.values() for example in drawn),
            over=tell_masks(bundle.metrics["test"]),
            learned_from=describe_supervision(bundle.supervision, bundle.classes),
        )
    )


def tell_contrast(example: RenderedExample, found: float) -> RenderedExample:
    """The same, which says how faint its defect is; `found` is the median contrast of those found."""
    if example.contrast is None:
        return example
    says = (
        f" Its mean brightness differs from what is around it by {example.contrast:.0f} of 255 grey levels; "
        f"of defects that were found, half differ by {found:.0f} or more."
    )
    return example._replace(why=example.why + says)


def summarize_run(report: Report) -> str:
    """The run on one screen, as Markdown."""
    return (
        _environment()
        .get_template("summary.md")
        .render(
            report=report,
            bundle=report.bundle,
            verdict=verdict(report),
            waits_for=waits_for(report),
            ended=ended(report.rules),
            test=report.bundle.metrics["test"],
            comparison=compare(report.scored, report.champion_result),
            meanings=MEANINGS,
            classes=_classes(report),
            over=tell_masks(report.bundle.metrics["test"]),
        )
    )


def _classes(report: Report) -> list[tuple[str, ClassMetrics, str]]:
    """Name, numbers and colour of each class; none where there is only one."""
    found = summarize_classes(report.scored.counts, report.bundle.classes)
    return [(name, each, css_colour(number)) for number, (name, each) in enumerate(found.items(), start=1)]


def ended(rules: Sequence[Rule]) -> str:
    """How the gate ended, in a few words."""
    return "passed" if passed(rules) else "not better" if kept(rules) else "refused"


def waits_for(report: Report) -> str:
    """Whom a challenger that passed waits for, and the command; "" where nobody need approve it."""
    people = {"required": "a person", "two": "two people"}.get(report.settings.approval)
    if not people or not passed(report.rules):
        return ""
    return (
        f"It serves once {people} approved it: "
        f"{how_to_approve(report.store, report.bundle.name, report.bundle.version, report.signed)}"
    )


def verdict(report: Report) -> str:
    """The gate's verdict, the rule that spoke, and what follows from it, in a sentence or two."""
    test, failed = report.bundle.metrics["test"], [r for r in report.rules if not r.passed]
    judged = f"{test['ng']} defective and {test['ok']} good test pictures"
    stays = f"the champion {report.champion} stays" if report.champion else "nothing is deployed"
    if kept(report.rules):
        return f"This version is not better than the champion on {judged}, so {stays}: {failed[0].reason}."
    if failed:
        names = ", ".join(rule.name for rule in failed)
        of = f"{len(failed)} of {len(report.rules)} rules"
        return f"This version failed {of} on {judged} ({names}), so {stays}."
    then = f"may replace the champion {report.champion}" if report.champion else "may be deployed"
    if waits_for(report):
        then = "waits for approval"
    said = [rule.reason for rule in report.rules if rule.name in (BETTER, COST)]
    return (
        f"This version passed all {len(report.rules)} rules on {judged}, and {then}"
        + "".join(f": {reason}" for reason in said)
        + "."
        + ("" if promised(report) else " Of other parts less is known: not all of it is promised, see below.")
    )


def promised(report: Report) -> bool:
    """Whether what the gate asks of the test pictures is promised of all parts like them."""
    return bool(report.bundle.metrics["test"]["ng"]) and all(one.holds for one in report.bundle.promises)


def compare(scored: Scored, champion_result: ChampionResult) -> Comparison | None:
    """Both models side by side; None where there is nothing to compare."""
    if champion_result.scored is None:
        return None
    own = {count.id: count for count in scored.counts}
    pairs = [(own[other.id], other) for other in champion_result.scored.counts]
    # The histogram is of all test pictures.
    pixels = scored.pixels if len(pairs) == len(scored.counts) else None
    changes = [
        (f"{change} {what}", [a.id for a, b in pairs if a.label == label and is_so(a, b)])
        for what, label in (("escapes", "NG"), ("overkills", "OK"))
        for change, is_so in (
            ("new", lambda a, b: a.wrong and not b.wrong),
            ("fixed", lambda a, b: b.wrong and not a.wrong),
        )
    ]
    return Comparison(
        summarize([a for a, _ in pairs], pixels),
        summarize(champion_result.scored.counts, champion_result.scored.pixels),
        changes,
    )


def _cost_of(count: Count, report: Report) -> float:
    costs = report.settings.costs(report.bundle.classes)
    return cost_of_escape(count, costs) if count.label == "NG" else 1.0


def _numbers(report: Report) -> Counter[str]:
    """How many test pictures there are of each kind of SHOWN."""
    scored = report.champion_result.scored
    champion = {count.id: count.verdict for count in scored.counts} if scored else {}
    return Counter(kind_of(count, champion.get(count.id, "")) for count in report.scored.counts)


def _sizes(test: Metrics) -> list[tuple[str, str, Metrics]]:
    """Name, limits and numbers of each class of regions."""
    rows, lower = [], 1
    for name, limit in SIZES.items():
        limits = f"{lower} to {limit - 1} px" if limit else f"{lower} px and more"
        numbers = {"regions": test[f"regions_{name}"], "recall": test[f"region_recall_{name}"]}
        rows.append((name, limits, numbers))
        lower = limit or lower
    return rows


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")
    return environment


def _number(value: float | int | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
