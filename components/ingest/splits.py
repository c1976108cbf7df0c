"""Which pictures train, calibrate and judge. Decided once a picture, permanently; a part as a whole."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SourceError
from defectline.components.common.legend import counted
from defectline.components.common.snapshot import SPLITS, Pair

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
LEAST = 2
"""Of each label, in each split: a rate over one picture, or over one part, says nothing."""
ENOUGH = len(SPLITS) * LEAST
"""Parts of a label that fill all splits. Of defective pictures there may be fewer, which then all train."""


def targets(count: int) -> dict[str, int]:
    """How many of `count` pictures of a label go where: 60/20/20, at least LEAST in each."""
    part = max(LEAST, round(SHARES["test"] * count))
    return {"train": count - 2 * part, "validation": part, "test": part}


TO_TRAIN = {"train": 1, "validation": 1, "test": 1}
"""Targets of a label that only trains: nothing is missing anywhere else."""

Part = dict[str, str]
"""Pixel hashes of the accepted pictures that stay together → their labels: of a group, or of one alone."""


def assign_splits(
    pairs: Iterable[Pair], known: Mapping[str, str], class_map: Mapping[str, str] = MappingProxyType({})
) -> list[Pair]:
    """Give every accepted pair its split.

    `known` maps pixel hashes to the splits that earlier snapshots or the source's own list gave; those
    stay, and a new picture goes where its group has most of its pictures, absent ones too. The other parts
    are taken in the order of their sizes and pixel hashes, those with the rarest class first. Each goes where
    most of that class is missing, or of its label where there is one class, so the answer depends on the
    pictures alone, not on their names or order. A source may have no good pictures, or only good ones; fewer
    defective pictures than ENOUGH all train. Pure. Raises SourceError where a label has too few pictures, or
    too few parts.
    """
    pairs = sorted(pairs)
    parts = find_parts(pairs)
    there = Counter(label for part in parts for label in set(part.values()))
    defective = sum(label == "NG" for part in parts for label in part.values())
    few = there["OK"] > 0 and defective < ENOUGH and (defective > 0 or not _rejected(pairs, "NG"))
    labels_there = [label for label in LABELS if there[label] or (label == "NG" and not few)]
    wanted = {
        label: TO_TRAIN if few and label == "NG" else targets(_enough(parts, label)) for label in labels_there
    }
    classes = _Classes(pairs, class_map)
    sides = _sides(pairs, known)
    groups = {pair.pixel_sha256: pair.group for pair in pairs if pair.accepted}
    split: dict[str, str] = {}
    have: Counter[tuple[str, str]] = Counter()
    parts_have: Counter[tuple[str, str]] = Counter()

    def put(part: Part, where: Mapping[str, str]) -> None:
        split.update(where)
        classes.put(where)
        placed = [(label, where[pixels]) for pixels, label in part.items()]
        for place in placed:
            have[place] += 1
        # An old part may lie on several sides: it counts in each.
        for place in set(placed):
            parts_have[place] += 1

    free = []
    for part in parts:
        first = min(part)
        side = sides.get(groups[first])
        if side is None and first not in known:
            free.append((classes.rarest(part), -len(part), first, part))
        else:
            put(part, {pixels: known.get(pixels, side or "") for pixels in part})
    left = Counter(label for *_, part in free for label in set(part.values()))
    # Of few parts, those with pictures of both labels go first: each of the others fills up one label alone.
    scarce = any(left[label] <= 2 * ENOUGH for label in labels_there)

    def order(ranked: tuple[tuple[int, str], int, str, Part]) -> tuple[bool, tuple[int, str], int, str]:
        return scarce and len(set(ranked[-1].values())) == 1, *ranked[:3]

    for (_, rarest), *_, part in sorted(free, key=order):
        labels = dict.fromkeys(part.values(), 0)
        for label in part.values():
            labels[label] += 1
        learned = few and "NG" in labels
        missing = dict.fromkeys(["train"] if learned else _open_to(labels, left, parts_have), 0.0)
        for label, count in labels.items():
            left[label] -= 1
            for side in missing:
                target = wanted[label][side]
                missing[side] += count * (target - have[label, side] - (count - 1)) / target
        by_class = {side: classes.missing(rarest, part, side) for side in missing}
        put(part, dict.fromkeys(part, max(missing, key=lambda side: (by_class[side], missing[side]))))
    # Those that were learned from while they were few may leave too few of the later ones to judge by.
    early = parts_have["NG", "train"] < ENOUGH and there["NG"] < 2 * ENOUGH
    _check_shares([label for label in labels_there if label == "OK" or not early], have, parts_have)
    return [
        p._replace(split=split[p.pixel_sha256]) if p.accepted and p.split != split[p.pixel_sha256] else p
        for p in pairs
    ]


class _Classes:
    """The classes of the pictures, as far as they tell pictures of a label apart, and where they went."""

    def __init__(self, pairs: Sequence[Pair], class_map: Mapping[str, str]):
        # Those of all good pictures are one.
        self._of = {p.pixel_sha256: tuple(counted(p, class_map)) for p in pairs if p.accepted}
        self._sizes = Counter(name for names in self._of.values() for name in names)
        bad = sum(p.accepted and p.label == "NG" for p in pairs)
        # A class that every picture has says no more than its label.
        for name in [name for name, size in self._sizes.items() if size == bad]:
            del self._sizes[name]
        self._have: Counter[tuple[str, str]] = Counter()

    def rarest(self, part: Part) -> tuple[int, str]:
        """How many pictures have the rarest class of a part, and its name."""
        found = {name for pixels in part for name in self._of[pixels] if name in self._sizes}
        return min(((self._sizes[name], name) for name in found), default=(0, ""))

    def missing(self, name: str, part: Part, side: str) -> float:
        """What share of its pictures with this class a side lacks, before the last of the part comes."""
        if not name:
            return 0.0
        target = SHARES[side] * self._sizes[name]
        return (target - self._have[name, side] - (sum(name in self._of[p] for p in part) - 1)) / target

    def put(self, where: Mapping[str, str]) -> None:
        self._have.update((name, side) for pixels, side in where.items() for name in self._of[pixels])


def _open_to(
    labels: Iterable[str], left: Mapping[str, int], parts_have: Mapping[tuple[str, str], int]
) -> Sequence[str]:
    """Where a part of these labels may go: the last of a label only where there would be too few of it."""
    urgent: set[str] = set()
    for label in labels:
        # Nearly always there are plenty.
        if left[label] <= len(SPLITS) * LEAST:
            missing = {s: lack for s in SPLITS if (lack := LEAST - parts_have[label, s]) > 0}
            if sum(missing.values()) >= left[label]:
                urgent.update(missing)
    return [s for s in SPLITS if s in urgent] or SPLITS


def find_parts(pairs: Iterable[Pair]) -> list[Part]:
    """The parts that the accepted pairs show."""
    parts: dict[str, Part] = {}
    for pair in pairs:
        if pair.accepted:
            name = f"group {pair.group}" if pair.group else pair.pixel_sha256
            parts.setdefault(name, {})[pair.pixel_sha256] = pair.label
    return list(parts.values())


def split_groups(pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
    """The groups that lie on more than one side, with their pairs, accepted or gone."""
    members: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.group and pair.split:
            members.setdefault(pair.group, []).append(pair)
    return {name: found for name, found in members.items() if len({pair.split for pair in found}) > 1}


def _sides(pairs: Iterable[Pair], known: Mapping[str, str]) -> dict[str, str]:
    """Where the pictures of each group lie that have a split already: most of them, if they differ."""
    found: dict[str, Counter[str]] = {}
    for pair in pairs:
        if pair.group and pair.pixel_sha256 in known and (pair.accepted or pair.status == "absent"):
            found.setdefault(pair.group, Counter())[known[pair.pixel_sha256]] += 1
    return {group: max(SPLITS, key=lambda s: counts[s]) for group, counts in found.items()}


def _rejected(pairs: Iterable[Pair], label: str) -> bool:
    return any(pair.label == label and pair.status == "rejected" for pair in pairs)


def _enough(parts: Sequence[Part], label: str) -> int:
    """How many pictures of the label there are. Raises SourceError where they or their parts are too few."""
    pictures = sum(label == of for part in parts for of in part.values())
    if pictures < ENOUGH:
        raise SourceError(
            f"There are too few usable {label} pairs.",
            got=f"{pictures}",
            expected=f"at least {ENOUGH}: {LEAST} each to train, to validate and to test",
            fix="Add pictures; quarantine.csv in the run's folder says why others were rejected.",
        )
    count = sum(label in part.values() for part in parts)
    if count < ENOUGH:
        raise SourceError(
            f"The {label} pictures show too few parts.",
            got=f"{pictures} pictures in {count} groups",
            expected=f"at least {ENOUGH} groups: {LEAST} each to train, to validate and to test",
            fix="Add pictures of other parts. If these are not pictures of one part each, say with group_by "
            "which belong together; group_by=(.+) lets every picture stand alone.",
        )
    return pictures


def _check_shares(
    labels: Iterable[str], have: Counter[tuple[str, str]], parts_have: Counter[tuple[str, str]]
) -> None:
    for label in labels:
        for what, counts in (("pictures", have), ("groups", parts_have)):
            for split in SPLITS:
                if counts[label, split] < LEAST:
                    raise SourceError(
                        f"Too few {label} {what} are left to {split}.",
                        got=f"{counts[label, split]}, since pictures have left the source or stand elsewhere "
                        "in splits.csv",
                        expected=f"at least {LEAST} in each of {', '.join(SPLITS)}",
                        fix="Add new pictures, bring the old ones back, or change splits.csv.",
                    )
