"""corrections.csv at the source's root: labels that people set right, whatever the layout says of them."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SourceError
from defectline.components.common.legend import write_legend
from defectline.components.common.storage import Object
from defectline.components.ingest.readers.base import CORRECTIONS_KEY, Layout, Listing, Record

COLUMNS = ("image", "label", "mask", "classes", "by", "decided")
LEFT_OUT = "ignore"
"""The label of a picture that is not to be used."""
EXPECTED = "a text in UTF-8 with the first line image,label,mask and then a row for each picture"


class Correction(NamedTuple):
    image: str
    """Key of the picture, relative to the source."""
    label: str
    """OK, NG or LEFT_OUT."""
    mask: str = ""
    """Key of its mask: "" where nothing is marked, or of an NG picture where nobody drew it."""
    classes: str = ""
    """Names of the values 1, 2, … in the mask, with | between; "" for white on black, or as classes.csv
    says."""
    by: str = ""
    decided: str = ""


def read_corrections(listing: Listing) -> list[Correction]:
    """The source's corrections; none where it has no such file. Raises SourceError for a malformed one."""
    data = listing.read_for_all(CORRECTIONS_KEY)
    return [] if data is None else parse_corrections(data)


def parse_corrections(data: bytes) -> list[Correction]:
    """Of a picture with several rows the last one counts. Pure. Raises SourceError."""
    found: dict[str, Correction] = {}
    try:
        # Spreadsheets put a byte order mark in front.
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = [name.strip().lower() for name in next(reader, [])]
        if header[:2] != list(COLUMNS[:2]) or set(header) - set(COLUMNS) or len(set(header)) < len(header):
            raise _malformed(f"the first line {','.join(header)!r}")
        for fields in reader:
            row = dict(zip(header, (field.strip() for field in fields), strict=False))
            if not any(row.values()):
                continue
            if len(fields) != len(header) or not row["image"]:
                raise _malformed(f"line {reader.line_num}: {','.join(fields)!r}")
            if row["label"] not in (*LABELS, LEFT_OUT):
                got = f"the label {row['label']!r} in line {reader.line_num}"
                raise _malformed(got, f"one of {', '.join(LABELS)}, {LEFT_OUT}", "Write one of these.")
            found[row["image"]] = Correction(**row)
    except UnicodeDecodeError as error:
        raise _malformed(f"bytes that are not UTF-8 at {error.start}") from error
    except csv.Error as error:
        raise _malformed(str(error)) from error
    return list(found.values())


def write_corrections(corrections: Iterable[Correction]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(corrections)
    return text.getvalue().encode()


def correct(layout: Layout, corrections: Iterable[Correction], objects: Mapping[str, Object]) -> Layout:
    """The layout with its labels set right. Pure.

    Raises SourceError for a mask that is not among the source's `objects`.
    """
    by_image = {one.image: one for one in corrections}
    if not by_image:
        return layout
    there = {(record.label, record.stem) for record in layout.records}
    records, changed, left_out = [], 0, 0
    for record in layout.records:
        one = by_image.pop(record.image.key, None)
        if one is None:
            records.append(record)
        elif one.label == LEFT_OUT:
            left_out += 1
        else:
            changed += 1
            records.append(_corrected(record, one, objects, there))
    rejected = []
    for row in layout.rejected:
        one = by_image.get(row.image_key)
        if one is None or row.image_key not in objects:
            rejected.append(row)
            continue
        del by_image[row.image_key]
        if one.label == LEFT_OUT:
            left_out += 1
        else:
            changed += 1
            record = Record(row.id.removeprefix(f"{row.label}/"), row.label, objects[row.image_key])
            records.append(_corrected(record, one, objects, there))
    notes = [*layout.notes]
    if changed:
        notes.append(f"{changed} label{'s' * (changed > 1)} as {CORRECTIONS_KEY} says")
    if left_out:
        notes.append(f"{left_out} picture{'s' * (left_out > 1)} left out, as {CORRECTIONS_KEY} says")
    if by_image:
        lost = sorted(by_image)[0]
        notes.append(f"{CORRECTIONS_KEY} names {len(by_image)} that the source does not have, such as {lost}")
    return layout._replace(records=records, rejected=rejected, notes=notes)


def _corrected(
    record: Record, one: Correction, objects: Mapping[str, Object], there: set[tuple[str, str]]
) -> Record:
    if one.mask and one.mask not in objects:
        raise SourceError(
            f"A mask that {CORRECTIONS_KEY} names is missing.",
            got=f"no file {one.mask}, for {one.image}",
            expected="the masks where it says",
            fix="Bring it back, or correct the row.",
        )
    stem = record.stem
    if record.label != one.label and (one.label, stem) in there:
        # Another picture under that label is called the same.
        stem = f"{stem}-was-{record.label}"
    mask = objects[one.mask] if one.mask else None
    legend = write_legend(one.classes.split("|")) if one.classes else ""
    return record._replace(label=one.label, stem=stem, mask=mask, legend=legend)


def _malformed(
    got: str, expected: str = EXPECTED, fix: str = "Save it as CSV UTF-8 with commas, or remove it."
) -> SourceError:
    return SourceError(
        f"{CORRECTIONS_KEY} cannot be read.",
        got=got,
        expected=expected,
        fix=fix,
    )
