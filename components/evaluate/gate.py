"""The gate: what lets a challenger be deployed, one row a rule.

Absolute rules hold for every model. Relative ones ask whether the challenger is worse than the champion by
more than a margin: non-inferiority, on the same test pictures, each model at its own operating point.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from defectline.components.common.classes import LABELS
from defectline.components.evaluate.classes import LEAST, ClassMetrics
from defectline.components.evaluate.metrics import Count, summarize, summarize_classes
from defectline.components.evaluate.paired import iou_difference, lower_iou_difference, upper_difference
from defectline.components.evaluate.settings import EvaluateSettings, read_by_class

IOU_MARGIN = 0.05
"""Outlines may fit by so much less: a mask drawn twice by hand differs by more."""
ESCAPE_MARGIN = 0.05
OVERKILL_MARGIN = 0.1
"""Wider, because a good part that is rejected costs less than a defective one delivered."""
ENOUGH = 20
"""Pictures of a label from which a bound says something; with fewer, the difference itself must do."""

ESCAPES, OVERKILLS = "defective parts pass as good", "good parts are rejected"
NO_MASKS = "cannot be judged: no masks"
NO_PICTURE = "there is no test picture to measure it on"
OTHER_CLASSES = "not compared: the champion knows other classes"
UNKNOWN = {
    "OK": "not measured: the source has no good picture, so nobody knows how many good parts are rejected",
    "NG": "not measured: the source has too few defective pictures, so nobody knows how many defects escape",
}
"""Why pictures of a label limit nothing."""


class Rule(NamedTuple):
    name: str
    got: float | None
    needed: str
    passed: bool
    reason: str


NOT_WORSE = Rule("", None, "not worse", True, OTHER_CLASSES)


def judge(
    challenger: Sequence[Count],
    champion: Sequence[Count] | None,
    settings: EvaluateSettings,
    note: str = "",
    classes: Sequence[str] = (),
    judged: Collection[str] = LABELS,
    same_classes: bool = True,
) -> list[Rule]:
    """The rules, absolute ones first; a number that no picture gives fails its rule. One of pixels does not
    where none of the defective test pictures has a mask.

    `champion` holds counts of the test pictures on which both can be compared, by id, perhaps not all; None
    where there are none. `note` says why, or what is special about those. `judged` are the labels of which
    the whole source has enough pictures; what is said of the other limits nothing. A champion of other
    classes is compared by its verdicts alone.
    """
    metrics = summarize(challenger, None)
    rules = [
        _known("NG", judged, _of_pixels(_at_least("min_iou", metrics["iou"], settings.min_iou), challenger)),
        _known("NG", judged, _at_most("max_escape", metrics["escape"], settings.max_escape, ESCAPES)),
        _known("OK", judged, _at_most("max_overkill", metrics["overkill"], settings.max_overkill, OVERKILLS)),
        *_of_classes(challenger, settings, classes),
    ]
    if champion is None:
        return [*rules, Rule("champion", None, "not worse", True, note or "there is no champion yet")]
    if note:
        rules.append(Rule("champion_unseen", float(len(champion)), "pictures to compare on", True, note))
    own = {count.id: count for count in challenger}
    pairs = [(own[other.id], other) for other in champion]
    bad, good = ([pair for pair in pairs if pair[0].label == label] for label in ("NG", "OK"))
    iou = NOT_WORSE._replace(name="champion_iou")
    if same_classes:
        outlined = [pair for pair in pairs if pair[0].masked]
        iou = _of_pixels(_iou_not_worse(outlined), [own for own, _ in pairs])
    return [
        *rules,
        _known("NG", judged, iou),
        _known("NG", judged, _rate_not_worse("escape", bad, ESCAPE_MARGIN)),
        _known("OK", judged, _rate_not_worse("overkill", good, OVERKILL_MARGIN)),
    ]


def _known(label: str, judged: Collection[str], rule: Rule) -> Rule:
    """The rule, or one that limits nothing where the source has too few pictures of its label."""
    return rule if label in judged else rule._replace(got=None, passed=True, reason=UNKNOWN[label])


def _of_classes(counts: Sequence[Count], settings: EvaluateSettings, classes: Sequence[str]) -> list[Rule]:
    """The limits of single classes; and each class that the test pictures say too little of, limit or not."""
    rules = []
    for name, metrics in summarize_classes(counts, classes).items():
        own: list[Rule] = []
        for (limit, of), needed in read_by_class(settings.by_class).items():
            if of != name or limit == "escape_cost":
                continue
            if limit.startswith("max_"):
                trouble = "parts with this defect pass as good"
                rule = _at_most(f"{limit}.{name}", metrics.escape, needed, trouble)
                own.append(_unless_rare(rule, metrics))
            else:
                rule = _at_least(f"{limit}.{name}", metrics.iou, needed)
                own.append(_of_pixels(_unless_rare(rule, metrics), counts))
        if metrics.rare and not own:
            few = Rule(
                f"class.{name}", float(metrics.pictures), f"{LEAST} pictures to judge", True, _rare(metrics)
            )
            own.append(few)
        rules += own
    return rules


def _unless_rare(rule: Rule, metrics: ClassMetrics) -> Rule:
    return rule._replace(passed=False, reason=_rare(metrics)) if metrics.rare else rule


def _rare(metrics: ClassMetrics) -> str:
    return (
        f"too rare to judge: {metrics.pictures} test pictures have it, and {LEAST} would say something; "
        "bring more of them"
    )


def passed(rules: Sequence[Rule]) -> bool:
    return all(rule.passed for rule in rules)


def _at_least(name: str, got: float | None, needed: float) -> Rule:
    ok = got is not None and got >= needed
    fits = "outlines fit" if needed else "nothing is asked of outlines"
    reason = fits if ok else "outlines do not fit the true defects well enough"
    return Rule(name, got, f"≥ {needed:.3f}", ok, NO_PICTURE if got is None else reason)


def _at_most(name: str, got: float | None, needed: float, trouble: str) -> Rule:
    ok = got is not None and got <= needed
    reason = "within the limit" if ok else f"too many {trouble}"
    return Rule(name, got, f"≤ {needed:.3f}", ok, NO_PICTURE if got is None else reason)


def _of_pixels(rule: Rule, counts: Sequence[Count]) -> Rule:
    """A rule about pixels: it says over how many pictures, and stops nothing where none has a mask."""
    bad = [count.masked for count in counts if count.label == "NG"]
    if all(bad):
        return rule
    if not any(bad):
        return rule._replace(got=None, passed=True, reason=NO_MASKS)
    over = f"over {sum(bad)} of {len(bad)} defective pictures, the others have no mask"
    return rule._replace(reason=f"{rule.reason}; {over}")


def _rate_not_worse(what: str, pairs: Sequence[tuple[Count, Count]], margin: float) -> Rule:
    """Wrong verdicts on pictures of one label, those of the champion among them.

    Without a single new one there is nothing that a bound could be about, so a challenger that answers like
    the champion passes, however few pictures there are.
    """
    name, of = f"champion_{what}", len(pairs)
    if not of:
        return Rule(name, None, "not worse", False, NO_PICTURE)
    new = sum(own.wrong and not other.wrong for own, other in pairs)
    fixed = sum(other.wrong and not own.wrong for own, other in pairs)
    reason = f"{new} new and {fixed} fixed of {of}"
    if new and of >= ENOUGH:
        got, limit, which = upper_difference(new, fixed, of), margin, "upper 95 % bound of the difference"
    else:
        got, limit, which = (new - fixed) / of, 0.0, "difference"
    ok = got <= limit
    reason += ": not worse than the champion" if ok else ": worse than the champion on the same pictures"
    return Rule(name, got, f"≤ {limit:.3f} ({which})", ok, reason)


def _iou_not_worse(pairs: Sequence[tuple[Count, Count]]) -> Rule:
    rows = np.array([[(c.tp, c.fp, c.fn) for c in pair] for pair in pairs], np.int64)
    difference = iou_difference(rows) if pairs else None
    if difference is None:
        return Rule("champion_iou", None, "not worse", False, NO_PICTURE)
    got, which = difference, "difference"
    if sum(own.label == "NG" for own, _ in pairs) >= ENOUGH:
        got, which = lower_iou_difference(rows), "lower 95 % bound of the difference"
    ok = got >= -IOU_MARGIN
    reason = f"IoU differs by {difference:+.3f}: " + (
        "as good as the champion" if ok else "worse than the champion on the same pictures"
    )
    return Rule("champion_iou", got, f"≥ {-IOU_MARGIN:.3f} ({which})", ok, reason)
