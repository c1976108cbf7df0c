"""The gate: what lets a challenger be deployed, one row a rule."""

from collections.abc import Mapping
from typing import NamedTuple

IOU_MARGIN = 0.05
"""How much less IoU than the champion's is still called as good."""

NO_PICTURE = "there is no test picture to measure it on"

Metrics = Mapping[str, float | int | None]


class Rule(NamedTuple):
    name: str
    got: float | None
    needed: str
    passed: bool
    reason: str


def judge(
    challenger: Metrics,
    champion: Metrics | None,
    *,
    min_iou: float,
    max_escape: float,
    max_overkill: float,
    no_champion: str = "there is no champion yet",
) -> list[Rule]:
    """The rules, absolute ones first. Both models' metrics are of the same test pictures, each at its own
    threshold. A metric that is None has no picture to be taken over, and its rule fails."""
    rules = [
        _at_least("min_iou", challenger["iou"], min_iou),
        _at_most("max_escape", challenger["escape"], max_escape, "defective parts pass as good"),
        _at_most("max_overkill", challenger["overkill"], max_overkill, "good parts are thrown away"),
    ]
    if champion is None:
        return [*rules, Rule("champion", None, "not worse", True, no_champion)]
    return [
        *rules,
        _not_worse("champion_iou", challenger["iou"], champion["iou"], IOU_MARGIN, higher_is_better=True),
        _not_worse("champion_escape", challenger["escape"], champion["escape"], 0.0),
        _not_worse("champion_overkill", challenger["overkill"], champion["overkill"], 0.0),
    ]


def passed(rules: list[Rule]) -> bool:
    return all(rule.passed for rule in rules)


def _at_least(name: str, got: float | None, needed: float) -> Rule:
    ok = got is not None and got >= needed
    reason = "outlines fit" if ok else "outlines do not fit the true defects well enough"
    return Rule(name, got, f"≥ {needed:.3f}", ok, NO_PICTURE if got is None else reason)


def _at_most(name: str, got: float | None, needed: float, trouble: str) -> Rule:
    ok = got is not None and got <= needed
    reason = "within the limit" if ok else f"too many {trouble}"
    return Rule(name, got, f"≤ {needed:.3f}", ok, NO_PICTURE if got is None else reason)


def _not_worse(
    name: str, got: float | None, other: float | None, margin: float, higher_is_better: bool = False
) -> Rule:
    sign = "≥" if higher_is_better else "≤"
    if got is None:
        return Rule(name, got, f"{sign} champion", False, NO_PICTURE)
    if other is None:
        return Rule(name, got, f"{sign} champion", True, "the champion has no such number")
    limit = other - margin if higher_is_better else other + margin
    ok = got >= limit if higher_is_better else got <= limit
    reason = "as good as the champion" if ok else "worse than the champion on the same pictures"
    return Rule(name, got, f"{sign} {limit:.3f} (champion {other:.3f})", ok, reason)
