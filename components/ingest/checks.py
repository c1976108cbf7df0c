"""Is a pair what it claims to be? Each answer is a row; a rejected one says why and how to fix it."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import IGNORE, IGNORED_CLASS, MOST_CLASSES
from defectline.components.common.errors import DefectlineError
from defectline.components.common.images.masks import Mask, read_mask
from defectline.components.common.images.reading import pixel_digest, read_image
from defectline.components.common.images.roi import write_roi
from defectline.components.common.legend import (
    counted,
    is_black_white,
    is_numbered,
    mapped,
    read_areas,
    read_legend,
    write_areas,
    write_legend,
)
from defectline.components.common.snapshot import Pair
from defectline.components.ingest.grouping.looks import describe
from defectline.components.ingest.grouping.masks import describe_marks, masks_differ
from defectline.components.ingest.readers.base import Drawing

MOST_DEFECT = 0.9
"""A black and white mask that marks more of its picture is an inverted one."""


class Checked(NamedTuple):
    """A pair, and its mask as it is packed."""

    pair: Pair
    mask: bytes


def check_pair(
    pair: Pair,
    image: bytes,
    mask: bytes | Drawing | None,
    class_map: Mapping[str, str] = MappingProxyType({}),
    numbered: bool = False,
    roi: NDArray[np.uint8] | None = None,
) -> Checked:
    """`pair` completed from its files' bytes: accepted, or rejected with reason and fix. Pure.

    Without a `mask` nothing is marked in a good picture, and of an NG one its label alone is known. `roi`,
    (H, W), is 1 where the picture counts. What had to be changed to use an accepted pair is its note. The
    others are as for `judge`.
    """
    pair = pair._replace(image_bytes=len(image), image_sha256=hashlib.sha256(image).hexdigest())
    if isinstance(mask, bytes):
        pair = _with_mask(pair, mask)
    try:
        pixels, orientation, poor = read_image(image, channels=3)
    except DefectlineError as error:
        return Checked(reject(pair, f"Image: {error.reason}", error.fix), b"")
    height, width = pixels.shape[:2]
    digest = pixel_digest(pixels)
    look = describe(pixels)
    # Large pictures are checked several at once: the mask need not lie beside them in memory.
    del pixels
    drawn = not isinstance(mask, bytes | None)
    try:
        if mask is None:
            truth = Mask(np.zeros((height, width), np.uint8), orientation, "")
        elif isinstance(mask, bytes):
            truth = read_mask(mask, is_numbered(pair))
        else:
            # Tools for labelling show pictures upright.
            truth = Mask(mask.draw(height, width), orientation, "")
            mask = cv2.imencode(".png", truth.pixels)[1].tobytes()
            pair = _with_mask(pair, mask)
    except DefectlineError as error:
        return Checked(reject(pair, f"Mask: {error.reason}", error.fix), b"")
    pair = pair._replace(width=width, height=height, pixel_sha256=digest, look=look)
    turned = ""
    if orientation != truth.orientation:
        turned = (
            f"Turned upright by EXIF: the image by {orientation}, the mask by {truth.orientation} "
            "(1 is upright)."
        )
    if truth.pixels.shape != (height, width):
        found = f"{truth.pixels.shape[1]}×{truth.pixels.shape[0]}"
        sizes = f"Sizes differ: mask {found}, image {width}×{height}."
        fix = "Export the mask again at the image's size."
        return Checked(reject(pair, f"{sizes} {turned}".rstrip(), fix), b"")
    if roi is not None:
        if roi.shape != (height, width):
            sizes = f"Its region of interest is {roi.shape[1]}×{roi.shape[0]}, the image {width}×{height}."
            return Checked(reject(pair, sizes, "Draw the region at the image's size."), b"")
        truth = truth._replace(pixels=truth.pixels * roi)
        pair = pair._replace(roi=write_roi(roi)[0])
    note = " ".join(filter(None, (poor, truth.note, turned)))
    if mask is not None:
        marked = (truth.pixels > 0) & (truth.black_white | (truth.pixels < IGNORE))
        areas, marks = write_areas(truth.pixels, truth.black_white), describe_marks(marked)
        pair = pair._replace(areas=areas, marks=marks)
    return Checked(judge(pair._replace(note=note), class_map, numbered, drawn), mask or b"")


def _with_mask(pair: Pair, mask: bytes) -> Pair:
    return pair._replace(mask_bytes=len(mask), mask_sha256=hashlib.sha256(mask).hexdigest())


def judge(pair: Pair, class_map: Mapping[str, str], numbered: bool = False, drawn: bool = False) -> Pair:
    """A pair that was read, with its label, id and `defect_px`; rejected where its mask says otherwise. An NG
    picture without a mask is one of a class that counts.

    Pure. With the label "" the mask decides it. `numbered` says whether other masks of the source that
    nothing names hold numbers of classes, `drawn` whether the mask comes from an annotation.
    """
    if pair.defect_px == 0 and pair.areas in ("", "0", "{}") and pair.label == "OK" and pair.id[:3] == "OK/":
        # Nearly all pairs of most sources: nothing is marked, and nothing need be.
        return pair
    areas = read_areas(pair)
    named = pair._replace(legend=NUMBERS) if numbered and not pair.legend else pair
    count = sum(counted(named, class_map).values())
    if count != pair.defect_px:
        # An index of before classes knows the area only from there.
        pair = pair._replace(defect_px=count, areas=pair.areas or str(pair.defect_px))
    two = (numbered and not pair.legend and is_black_white(pair)) or (
        is_numbered(pair) and not drawn and not pair.label and set(areas) == {IGNORE}
    )
    if two and areas:
        reason = "Its mask holds 0 and 255 alone, and others in the source hold numbers of classes."
        return reject(pair, reason, "Write the number of the class instead of 255, which does not count.")
    label, stem = pair.label, pair.id.removeprefix(f"{pair.label}/") if pair.label else pair.id
    if label == "NG" and areas and not count and named.legend.startswith('"'):
        # The folder of a class that does not count says nothing else about its pictures.
        label = ""
    label = label or ("NG" if count else "OK")
    if (pair.id, pair.label) != (f"{label}/{stem}", label):
        pair = pair._replace(id=f"{label}/{stem}", label=label)
    if not pair.masked:
        return _without_mask(pair, class_map)
    if label == "NG" and not areas:
        empty = "marks nothing in its region of interest" if pair.roi else "is empty"
        return reject(pair, f"NG, but its mask {empty}.", "Draw the defect, or move the pair to OK.")
    if label == "NG" and not count:
        reason = f"NG, but nothing that its mask marks counts: {_listed(named, areas)}."
        return reject(pair, reason, "Move the pair to OK, or take one of these classes out of class_map.")
    size = pair.width * pair.height
    if label == "NG" and not is_numbered(named) and count > MOST_DEFECT * size:
        fix = "Swap black and white: 0 is good, 255 defect."
        return reject(pair, f"Its mask marks {count / size:.0%} of the picture.", fix)
    if label == "OK" and count:
        return reject(pair, f"OK, but its mask marks {count} px.", "Move the pair to NG, or empty the mask.")
    return pair


def _without_mask(pair: Pair, class_map: Mapping[str, str]) -> Pair:
    names = read_legend(pair.legend)
    if not names or any(class_map.get(name, name) != IGNORED_CLASS for name in names):
        return pair
    reason = f"NG, but what it shows does not count, {', '.join(names)}, and no mask says where that is."
    return reject(pair, reason, "Add its mask, or remove the picture.")


NUMBERS = write_legend([str(value) for value in range(1, MOST_CLASSES + 1)])


def _listed(pair: Pair, areas: Mapping[int, int]) -> str:
    return ", ".join("255" if value == IGNORE else mapped(pair, value, {}) for value in sorted(areas))


def reason_kind(pair: Pair) -> str:
    """What the reason of a rejected pair says without its numbers and names: its first words."""
    return " ".join(re.sub(r"[\d:.,]", "", pair.reason).split()[:5])


def reject(pair: Pair, reason: str, fix: str) -> Pair:
    return pair._replace(status="rejected", reason=reason, fix=fix, split="")


def reject_duplicates(pairs: Iterable[Pair], earlier: Mapping[str, str]) -> list[Pair]:
    """Of pictures with the same pixels keep one; with different labels keep none. Pure.

    `earlier` maps pixel hashes to the id that an earlier snapshot accepted, which is the one that stays.
    """
    pairs = list(pairs)
    alike = defaultdict(list)
    for pair in pairs:
        if pair.accepted:
            alike[pair.pixel_sha256].append(pair)
    replaced = {}
    for pixels, group in alike.items():
        if len(group) == 1:
            continue
        ids = sorted(p.id for p in group)
        if len({p.label for p in group}) > 1:
            reason, fix = f"The same picture is both OK and NG: {', '.join(ids)}.", "Keep the right one only."
            replaced.update({p.id: reject(p, reason, fix) for p in group})
            continue
        # What one of them knows of its pixels is not given up.
        ids = [p.id for p in group if p.masked] or ids
        kept = earlier[pixels] if earlier.get(pixels) in ids else min(ids)
        stays = next(pair for pair in group if pair.id == kept)
        for pair in group:
            if pair.id != kept:
                reason, fix = f"The same picture as {kept}.", "Remove one of the two."
                if masks_differ(pair, stays):
                    reason = f"The same picture as {kept}, with another mask."
                    fix = "Keep the one whose mask is right."
                replaced[pair.id] = reject(pair, reason, fix)
    return [replaced.get(p.id, p) if p.accepted else p for p in pairs]
