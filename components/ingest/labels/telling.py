"""What is said of the pairs of a source: the quarantine table, and a few lines."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from defectline.components.common.classes import DEFAULT_CLASSES
from defectline.components.common.legend import class_names, counted, read_areas
from defectline.components.common.snapshot import Pair
from defectline.components.common.steps import say
from defectline.components.ingest.checks import reason_kind

NOTED_FIX = "None is needed; look in pictures.html whether the outline fits."
SHOWN = 4
"""Kinds of reasons that a line names."""


def quarantine_table(rows: Iterable[Pair]) -> bytes:
    """The rejected pairs as CSV, and after them the accepted ones that were changed to be used."""
    rows = sorted(rows)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("id", "image", "mask", "status", "reason", "fix"))
    for row in rows:
        if row.status == "rejected":
            writer.writerow((row.id, row.image_key, row.mask_key, "rejected", row.reason, row.fix))
    for row in rows:
        if row.accepted and row.note:
            writer.writerow((row.id, row.image_key, row.mask_key, "noted", row.note, NOTED_FIX))
    return out.getvalue().encode()


def say_checked(rows: Sequence[Pair]) -> None:
    """How many pairs have no mask, were changed, or rejected, and for which reasons."""
    if unmasked := count_unmasked(rows):
        say(unmasked)
    if noted := sum(row.accepted and bool(row.note) for row in rows):
        say(f"{noted} pairs were changed to be used; the quarantine table says how")
    first: dict[str, str] = {}
    kinds: Counter[str] = Counter()
    for row in sorted(rows):
        if row.status == "rejected":
            kinds[reason_kind(row)] += 1
            first.setdefault(reason_kind(row), _first_sentence(row.reason))
    if kinds:
        told = [f"{count} × {first[kind]}" for kind, count in kinds.most_common(SHOWN)]
        more = kinds.total() - sum(count for _, count in kinds.most_common(SHOWN))
        told += [f"{more} for other reasons"] if more else []
        say(f"{kinds.total()} pairs were rejected: {'; '.join(told)}")


def _first_sentence(text: str) -> str:
    """Without its full stop, which follows a word: ".." in a sentence ends none."""
    return re.split(r"(?<=\w)\. ", text, maxsplit=1)[0].rstrip(".")


def count_unmasked(rows: Iterable[Pair]) -> str:
    """A sentence about the accepted NG pictures without a mask; "" where all have one."""
    bad = [row.masked for row in rows if row.accepted and row.label == "NG"]
    unmasked = bad.count(False)
    if unmasked == len(bad) > 0:
        return f"none of the {unmasked:,} NG pictures has a mask: their label alone is learned"
    return f"{unmasked:,} NG pictures have no mask: their label alone is learned" if unmasked else ""


def say_classes(rows: Sequence[Pair], classes: Sequence[str], class_map: Mapping[str, str]) -> None:
    """How many pictures have each class, what does not count, and what `class_map` names in vain."""
    accepted = [row for row in rows if row.accepted]
    if tuple(classes) != DEFAULT_CLASSES:
        have = Counter(name for row in accepted for name in counted(row, class_map))
        say(f"pictures by class: {', '.join(f'{name} ({have[name]:,})' for name in classes)}")
    if some := sum(sum(read_areas(row).values()) > row.defect_px for row in accepted):
        say(f"{some:,} pictures have regions that do not count")
    there = set(class_names(rows, {}, ()))
    if absent := sorted(class_map.keys() - there):
        say(f"class_map names what no mask has: {', '.join(absent)}; there is {', '.join(sorted(there))}")


def say_regions(rows: Sequence[Pair]) -> None:
    """Whether the pictures have regions of interest, and what the endpoint does with them."""
    found = Counter(row.roi for row in rows if row.accepted)
    different = len(found) - ("" in found)
    if different and len(found) == 1:
        say("all pictures have the same region of interest, which the endpoint will apply")
    elif different:
        without = f"; {found['']:,} pictures have none" if "" in found else ""
        say(
            f"regions of interest differ from picture to picture ({different:,} in all{without}): "
            "the endpoint will apply none"
        )
