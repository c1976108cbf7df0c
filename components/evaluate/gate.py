"""The gate: what lets a challenger be deployed, one row a rule.

Absolute rules hold for every model. Relative ones compare it with another on the same test pictures, each
model at its own operating point. With new pictures to learn from it must not be worse than the reference, by
more than a margin: non-inferiority. The reference is the best of those before it, so that margins do not add
up. Where pictures and settings are those of the champion, or pictures too few for a bound, it must be better.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import LABELS
from defectline.components.evaluate.classes import LEAST, ClassMetrics
from defectline.components.evaluate.metrics import (
    Count,
    cost_of_errors,
    summarize,
    summarize_classes,
    to_look_at,
)
from defectline.components.evaluate.paired import iou_difference, lower_iou_difference, upper_difference
from defectline.components.evaluate.settings import Costs, EvaluateSettings, read_by_class

IOU_MARGIN = 0.05
"""Outlines may fit by so much less: a mask drawn twice by hand differs by more."""
ESCAPE_MARGIN = 0.05
OVERKILL_MARGIN = 0.1
"""Wider, because a good part that is rejected costs less than a defective one delivered."""
ENOUGH = 20
"""Pictures of a label from which a bound says something; with fewer, what the errors cost decides."""

ESCAPES, OVERKILLS = "defective parts pass as good", "good parts are rejected"
LOOKS = "parts would have to be looked at by a person"
NO_MASKS = "cannot be judged: no masks"
NO_PICTURE = "there is no test picture to measure it on"
OTHER_CLASSES = "not compared: it knows other classes"
UNKNOWN = {
    "OK": "not measured: the source has no good picture, so nobody knows how many good parts are rejected",
    "NG": "not measured: the source has too few defective pictures, so nobody knows how many defects escape",
}
"""Why pictures of a label limit nothing."""


Both = tuple[Count, Count]
"""One picture: the challenger's answer, and the other's."""


class Rule(NamedTuple):
    name: str
    got: float | None
    needed: str
    passed: bool
    reason: str


UNLEARNED = Rule("learned", None, "finds synthetic defects", False, "the network did not begin to learn")
NOT_WORSE = Rule("", None, "not worse", True, OTHER_CLASSES)
IOU, BETTER, COST = "champion_iou", "champion_better", "champion_cost"
"""Outlines; and by which a challenger must be better: on the champion's pictures, and where there are few."""


class Opponent(NamedTuple):
    """What a challenger is compared with."""

    counts: Sequence[Count]
    """Of the test pictures on which both can be compared, perhaps not all."""
    name: str = "the champion"
    same_classes: bool = True
    """Else both are compared by their verdicts alone."""
    again: bool = False
    """Whether both learned from the same pictures with the same settings."""
    other_settings: bool = False
    """Whether both learned from the same pictures with other settings, which somebody wants."""


def judge(
    challenger: Sequence[Count],
    opponent: Opponent | None,
    settings: EvaluateSettings,
    note: str = "",
    classes: Sequence[str] = (),
    judged: Collection[str] = LABELS,
    learned: bool = True,
) -> list[Rule]:
    """The rules, absolute ones first; a number that no picture gives fails its rule. One of pixels does not
    where none of the defective test pictures has a mask.

    `opponent` is None where nothing can be compared. `note` says why, or what is special about its pictures.
    `judged` are the labels of which the whole source has enough pictures; what is said of the other limits
    nothing. Where those are of good pictures alone, a network that has not `learned` anything would pass.
    """
    metrics = summarize(challenger, None)
    rules = [
        _known("NG", judged, _of_pixels(_at_least("min_iou", metrics["iou"], settings.min_iou), challenger)),
        _known("NG", judged, _at_most("max_escape", metrics["escape"], settings.max_escape, ESCAPES)),
        _known("OK", judged, _at_most("max_overkill", metrics["overkill"], settings.max_overkill, OVERKILLS)),
        *(_at_most("max_look", look, settings.max_look, LOOKS) for look in [metrics.get("look")] if look),
        *_of_classes(challenger, settings, classes),
        *([] if learned or "NG" in judged else [UNLEARNED]),
    ]
    if opponent is None:
        return [*rules, Rule("champion", None, "not worse", True, note or "there was no champion")]
    if note:
        rules.append(
            Rule("champion_unseen", float(len(opponent.counts)), "pictures to compare on", True, note)
        )
    own = {count.id: count for count in challenger}
    pairs = [(own[other.id], other) for other in opponent.counts]
    return rules + _relative(pairs, opponent, settings, settings.costs(classes), judged)


