"""Synthetic light guide plates with masks: something to try the product on before the first real image.

An image is light on a dark plate. Everything that shines (the lattice's points, scratches, blots) is a sum
of Gaussian spots, and the camera saturates: grey = dark + (255 - dark) · (1 - exp(-light)). Lengths are in
pixels of a 224×224 image and grow with the size. The numbers, and what the masks hold, were fitted by eye
and by histogram to 40 photographed plates.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SettingsError
from defectline.components.common.files import explained

REFERENCE_SIZE = 224
MIN_SIZE = 32
AREA = (50, 900)
"""Fewest and most defect pixels of a 224×224 mask."""
VISIBLE = 0.08
"""Change of light that the mask marks, about 20 grey levels on a dark ground; less for faint defects."""
TOUCHING = 0.2
"""Change of light with which a defect runs into a point of the lattice; less for faint defects."""
SHINES = 0.15
"""Light at a point's edge."""
PITCH = (12, 24)
"""Between the points of a column."""
BRIGHTNESS = (2, 5.5)
"""Light at the middle of a point; less where points are dense."""
HALO = (0.03, 0.1)
"""Share of the light that is scattered."""

Spots = np.ndarray
"""float64 (N, 5), one row a spot: y, x, sigma_y, sigma_x, peak; lengths in pixels of a 224×224 image."""


