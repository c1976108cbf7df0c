"""VisA as it is published: folders of pictures and masks, and a table that says which belong together.

candle/image_anno.csv             image,label,mask: with the names of the defects
candle/Data/Images/Normal/000.JPG
candle/Data/Images/Anomaly/000.JPG
candle/Data/Masks/Anomaly/000.png
split_csv/1cls.csv                object,split,label,image,mask
"""

import csv
import io
from collections import Counter
from pathlib import PurePosixPath

from defectline.components.common.classes import DEFAULT_CLASSES
from defectline.components.common.errors import SourceError
from defectline.components.common.legend import write_legend
from defectline.components.ingest.readers.base import Layout, Listing, Record, unusable

NAME = "visa"
EXPECTED = "Data/Images/, Data/Masks/ and image_anno.csv or split_csv/1cls.csv (one object of VisA)"
PICTURES = "Data/Images/"
ANNOTATIONS = "image_anno.csv"
SPLITS = ("split_csv/1cls.csv", "split_csv/2cls_highshot.csv", "split_csv/2cls_fewshot.csv")
SEVERAL = "combined"
"""The class of a picture with several defects, whose mask does not say which is which."""
NOTE = "its official split trains on normal pictures alone, and is not used: the split is by hash"


def fits(listing: Listing) -> str:
    tables = _tables(listing)
    return f"{tables[0]} and {PICTURES} are those of VisA" if tables and _objects(listing) else ""


def read(listing: Listing) -> Layout:
    """Every value of a mask but 0 is a defect. Raises SourceError for several objects, or a broken table."""
    objects = _objects(listing)
    tables = _tables(listing)
    if len(objects) != 1 or not tables:
        raise SourceError(
            "The source holds several objects."
            if len(objects) > 1
            else "The source is not an object of VisA.",
            got=", ".join(root.rstrip("/") for root in objects) or f"{len(listing.objects)} files",
            expected=f"one object: {EXPECTED}",
            fix=f"Name the folder of one: --source {listing.source.url(objects[0].rstrip('/'))}"
            if len(objects) > 1
            else "Check the URI.",
        )
    root, table = objects[0], tables[0]
    records, rejected = [], []
    ignored: Counter[str] = Counter()
    named = {table}
    for line, row in _rows(listing, table):
        if root and row.get("object", root.rstrip("/")) != PurePosixPath(root).name:
            ignored["rows for other objects"] += 1
            continue
        key, mask_key = (_inside(root, row[column]) for column in ("image", "mask"))
        named |= {key, mask_key}
        stem = PurePosixPath(key.removeprefix(root).removeprefix(PICTURES)).with_suffix("").as_posix()
        normal = row["label"].lower() == "normal"
        image, mask = listing.by_key.get(key), listing.by_key.get(mask_key)
        label = "OK" if normal else "NG"
        if not image or (row["mask"] and not mask and not normal):
            reason = f"{table}, line {line}: no file {mask_key if image else key}."
            rejected.append(unusable(stem, reason, "Add it.", label=label, image=key, mask=mask_key))
        elif normal:
            records.append(Record(stem, label, image))
        else:
            records.append(Record(stem, label, image, mask, write_legend(_class_name(row["label"]))))
    ignored["other files"] = sum(item.key not in named for item in listing.objects)
    return Layout(records, rejected, +ignored, [NOTE])


def _objects(listing: Listing) -> list[str]:
    """The folders of objects, each with a slash at its end, or "" for the source itself."""
    found = {before for before, data, _ in (item.key.partition(PICTURES) for item in listing.objects) if data}
    return sorted(root for root in found if not root or root.endswith("/"))


def _tables(listing: Listing) -> list[str]:
    """The tables of the objects, the better first."""
    keys = [*(root + ANNOTATIONS for root in _objects(listing)), *SPLITS]
    return [key for key in keys if key in listing.by_key]


def _inside(root: str, path: str) -> str:
    """The key of a path in a table, which begins with the object's folder."""
    _, data, rest = path.replace("\\", "/").partition("Data/")
    return f"{root}{data}{rest}"


def _rows(listing: Listing, table: str) -> list[tuple[int, dict[str, str]]]:
    """The rows with their lines."""
    try:
        reader = csv.DictReader(io.StringIO(listing.read(table).decode("utf-8-sig"), newline=""))
        if missing := {"image", "label", "mask"} - set(reader.fieldnames or ()):
            raise _malformed(table, f"no column {', '.join(sorted(missing))}")
        rows = [(reader.line_num, {name: value or "" for name, value in row.items()}) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _malformed(table, str(error)) from error
    return rows


def _malformed(table: str, got: str) -> SourceError:
    return SourceError(
        f"{table} cannot be read.",
        got=got,
        expected="a CSV file with the columns image, label and mask",
        fix="Take it from the published set again.",
    )


def _class_name(label: str) -> str:
    """The class of a picture by its label: `bent`, `melt, scratch`, or only `anomaly`."""
    if "," in label:
        return SEVERAL
    return DEFAULT_CLASSES[0] if label.lower() == "anomaly" else label
