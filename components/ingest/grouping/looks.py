"""What a picture looks like, in a text that stands in the index: enough to find others of the same part.

A look is a perceptual hash: of SIDE×SIDE cells, whether each is brighter than those around it, darker, or
neither. Compression, brightness, contrast and slow shades leave it nearly as it is. Two looks are compared
at small shifts and stretches, since a part does not lie twice in exactly the same place.
"""

import base64
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 56
"""Cells of a look in each direction. With fewer, different parts of one product are too much alike."""
PLAIN = "-"
"""The look of a picture that shows nothing, which is like no other."""
AROUND = 3.0
"""Cells (sigma) that a cell is compared with."""
FLOOR = 2.0
"""Grey levels that count as noise."""
LEAST_SHOWN = 0.02
"""Share of cells that must differ from those around them."""

REACH = 5
"""Cells by which a part may be shifted: about a tenth of the picture."""
STRETCHES = (1.0, 0.95, 1.05)
"""By which a part may be larger or smaller, in each direction."""
HOPELESS = 0.3
"""A likeness without stretching that no stretching would help."""

_DIGITS = 3 ** np.arange(5)


def describe(pixels: NDArray[np.uint8]) -> str:
    """The look of a picture (H, W, C)."""
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(SIDE, SIDE, -1)
    grey = small.mean(axis=2, dtype=np.float32)
    detail = grey - cv2.GaussianBlur(grey, (0, 0), AROUND)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 2 * AROUND)) + FLOOR
    cells = np.where(np.abs(detail) > 0.5 * contrast, 1 + np.sign(detail), 1).astype(np.int64)
    if np.count_nonzero(cells != 1) < LEAST_SHOWN * cells.size:
        return PLAIN
    digits = np.append(cells.ravel(), [1] * (-cells.size % len(_DIGITS))).reshape(-1, len(_DIGITS))
    return base64.b64encode((digits @ _DIGITS).astype(np.uint8).tobytes()).decode()


def unpack(look: str) -> NDArray[np.float32]:
    """The cells (SIDE, SIDE) of a look that is not PLAIN: 1 is brighter than those around, -1 darker."""
    packed = np.frombuffer(base64.b64decode(look), np.uint8)
    return _TRITS[packed].reshape(-1)[: SIDE * SIDE].reshape(SIDE, SIDE)


_TRITS = (np.arange(3**5)[:, None] // _DIGITS % 3 - 1).astype(np.float32)


class Likeness:
    """Compares looks of one source with each other; `shared` (SIDE, SIDE) is what they have in common."""

    def __init__(self, looks: list[str], shared: NDArray[np.float32]):
        self._looks, self._shared = looks, shared
        self._windows = lru_cache(4096)(self._make_windows)
        self._template = lru_cache(8192)(self._make_template)

    def __call__(self, one: int, other: int, enough: float = 1.0) -> float:
        """From 0, nothing in common, to 1, the same, of the looks in two places; less if `enough`."""
        one, other = min(one, other), max(one, other)
        best = self._match(one, other, 0)
        if best < HOPELESS:
            return best
        for index in range(1, len(STRETCHES) ** 2):
            if best >= enough:
                break
            best = max(best, self._match(one, other, index))
        return best

    def _match(self, one: int, other: int, index: int) -> float:
        cells, spread = self._windows(one)
        products = cv2.matchTemplate(cells, self._template(other, index), cv2.TM_CCORR)
        return float((products / spread).max())

    def _cells(self, index: int) -> NDArray[np.float32]:
        return unpack(self._looks[index]) - self._shared

    def _make_windows(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The cells, and how much they differ in each window that a template may be matched with."""
        cells = self._cells(index)
        inner = SIDE - 2 * REACH
        total, squares = (
            sums[inner:, inner:] - sums[:-inner, inner:] - sums[inner:, :-inner] + sums[:-inner, :-inner]
            for sums in cv2.integral2(cells)
        )
        spread = np.sqrt(np.maximum(squares - total**2 / inner**2, LEAST_SHOWN * inner**2))
        return cells, spread.astype(np.float32)

    def _make_template(self, index: int, stretch: int) -> NDArray[np.float32]:
        """The middle of the cells, at a stretch, of mean 0 and length 1 at most."""
        cells, middle = self._cells(index), (SIDE - 1) / 2
        down, across = (STRETCHES[part] for part in divmod(stretch, len(STRETCHES)))
        if stretch:
            place = np.array([[across, 0, middle * (1 - across)], [0, down, middle * (1 - down)]], np.float32)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            drawn = cv2.warpAffine(cells, place, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
            cells = np.asarray(drawn, np.float32)
        inner = cells[REACH:-REACH, REACH:-REACH]
        inner = inner - inner.mean()
        return inner / np.float32(max(float(np.linalg.norm(inner)), LEAST_SHOWN * inner.size**0.5))
