"""MVTec AD and what is laid out like it: one folder of good pictures to train on, and a test with defects.

train/good/000.png
test/good/000.png
test/crack/000.png    ground_truth/crack/000_mask.png
                      ground_truth/crack/000/000.png, 001.png, … a defect each (MVTec LOCO)
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import DEFAULT_CLASSES, DEFECT
from defectline.components.common.errors import SourceError
from defectline.components.common.images.reading import UnreadableImage, decode_image
from defectline.components.common.legend import write_legend
from defectline.components.common.snapshot import Pair
from defectline.components.common.storage import Object
from defectline.components.ingest.labels.names import Near
from defectline.components.ingest.readers.base import Layout, Listing, Painted, Record, unusable

NAME = "mvtec"
EXPECTED = "train/good/, test/good/, test/<defect>/ and ground_truth/<defect>/ (one category of MVTec AD)"
PARTS = ("train/", "test/", "validation/", "test_public/", "ground_truth/")
GOOD = ("good", "ok")
UNNAMED = ("bad", "ko", "ng", "defect", "defective", "anomaly")
"""Folders of defects that say no more than that."""
FILE = re.compile(
    r"(?P<root>(?:.+/)?)"
    r"(?P<part>train|validation|test|test_public|ground_truth|test_public/ground_truth)"
    r"/(?P<kind>[^/]+)/(?P<name>[^/]+)(?P<number>/[^/]+)?\.(?i:png|jpe?g|bmp|tiff?)"
)
NOTE = "its official split trains on good pictures alone, and is not used: the split is by hash"


class Place(NamedTuple):
    """What the path of a file says."""

    item: Object
    root: str
    """The folder of the category, with a slash at its end; "" where it is the source."""
    part: str
    kind: str
    """`good` or the name of a defect."""
    name: str
    number: str
    """Of one mask among several of a picture; mostly empty."""

    @property
    def is_mask(self) -> bool:
        return self.part.endswith("ground_truth")


class Joined(NamedTuple):
    """The masks of a picture that lie in a folder of its name, of which every value but 0 is a defect: a
    Drawing."""

    listing: Listing
    files: tuple[Object, ...]

    @property
    def key(self) -> str:
        return self.files[0].key

    @property
    def version(self) -> str:
        return hashlib.sha256(repr([(file.key, file.version) for file in self.files]).encode()).hexdigest()[
            :32
        ]

    def draw(self, height: int, width: int) -> NDArray[np.uint8]:
        joined = np.zeros((height, width), np.uint8)
        for file in self.files:
            try:
                marked = decode_image(self.listing.read(file.key), channels=3).any(axis=2)
            except UnreadableImage as error:
                error.got = f"{error.got}, in {file.key}"
                raise
            values = np.where(marked, np.uint8(DEFECT), np.uint8(0))
            joined |= Painted(file.key, file.version, values).draw(height, width)
        return joined


def fits(listing: Listing) -> str:
    places = _places(listing)
    roots = _roots(places)
    if not roots:
        return ""
    return f"{roots[0]}train/{GOOD[0]}/ and {roots[0]}ground_truth/ are those of MVTec AD"


def read(listing: Listing) -> Layout:
    """The class of a defect is the name of its folder. Raises SourceError for several categories."""
    places = _places(listing)
    roots = _roots(places)
    if len(roots) != 1:
        raise SourceError(
            "The source holds several categories." if roots else "The source is not a category of MVTec AD.",
            got=", ".join(root.rstrip("/") for root in roots) or f"{len(listing.objects)} files",
            expected=f"one category: {EXPECTED}",
            fix=f"Name the folder of one: --source {listing.source.url(roots[0].rstrip('/'))}"
            if roots
            else "Check the URI.",
        )
    inside = [place for place in places if place.root == roots[0]]
    masks: dict[tuple[str, str], Object | Joined] = {}
    several: dict[tuple[str, str], list[Object]] = defaultdict(list)
    for place in inside:
        if place.is_mask and place.number:
            several[place.kind, place.name].append(place.item)
        elif place.is_mask:
            masks[place.kind, place.name] = place.item
    masks |= {where: Joined(listing, tuple(files)) for where, files in several.items()}
    ignored = Counter({"other files": len(listing.objects) - len(inside)})
    records: list[Record] = []
    rejected: list[Pair] = []
    unmasked: list[tuple[Place, Record]] = []
    for place in inside:
        if place.is_mask:
            continue
        stem = PurePosixPath(place.item.key.removeprefix(roots[0])).with_suffix("").as_posix()
        if place.kind.lower() in GOOD:
            masks.pop((place.kind, f"{place.name}_mask"), masks.pop((place.kind, place.name), None))
            records.append(Record(stem, "OK", place.item))
            continue
        named = [masks.pop((place.kind, name), None) for name in (f"{place.name}_mask", place.name)]
        kind = DEFAULT_CLASSES[0] if place.kind.lower() in UNNAMED else place.kind
        record = Record(stem, "NG", place.item, named[0] or named[1], write_legend(kind))
        if record.mask:
            records.append(record)
        else:
            unmasked.append((place, record))
    near = {kind: Near(name for of, name in masks if of == kind) for kind in {of for of, _ in masks}}
    for place, record in unmasked:
        if almost := near[place.kind].find(place.name) if place.kind in near else "":
            reason, fix = "No mask of that name.", f"{masks[place.kind, almost].key} is almost of that name: "
            fix += f"call it {place.name}_mask."
            rejected.append(unusable(record.stem, reason, fix, label="NG", image=place.item.key))
        else:
            records.append(record)
    for (kind, name), item in masks.items():
        reason, fix = "No picture of that name.", "Add the picture, or remove the mask."
        rejected.append(unusable(f"{kind}/{name}", reason, fix, label="NG", mask=item.key))
    return Layout(records, rejected, +ignored, [NOTE])


def _places(listing: Listing) -> list[Place]:
    likely = (item for item in listing.objects if any(part in item.key for part in PARTS))
    found = [(item, FILE.fullmatch(item.key)) for item in likely]
    return [
        Place(item, match["root"], match["part"], match["kind"], match["name"], match["number"] or "")
        for item, match in found
        if match and (not match["number"] or match["part"].endswith("ground_truth"))
    ]


def _roots(places: Sequence[Place]) -> list[str]:
    """The folders that hold a category: good pictures alone to train on, and defects to test."""
    good: set[str] = set()
    others: set[str] = set()
    tested: set[str] = set()
    for place in places:
        if place.part == "train":
            (good if place.kind.lower() in GOOD else others).add(place.root)
        elif place.part != "validation" and place.kind.lower() not in GOOD:
            tested.add(place.root)
    return sorted(good & tested - others)
