"""The region of interest: where the product is. What lies outside of it does not count anywhere."""

import hashlib
from collections.abc import Iterable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import IGNORE
from defectline.components.common.errors import StoreError
from defectline.components.common.images.masks import encode_mask, read_mask
from defectline.components.common.images.reading import UnreadableImage
from defectline.components.common.layout import roi_key
from defectline.components.common.storage import Storage

SAME_SHAPE = 0.02
"""How far the aspect ratios of a frame and of its region may differ."""


def read_roi(data: bytes) -> NDArray[np.uint8]:
    """uint8 (H, W) from a picture's bytes: 1 where white says that it counts, 0 elsewhere.

    Raises UnreadableImage where the picture is not black and white, or nothing of it is white.
    """
    pixels = read_mask(data).pixels
    if not pixels.any() or pixels.max() > 1:
        raise UnreadableImage(
            "The region of interest is not a picture of two values.",
            got="nothing in it is white" if not pixels.any() else f"values up to {pixels.max()}",
            fix="Draw it white where the product is and black elsewhere.",
        )
    return pixels


def write_roi(roi: NDArray[np.uint8]) -> tuple[str, bytes]:
    """The digest that `Pair.roi` holds, and the file that the store keeps under it."""
    file = encode_mask(roi)
    size = f"{roi.shape[1]}x{roi.shape[0]}".encode()
    return hashlib.sha256(size + np.packbits(roi).tobytes()).hexdigest()[:16], file


def load_rois(store: Storage, digests: Iterable[str]) -> dict[str, NDArray[np.uint8]]:
    """The regions of a snapshot's pairs by their digests; "" among these is none. Raises StoreError."""
    rois = {}
    for digest in sorted(set(digests) - {""}):
        try:
            rois[digest] = read_roi(store.read(roi_key(digest)))
        except (KeyError, UnreadableImage) as error:
            raise StoreError(
                "The store has lost a region of interest.",
                got=f"no readable {store.url(roi_key(digest))}",
                expected="the file that ingest wrote",
                fix="Bring it back from a backup, or take a snapshot in a new store.",
            ) from error
    return rois


def roi_for(roi: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The region at a frame's size. Raises UnreadableImage for a frame of another shape."""
    if roi.shape == (height, width):
        return roi
    own = roi.shape[1] / roi.shape[0]
    if abs(own * height / width - 1) > SAME_SHAPE:
        raise UnreadableImage(
            "The picture has another shape than the region of interest.",
            got=f"{width}×{height}, with a region of {roi.shape[1]}×{roi.shape[0]}",
            fix="Send frames as they were in training, or train with a region of this shape.",
        )
    return cv2.resize(roi, (width, height), interpolation=cv2.INTER_NEAREST)


def ignore_outside(truth: NDArray[np.uint8], roi: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask (H, W) of numbers of classes with IGNORE outside of the region."""
    return np.where(roi > 0, truth, np.uint8(IGNORE))


def common_roi(rois: Mapping[str, NDArray[np.uint8]], digests: Iterable[str]) -> NDArray[np.uint8] | None:
    """The region that all pictures share, which frames of the line have as well; None where they differ."""
    found = set(digests)
    return rois.get(found.pop()) if len(found) == 1 else None