def generate_samples(folder: Path, pairs: int = 64, seed: int = 0, size: int = 224) -> None:
    """Draw `pairs` images with masks into the new folder: `OK/ NG/ OK_MSK/ NG_MSK/`, half of them NG.

    8-bit grey PNG, size×size; masks 0/255. An odd number gives one more OK. The pixels of an image depend
    on seed, label, number and size alone, so a larger draw holds a smaller one. The folder appears complete
    or not at all. About 10 ms a pair at 224.

    Raises SettingsError for fewer than 2 pairs, a size below 32, a negative seed, and a folder that is not
    empty or cannot be written.
    """
    _check_at_least("pairs", pairs, 2)
    _check_at_least("size", size, MIN_SIZE)
    _check_at_least("seed", seed, 0)
    folder = Path(folder).expanduser().resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise SettingsError(
            f"{folder} is already in use.",
            got="a folder that is not empty" if folder.is_dir() else "a file",
            expected="a new or empty folder",
            fix="Name another folder; nothing was overwritten.",
        )
    with explained(
        f"The samples could not be written to {folder}.",
        expected="a new folder inside one that can be written",
        fix="Name a folder inside one that you own, and see that its disk has room.",
    ):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as partial:
            drawn = Path(partial, "drawn")
            _draw_label(drawn, "OK", pairs - pairs // 2, seed, size)
            _draw_label(drawn, "NG", pairs // 2, seed, size)
            drawn.rename(folder)


def draw_pair(label: str, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One image and its mask, both uint8 (size, size); the mask is 0/255 and all 0 for label `OK`."""
    scale = size / REFERENCE_SIZE
    pitch = _spread(rng, *PITCH)
    points = _lattice(rng, pitch)
    light = _render(points, size)
    light += _render(_dents(rng, points), size)
    light += _render(_dust(rng), size)
    camera = _camera(rng, pitch, size)

    mask = np.zeros((size, size), np.uint8)
    if label == "NG":
        # Most attempts fit; one that is too small, too large or hidden behind the points is drawn again.
        while True:
            count = 2 if rng.random() < 0.1 else 1
            change = _render(np.vstack([_defect(rng, points) for _ in range(count)]), size)
            seen = _seen(change)
            mask = np.where(seen | _touched(change, points), 255, 0).astype(np.uint8)
            if _fits(mask, scale) and _is_seen(seen, camera(light), camera(light + change)):
                break
        light += change

    grey = camera(light)
    grey += rng.normal(size=grey.shape) * (0.5 + 0.003 * grey)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8), mask


def _draw_label(folder: Path, label: str, count: int, seed: int, size: int) -> None:
    images, masks = folder / label, folder / f"{label}_MSK"
    images.mkdir(parents=True)
    masks.mkdir()
    for number in range(count):
        rng = np.random.default_rng([seed, LABELS.index(label), number])
        image, mask = draw_pair(label, rng, size)
        _write(image, images / f"{number:05d}_{label}_Image.png")
        _write(mask, masks / f"{number:05d}_{label}_Mask.png")


def _write(pixels: np.ndarray, path: Path) -> None:
    # Uncompressed, because the bytes of a compressed PNG differ between builds of zlib.
    Image.fromarray(pixels).save(path, compress_level=0)


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise SettingsError(
            f"{name} is too small.",
            got=f"{name}={value}",
            expected=f"at least {least}",
            fix=f"Set {name} to {least} or more.",
        )


def _render(spots: Spots, size: int) -> np.ndarray:
    """The light of all spots, float64 (size, size); what falls outside is cut off."""
    scale = size / REFERENCE_SIZE
    y, x = spots[:, :2].T * scale
    # A pixel is an area, so no spot is sharper than about half of one.
    sigma = np.hypot(spots[:, 2:4] * scale, 0.35)
    peak = spots[:, 4] * np.prod(spots[:, 2:4] * scale / sigma, axis=1)

    reach = int(np.ceil(4 * sigma.max(initial=0)))
    offsets = np.arange(-reach, reach + 1)
    rows = np.floor(y).astype(int)[:, None] + offsets
    cols = np.floor(x).astype(int)[:, None] + offsets
    down = np.exp(-0.5 * ((rows - y[:, None]) / sigma[:, :1]) ** 2) * ((rows >= 0) & (rows < size))
    across = np.exp(-0.5 * ((cols - x[:, None]) / sigma[:, 1:]) ** 2) * ((cols >= 0) & (cols < size))
    stamps = (peak[:, None] * down)[:, :, None] * across[:, None, :]

    pixels = rows.clip(0, size - 1)[:, :, None] * size + cols.clip(0, size - 1)[:, None, :]
    return np.bincount(pixels.ravel(), stamps.ravel(), minlength=size * size).reshape(size, size)


def _spread(rng: np.random.Generator, low: float, high: float) -> float:
    """Evenly spread over the orders of magnitude."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _lattice(rng: np.random.Generator, pitch: float) -> Spots:
    """Columns of points, each shifted against its neighbour by about half a pitch, slightly turned."""
    half = np.arange(
        -np.ceil(0.75 * REFERENCE_SIZE / (0.85 * pitch)), np.ceil(0.75 * REFERENCE_SIZE / (0.85 * pitch)) + 1
    )
    spacing = pitch * rng.uniform(0.9, 1.05)
    shift = half * rng.uniform(0.35, 0.65) + rng.normal(0, 0.08, half.size)
    column = half * spacing + rng.normal(0, 0.03 * pitch, half.size) + rng.uniform(0, spacing)
    y = (half[:, None] + shift % 1) * pitch
    x = np.broadcast_to(column, y.shape)
    y, x = y.ravel(), x.ravel()
    y = y + rng.uniform(0, 0.12) * pitch * np.sin(y / rng.uniform(25, 60) + rng.uniform(0, 2 * np.pi))

    angle = np.radians(rng.normal(0, 1.5))
    turned_y, turned_x = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    centres = np.stack([turned_y, turned_x], axis=1) + REFERENCE_SIZE / 2
    centres += rng.normal(0, 0.02 * pitch, centres.shape)
    centres = centres[np.all((centres > -6) & (centres < REFERENCE_SIZE + 6), axis=1)]

    count = len(centres)
    # Not used; the plates of a seed stay those that they are.
    rng.random()
    # Points that melt into each other are not a lattice any more.
    width = min(rng.uniform(1.25, 1.6), 0.14 * pitch)
    sigma = width * np.array([rng.uniform(1.0, 1.25), 1.0]) * rng.normal(1, 0.04, (count, 2))
    least, most = BRIGHTNESS
    brightness = _spread(rng, least, most * min(1, pitch / 20))
    spread = rng.uniform(0.08, 0.2)
    peak = brightness * np.exp(rng.normal(0, spread, count))
    peak[rng.random(count) < rng.choice([0, 0.02])] *= 0.5
    return np.column_stack([centres, sigma, peak])


def _dents(rng: np.random.Generator, points: Spots) -> Spots:
    """The darker notch inside each point that sharp images show."""
    dents = points.copy()
    dents[:, :2] += rng.normal(0, 0.4, (len(points), 2))
    dents[:, 2:4] = rng.uniform(0.5, 0.9, (len(points), 2))
    dents[:, 4] *= -rng.choice([0, 0.7]) * rng.uniform(0.2, 1, len(points))
    return dents


def _dust(rng: np.random.Generator) -> Spots:
    """Faint specks, harmless on OK and NG plates alike."""
    count = rng.poisson(rng.choice([0.5, 5]))
    sigma = np.repeat(rng.uniform(0.8, 1.5, (count, 1)), 2, axis=1)
    return np.column_stack(
        [rng.uniform(0, REFERENCE_SIZE, (count, 2)), sigma, rng.uniform(0.02, 0.07, count)],
    )


def _camera(rng: np.random.Generator, pitch: float, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function from light to grey levels 0 to 255, float64, without noise."""
    dark = rng.uniform(5, 10) if rng.random() < 0.3 else rng.uniform(2, 4)
    halo = rng.uniform(*HALO)
    halo_sigma = rng.uniform(3, 5) * size / REFERENCE_SIZE
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    # Dense lattices are lit more evenly: their points light each other.
    slope = rng.uniform(0, 0.2) * min(1.0, pitch / 20)
    gain = 1 + slope * (x * np.cos(angle) + y * np.sin(angle)) - rng.uniform(0, 0.08) * (x**2 + y**2)

    def expose(light: np.ndarray) -> np.ndarray:
        light = np.maximum(light, 0)
        scattered = cv2.GaussianBlur(light, (0, 0), halo_sigma, borderType=cv2.BORDER_REFLECT)
        return dark * gain + (255 - dark * gain) * (1 - np.exp(-gain * (light + halo * scattered)))

    return expose


def _seen(change: np.ndarray) -> np.ndarray:
    """Where the light (H, W) changed by as much as one can see: bool (H, W)."""
    strength = np.abs(change)
    return strength > min(VISIBLE, 0.4 * strength.max())


def _touched(change: np.ndarray, points: Spots) -> np.ndarray:
    """The whole of each point that a defect runs into, as people mark it: bool (H, W)."""
    size = len(change)
    scale = size / REFERENCE_SIZE
    strength = np.abs(change)
    defect = strength > min(TOUCHING, 0.5 * strength.max())
    distance = cv2.distanceTransform(np.where(defect, 0, 255).astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.rint(points[:, :2].T * scale).astype(int).clip(0, size - 1)
    sigma = points[:, 2:4].mean(axis=1) * scale
    radius = sigma * np.sqrt(2 * np.log(np.maximum(points[:, 4] / SHINES, 1)))
    return _render(points[distance[y, x] < radius], size) > SHINES


def _fits(mask: np.ndarray, scale: float) -> bool:
    least, most = (area * scale**2 for area in AREA)
    return bool(least <= np.count_nonzero(mask) <= most)


def _is_seen(seen: np.ndarray, before: np.ndarray, after: np.ndarray) -> bool:
    """Whether grey levels differ by 9 there on average, and on two thirds of it by at least 4."""
    difference = np.abs(after - before)[seen]
    return bool(np.mean(difference) >= 9 and np.mean(difference >= 4) >= 2 / 3)


def _defect(rng: np.random.Generator, points: Spots) -> Spots:
    """One defect as spots to add to the light; those of missing points are negative."""
    kinds: tuple[Callable[[np.random.Generator, Spots], Spots], ...]
    kinds = (_short_scratch, _long_scratch, _blot, _bright_spot, _missing_points)
    return kinds[rng.choice(len(kinds), p=[0.36, 0.23, 0.24, 0.16, 0.01])](rng, points)


def _position(rng: np.random.Generator, points: Spots, beside: float) -> np.ndarray:
    """A position (y, x) well inside the image; with probability `beside` it is next to a point."""
    margin = 0.08 * REFERENCE_SIZE
    anywhere = rng.uniform(margin, REFERENCE_SIZE - margin, 2)
    if rng.random() >= beside:
        return anywhere
    nearest = points[np.argmin(np.sum((points[:, :2] - anywhere) ** 2, axis=1)), :2]
    angle = rng.uniform(0, 2 * np.pi)
    return nearest + rng.uniform(4, 7) * np.array([np.sin(angle), np.cos(angle)])


def _short_scratch(rng: np.random.Generator, points: Spots) -> Spots:
    position = _position(rng, points, beside=0.7)
    return _stroke(
        rng, position, rng.uniform(7, 28), rng.uniform(0.6, 1.9), np.exp(rng.uniform(-0.8, 1.4)), 0.9
    )


def _long_scratch(rng: np.random.Generator, points: Spots) -> Spots:
    position = _position(rng, points, beside=0.2)
    return _stroke(
        rng, position, rng.uniform(28, 68), rng.uniform(0.6, 1.6), np.exp(rng.uniform(-2.6, 0.9)), 0.6
    )


def _stroke(
    rng: np.random.Generator, middle: np.ndarray, length: float, sigma: float, peak: float, turn: float
) -> Spots:
    """Spots along a curve around `middle`; `turn` is the spread of the change of direction, in radians."""
    step = 0.5
    along = np.linspace(-0.5, 0.5, max(2, round(length / step)))
    wobble = rng.normal(0, 0.25) * np.sin(along * rng.uniform(6, 14))
    heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, turn) * along + wobble
    path = np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0) * step
    path += middle - path.mean(axis=0)
    knots = np.linspace(-0.5, 0.5, 5)
    width = sigma * np.interp(along, knots, rng.uniform(0.75, 1.25, 5))
    # Spots this close overlap: together they reach `peak`.
    bright = peak * np.interp(along, knots, rng.uniform(0.6, 1.2, 5)) * step / (width * np.sqrt(2 * np.pi))
    return np.column_stack([path, width, width, bright])


def _blot(rng: np.random.Generator, points: Spots) -> Spots:
    count = rng.integers(5, 14)
    centres = _position(rng, points, beside=0.4) + rng.normal(0, rng.uniform(1.5, 4.5, 2), (count, 2))
    return np.column_stack(
        [centres, rng.uniform(1.0, 2.2, (count, 2)), rng.uniform(0.25, 1.2) * rng.uniform(0.4, 1.4, count)]
    )


def _bright_spot(rng: np.random.Generator, points: Spots) -> Spots:
    sigma = rng.uniform(1.5, 3.2) * rng.uniform(0.8, 1.25, 2)
    return np.array([[*_position(rng, points, beside=0.7), *sigma, rng.uniform(1, 4)]])


def _missing_points(rng: np.random.Generator, points: Spots) -> Spots:
    """One to three neighbouring points taken away."""
    position = _position(rng, points, beside=0)
    nearest = np.argsort(np.sum((points[:, :2] - position) ** 2, axis=1), kind="stable")[: rng.integers(1, 4)]
    return points[nearest] * [1, 1, 1, 1, -1]
