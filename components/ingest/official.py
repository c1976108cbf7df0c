"""The splits that a format gives its pictures, as far as a run can follow them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from defectline.components.common.snapshot import SPLITS, Pair
from defectline.components.ingest.readers.base import Record
from defectline.components.ingest.splits import LEAST


class Official(NamedTuple):
    """What is followed."""

    splits: Mapping[str, str]
    """Pixel hash → split, without what was known before."""
    notes: list[str]
    """What is not followed, a sentence each."""


def official_splits(records: Iterable[Record], pairs: Iterable[Pair], known: Mapping[str, str]) -> Official:
    """The splits that `records` give to the pictures of the accepted `pairs`. Pure.

    `known` are splits by pixel hash that come first: those of earlier snapshots and of splits.csv. Where the
    format lacks a split, pictures to train on fill it up, by hash as ever; what it keeps from training stays
    out of it. A group goes as a whole where most of it is. Where too few pictures of a label would be left
    to a split, none is followed.
    """
    by_key = {record.image.key: record.split for record in records if record.split}
    accepted = [pair for pair in pairs if pair.accepted]
    given = {pair.pixel_sha256: by_key[pair.image_key] for pair in accepted if pair.image_key in by_key}
    if not given:
        return Official({}, [])
    notes = []
    given, torn = _whole_groups(accepted, given, known)
    if torn:
        notes.append(f"{torn} groups lie on two sides in the source's own split: each goes where most is")
    if missing := [split for split in SPLITS if split not in given.values()]:
        given = {pixels: split for pixels, split in given.items() if split != "train"}
        notes.append(
            f"the source names no pictures for {' and '.join(missing)}: some to train on are taken, by hash"
        )
    if lacking := _lacking(accepted, {**given, **known}):
        return Official({}, [f"the source's own split is not used: it leaves {lacking}"])
    return Official({pixels: split for pixels, split in given.items() if pixels not in known}, notes)


def _whole_groups(
    accepted: Iterable[Pair], given: Mapping[str, str], known: Mapping[str, str]
) -> tuple[dict[str, str], int]:
    """`given` with one split a group, none where it has one already; how many groups had several."""
    groups: dict[str, list[str]] = defaultdict(list)
    for pair in accepted:
        if pair.group:
            groups[pair.group].append(pair.pixel_sha256)
    whole, torn = dict(given), 0
    for members in groups.values():
        counts = Counter(given[pixels] for pixels in members if pixels in given)
        if any(pixels in known for pixels in members):
            for pixels in members:
                whole.pop(pixels, None)
        elif counts:
            torn += len(counts) > 1
            whole |= dict.fromkeys(members, max(SPLITS, key=lambda split: counts[split]))
    return whole, torn


def _lacking(accepted: Iterable[Pair], fixed: Mapping[str, str]) -> str:
    """Which label a split would have too few of, or ""."""
    free: Counter[str] = Counter()
    have: Counter[tuple[str, str]] = Counter()
    for pair in accepted:
        if split := fixed.get(pair.pixel_sha256):
            have[pair.label, split] += 1
        else:
            free[pair.label] += 1
    for label in sorted({pair.label for pair in accepted}):
        need = {split: LEAST - have[label, split] for split in SPLITS if have[label, split] < LEAST}
        if sum(need.values()) > free[label]:
            split = max(need, key=lambda split: need[split])
            return f"{have[label, split]} {label} pictures to {split}"
    return ""
