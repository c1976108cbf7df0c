"""Which region of interest a picture has: `roi.png` for all, or its own in the folder `ROI/`."""

import threading
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.images.roi import read_roi, write_roi
from defectline.components.common.layout import roi_key
from defectline.components.common.storage import Object, Storage

FOLDER = "ROI/"
SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
EVERYWHERE = tuple(f"roi{suffix}" for suffix in SUFFIXES)


class Regions(NamedTuple):
    """The regions of a source."""

    everywhere: Object | None
    """For pictures without one of their own."""
    own: Mapping[str, Object]
    """By the name of the picture without its suffix, below its folder and below the source."""

    def of(self, image: str, stem: str) -> Object | None:
        """That of a picture by its key and what it is called."""
        if not self.own:
            return self.everywhere
        path = PurePosixPath(image)
        names = (str(path.with_suffix("")), stem, path.stem)
        return next((self.own[name] for name in names if name in self.own), self.everywhere)

    def tell_unused(self, pictures: Iterable[tuple[str, str]]) -> list[str]:
        """What is said of files in ROI/ that none of the pictures has, of each its key and stem."""
        used = {self.of(*picture) for picture in pictures} if self.own else set()
        unused = sorted(set(self.own.values()) - used)
        count = f"{len(unused):,} file{'s' * (len(unused) > 1)} in {FOLDER}"
        return [f"no picture has the name of {count}, such as {unused[0].key}"] if unused else []


def part_regions(objects: Iterable[Object]) -> tuple[Regions, list[Object]]:
    """The regions of what was listed, and the other objects. Pure."""
    everywhere, own, others = None, {}, []
    for item in objects:
        key = item.key
        if key.startswith(FOLDER) and key.lower().endswith(SUFFIXES):
            own[str(PurePosixPath(key).with_suffix("")).removeprefix(FOLDER)] = item
        elif key[:4].lower() == "roi." and key.lower() in EVERYWHERE:
            everywhere = item
        else:
            others.append(item)
    return Regions(everywhere, own), others


class RegionReader:
    """Reads regions of a source, and keeps each in the store. Safe to use from several threads."""

    def __init__(self, source: Storage, store: Storage):
        self._source, self._store = source, store
        self._lock = threading.Lock()
        self._last: tuple[Object, NDArray[np.uint8]] | None = None

    def read(self, region: Object | None) -> NDArray[np.uint8] | None:
        """uint8 (H, W), 1 where the picture counts; None for none.

        Raises KeyError where the file is another by now, UnreadableImage for one that is not a region.
        """
        if region is None:
            return None
        # Mostly one for all pictures: decoded once.
        with self._lock:
            if self._last is None or self._last[0] != region:
                roi = read_roi(self._source.read(region.key, region.version))
                digest, file = write_roi(roi)
                self._store.write(roi_key(digest), file)
                self._last = region, roi
            return self._last[1]
