"""Which pictures train, calibrate and judge. Decided once a picture, permanently."""

from collections import Counter
from collections.abc import Iterable, Mapping

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SourceError
from defectline.components.common.snapshot import SPLITS, Pair

LEAST = 2
"""Of each label, in each split: a rate over one picture says nothing."""


def targets(count: int) -> dict[str, int]:
    """How many of `count` pictures of a label go where: 60/20/20, at least LEAST in each."""
    part = max(LEAST, round(0.2 * count))
    return {"train": count - 2 * part, "validation": part, "test": part}


def assign_splits(pairs: Iterable[Pair], known: Mapping[str, str]) -> list[Pair]:
    """Give every accepted pair its split.

    `known` maps pixel hashes to the splits that earlier snapshots or the source's own list gave; those
    stay. The others are taken in the order of their pixel hashes, and each goes where most is missing, so
    the answer depends on the pictures alone, not on their names or order. Pure. Raises SourceError where
    a label has too few.
    """
    pairs = sorted(pairs)
    split = {}
    for label in LABELS:
        hashes = sorted({p.pixel_sha256 for p in pairs if p.label == label and p.accepted})
        if len(hashes) < 3 * LEAST:
            raise SourceError(
                f"There are too few usable {label} pairs.",
                got=f"{len(hashes)}",
                expected=f"at least {3 * LEAST}: {LEAST} each to train, to validate and to test",
                fix="Add pictures; quarantine.csv in the run's folder says why others were rejected.",
            )
        split.update({h: known[h] for h in hashes if h in known})
        have = Counter(split[h] for h in hashes if h in known)
        wanted = targets(len(hashes))
        for pixels in hashes:
            if pixels not in known:
                split[pixels] = max(SPLITS, key=lambda s: (wanted[s] - have[s]) / wanted[s])
                have[split[pixels]] += 1
        if short := [s for s in SPLITS if have[s] < LEAST]:
            raise SourceError(
                f"Too few {label} pictures are left to {short[0]}.",
                got=f"{have[short[0]]}, since pictures have left the source or stand elsewhere in splits.csv",
                expected=f"at least {LEAST} in each of {', '.join(SPLITS)}",
                fix="Add new pictures, bring the old ones back, or change splits.csv.",
            )
    return [p._replace(split=split[p.pixel_sha256]) if p.accepted else p for p in pairs]