def _relative(
    pairs: Sequence[Both],
    opponent: Opponent,
    settings: EvaluateSettings,
    costs: Costs,
    judged: Collection[str],
) -> list[Rule]:
    pairs = [pair for pair in pairs if pair[0].label in judged]
    by_label = {label: [pair for pair in pairs if pair[0].label == label] for label in judged}
    few = any(len(of) < ENOUGH for of in by_label.values())
    either = settings.replace == "not_worse" or opponent.other_settings
    iou = NOT_WORSE._replace(name=IOU)
    if opponent.same_classes:
        outlined = [pair for pair in pairs if pair[0].masked]
        iou = _of_pixels(_iou_not_worse(outlined, opponent.name), [own for own, _ in pairs])
    iou = _known("NG", judged, iou)
    if opponent.again and not either:
        return [iou, _better(BETTER, pairs, opponent, costs)]
    if few:
        return [iou, _better(COST, pairs, opponent, costs, either)]
    bad, good = (by_label.get(label, []) for label in ("NG", "OK"))
    return [
        iou,
        _known("NG", judged, _rate_not_worse("escape", bad, ESCAPE_MARGIN, opponent.name)),
        _known("OK", judged, _rate_not_worse("overkill", good, OVERKILL_MARGIN, opponent.name)),
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


def kept(rules: Sequence[Rule]) -> bool:
    """Whether the challenger lacks nothing but to be better than the champion, which therefore stays."""
    failed = [rule for rule in rules if not rule.passed]
    again = (BETTER, IOU) if any(rule.name == BETTER for rule in rules) else ()
    return bool(failed) and all(
        rule.name in again or (rule.name == COST and rule.got == 0) for rule in failed
    )


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


def _better(
    name: str,
    pairs: Sequence[Both],
    opponent: Opponent,
    costs: Costs,
    either: bool = False,
) -> Rule:
    """Wrong verdicts cost less; or as much, and outlines fit better by more than chance. `either`: as much
    is enough.

    The cost is what users stated, so no bound is asked for: as many pictures as there are decide.
    """
    needed = "≤ 0.000 (difference of cost)" if either else "< 0.000 (difference of cost)"
    if not pairs:
        return Rule(name, None, needed, False, NO_PICTURE)
    got, other = (cost_of_errors(counts, costs) for counts in zip(*pairs, strict=True))
    parts = []
    for what, label in (("escape", "NG"), ("overkill", "OK")):
        new, fixed = _changes([pair for pair in pairs if pair[0].label == label])
        parts += [_several(new, f"new {what}"), _several(fixed, f"fixed {what}")]
    looks, before = (len(to_look_at(counts)) for counts in zip(*pairs, strict=True))
    parts.append(f"{looks} to look at for {before}" if looks != before else "")
    same = f"the same verdicts as {opponent.name}"
    if opponent.again:
        same = f"this version learned from the same pictures with the same settings, and gives {same}"
    reason, difference = ", ".join(filter(None, parts)), got - other
    if difference:
        than = f"{abs(difference):g} {'less' if difference < 0 else 'more'} than {opponent.name}"
        return Rule(name, difference, needed, difference < 0, f"{reason}, which costs {than}")
    reason = f"{reason}, which costs as much as {opponent.name}" if reason else same
    if either:
        return Rule(name, 0.0, needed, True, reason)
    rows = _outlines([pair for pair in pairs if pair[0].masked]) if opponent.same_classes else None
    sharper = rows is not None and lower_iou_difference(rows) > 0
    but = ", but outlines fit better by more than chance" if sharper else ""
    return Rule(name, 0.0, needed, sharper, reason + but)


def _several(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}" if number else ""


def _changes(pairs: Sequence[Both]) -> tuple[int, int]:
    """Wrong verdicts that only the challenger has, and that only the other has."""
    new = sum(own.wrong and not other.wrong for own, other in pairs)
    return new, sum(other.wrong and not own.wrong for own, other in pairs)


def _rate_not_worse(what: str, pairs: Sequence[Both], margin: float, opponent: str) -> Rule:
    """Wrong verdicts on pictures of one label: ENOUGH of them, or none.

    Without a single new one there is nothing that a bound could be about.
    """
    name, of = f"champion_{what}", len(pairs)
    if not of:
        return Rule(name, None, "not worse", False, NO_PICTURE)
    new, fixed = _changes(pairs)
    reason = f"{new} new and {fixed} fixed of {of}"
    if new:
        got, limit, which = upper_difference(new, fixed, of), margin, "upper 95 % bound of the difference"
    else:
        got, limit, which = -fixed / of, 0.0, "difference"
    ok = got <= limit
    reason += f": not worse than {opponent}" if ok else f": worse than {opponent} on the same pictures"
    return Rule(name, got, f"≤ {limit:.3f} ({which})", ok, reason)


def _outlines(pairs: Sequence[Both]) -> NDArray[np.int64] | None:
    """Pixels (N, 2, 3) of both: tp, fp, fn; None where either has none."""
    rows = np.array([[(c.tp, c.fp, c.fn) for c in pair] for pair in pairs], np.int64)
    return rows if pairs and rows.sum(axis=(0, 2)).all() else None


def _iou_not_worse(pairs: Sequence[Both], opponent: str) -> Rule:
    rows = _outlines(pairs)
    difference = None if rows is None else iou_difference(rows)
    if rows is None or difference is None:
        return Rule(IOU, None, "not worse", False, NO_PICTURE)
    got, which = difference, "difference"
    if sum(own.label == "NG" for own, _ in pairs) >= ENOUGH:
        got, which = lower_iou_difference(rows), "lower 95 % bound of the difference"
    ok = got >= -IOU_MARGIN
    reason = f"IoU differs by {difference:+.3f}: " + (
        f"as good as {opponent}" if ok else f"worse than {opponent} on the same pictures"
    )
    return Rule(IOU, got, f"≥ {-IOU_MARGIN:.3f} ({which})", ok, reason)
