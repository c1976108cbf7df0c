"""Is a pair what it claims to be? Each answer is a row; a rejected one says why and how to fix it."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from defectline.components.common.errors import DefectlineError
from defectline.components.common.images.masks import Mask, read_mask
from defectline.components.common.images.reading import read_image
from defectline.components.common.snapshot import Pair

MOST_DEFECT = 0.9
"""A mask that marks more of its picture is an inverted one."""


def check_pair(pair: Pair, image: bytes, mask: bytes) -> Pair:
    """`pair` completed from its files' bytes: accepted, or rejected with reason and fix. Pure.

    `mask` is empty where `pair` has no `mask_key`; that means an empty mask. What had to be changed to use
    an accepted pair is its note.
    """
    pair = pair._replace(
        image_bytes=len(image),
        mask_bytes=len(mask),
        image_sha256=hashlib.sha256(image).hexdigest(),
        mask_sha256=hashlib.sha256(mask).hexdigest() if pair.mask_key else "",
    )
    try:
        pixels, orientation = read_image(image, channels=3)
    except DefectlineError as error:
        return reject(pair, f"Image: {error.what} Got {error.got}.", error.fix)
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{width}x{height}".encode())
    digest.update(np.ascontiguousarray(pixels).reshape(-1).data)
    # Large pictures are checked several at once: the mask need not lie beside them in memory.
    del pixels
    try:
        empty = Mask(np.zeros((height, width), np.uint8), orientation, "")
        truth, mask_orientation, note = read_mask(mask) if pair.mask_key else empty
    except DefectlineError as error:
        return reject(pair, f"Mask: {error.what} Got {error.got}.", error.fix)
    pair = pair._replace(
        width=width, height=height, defect_px=int(truth.sum()), pixel_sha256=digest.hexdigest()
    )
    turned = ""
    if orientation != mask_orientation:
        turned = (
            f"Turned upright by EXIF: the image by {orientation}, the mask by {mask_orientation} "
            "(1 is upright)."
        )
    if truth.shape != (height, width):
        sizes = f"Sizes differ: mask {truth.shape[1]}×{truth.shape[0]}, image {width}×{height}."
        fix = "Export the mask again at the image's size."
        return reject(pair, f"{sizes} {turned}".rstrip(), fix)
    if pair.label == "NG" and not pair.defect_px:
        return reject(pair, "NG, but its mask is empty.", "Draw the defect, or move the pair to OK.")
    if pair.label == "NG" and pair.defect_px > MOST_DEFECT * height * width:
        share = pair.defect_px / (height * width)
        fix = "Swap black and white: 0 is good, 255 defect."
        return reject(pair, f"Its mask marks {share:.0%} of the picture.", fix)
    if pair.label == "OK" and pair.defect_px:
        return reject(
            pair, f"OK, but its mask marks {pair.defect_px} px.", "Move the pair to NG, or empty the mask."
        )
    return pair._replace(note=f"{note} {turned}".strip())


def reject(pair: Pair, reason: str, fix: str) -> Pair:
    return pair._replace(status="rejected", reason=reason, fix=fix)


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
        kept = earlier[pixels] if earlier.get(pixels) in ids else ids[0]
        for pair in group:
            if pair.id != kept:
                replaced[pair.id] = reject(pair, f"The same picture as {kept}.", "Remove one of the two.")
    return [replaced.get(p.id, p) if p.accepted else p for p in pairs]
