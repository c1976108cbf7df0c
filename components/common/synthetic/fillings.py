"""What a defect does to the picture inside of its shape: each gives the change, float32 (H, W, C)."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.synthetic.fields import (
    Field,
    blurred,
    filled,
    log_uniform,
    smooth_noise,
)

PIECES = 3
"""What is cut out differs more from its new place the more are tried."""


class Site(NamedTuple):
    """Where a defect is painted."""

    picture: NDArray[np.uint8]
    """(height, width, C)"""
    donor: NDArray[np.uint8]
    """With as many channels: another good picture or the same."""
    top: int
    left: int
    shape: Field
    """(H, W): how strong the defect is, 0 to 1, from (top, left) on."""
    strength: float
    """Grey levels by which it changes the picture, where that can be chosen."""

    @property
    def here(self) -> Field:
        """The picture under the shape, float32 (H, W, C)."""
        height, width = self.shape.shape
        return self.picture[self.top : self.top + height, self.left : self.left + width].astype(np.float32)

    def moved(
        self, right: float, down: float, turn: float = 0, scale: float = 1, donor: bool = False
    ) -> Field:
        """What is that many px beside the shape, turned by radians and magnified; like `here`."""
        height, width = self.shape.shape
        cos, sin = math.cos(turn) / scale, math.sin(turn) / scale
        x, y = (width - 1) / 2, (height - 1) / 2
        origin = self.left + right + x - cos * x + sin * y, self.top + down + y - sin * x - cos * y
        there = cv2.warpAffine(
            self.donor if donor else self.picture,
            np.array([[cos, -sin, origin[0]], [sin, cos, origin[1]]]),
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        return there.reshape(height, width, -1).astype(np.float32)

    def mixed(self, content: Field) -> Field:
        """The change that puts the content into the shape."""
        return (content - self.here) * self.shape[..., None]


def tone(random: np.random.Generator, site: Site) -> Field:
    """Lighter or darker, evenly or not, in colour pictures tinted; or one grey level that covers all."""
    here = site.here
    mean = here.mean(axis=(0, 1))
    # Where there is room, for what is white gets no lighter.
    lighter = random.random() < np.clip(1 - (float(mean.mean()) + site.strength / 2) / 255, 0.1, 0.9)
    amount = (site.strength if lighter else -site.strength) * _tint(random, here.shape[2])
    how = random.random()
    if how < 0.25:
        grain = random.standard_normal(here.shape, np.float32) * random.uniform(0, 0.15) * site.strength
        return site.mixed(mean + amount + grain)
    if how < 0.5:
        # As light does it: by a factor.
        amount = amount * here / np.maximum(mean, 8)
    shape = site.shape[..., None]
    if random.random() < 0.5:
        hills = smooth_noise(random, site.shape.shape, log_uniform(random, 2, 24))[..., None]
        shape = shape * np.clip(1 + random.uniform(0.1, 0.5) * hills, 0, 2)
    return shape * amount


def relief(random: np.random.Generator, site: Site) -> Field:
    """Light on one side and dark on the other, as a dent or a bump under light from the side."""
    padded = cv2.copyMakeBorder(site.shape, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    soft = blurred(padded, log_uniform(random, 0.6, max(0.7, min(site.shape.shape) / 10)))
    along, across = _heading(random)
    slope = along * cv2.Sobel(soft, cv2.CV_32F, 1, 0) + across * cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    slope = slope[1:-1, 1:-1] / max(float(np.abs(slope).max()), 1e-3)
    return slope[..., None] * site.strength * _tint(random, site.picture.shape[2])


def patch(random: np.random.Generator, site: Site) -> Field:
    """A piece of the donor or of the picture itself, turned and resized, often lighter or darker."""
    piece = _piece(random, site)
    if random.random() < 0.5:
        amount = site.strength if random.random() < 0.5 else -site.strength
        piece = piece + amount * _tint(random, piece.shape[2])
    return site.mixed(piece) * np.float32(random.uniform(0.5, 1))


def grafted(random: np.random.Generator, site: Site) -> Field:
    """Such a piece, whose grey levels fit those around as Poisson blending makes them."""
    piece = _piece(random, site)
    outside = (site.shape < 0.05).astype(np.float32)
    return site.mixed(piece + filled(site.here - piece, outside)) * np.float32(random.uniform(0.7, 1))


def texture(random: np.random.Generator, site: Site) -> Field:
    """Grain, fine or coarse, round or in streaks."""
    cell, octaves = log_uniform(random, 1, 12), int(random.integers(1, 3))
    grain = smooth_noise(random, site.shape.shape, cell, octaves, log_uniform(random, 0.1, 10))
    return (site.shape * grain * min(0.5 * site.strength, 60))[..., None] * _tint(
        random, site.picture.shape[2]
    )


def blur(random: np.random.Generator, site: Site) -> Field:
    """Out of focus, or smeared along one direction."""
    sigma = log_uniform(random, 1, len(site.picture) / 16)
    other = sigma if random.random() < 0.5 else log_uniform(random, 0.3, sigma)
    across, down = (sigma, other) if random.random() < 0.5 else (other, sigma)
    return site.mixed(blurred(site.here, across, down))


def contrast(random: np.random.Generator, site: Site) -> Field:
    """Structure fainter or stronger than around it."""
    here = site.here
    gain = random.uniform(0, 0.6) if random.random() < 0.5 else log_uniform(random, 1.5, 4)
    return site.shape[..., None] * (gain - 1) * (here - blurred(here, len(site.picture) / 28))


def missing(random: np.random.Generator, site: Site) -> Field:
    """Nothing of the structure: smooth from edge to edge, with a little grain."""
    here = site.here
    smooth = filled(here, (site.shape < 0.05).astype(np.float32))
    return site.mixed(smooth + random.standard_normal(here.shape, np.float32) * random.uniform(0, 2))


def doubled(random: np.random.Generator, site: Site) -> Field:
    """The structure a second time, some px beside: over it, the lighter, the darker or the mean of both."""
    here, there = site.here, site.moved(*_offset(random, site))
    both = (there, np.maximum(here, there), np.minimum(here, there), (here + there) / np.float32(2))
    return site.mixed(both[random.integers(len(both))])


def warped(random: np.random.Generator, site: Site) -> Field:
    """Structure pulled out of its place, most where the shape is strongest."""
    right, down = _offset(random, site)
    soft = blurred(site.shape, max(1.0, min(site.shape.shape) / 12))
    height, width = site.shape.shape
    x = np.arange(width, dtype=np.float32) + np.float32(site.left) + soft * np.float32(right / 2)
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(site.top) + soft * np.float32(down / 2)
    there = cv2.remap(site.picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return site.mixed(there.reshape(height, width, -1).astype(np.float32))


def _offset(random: np.random.Generator, site: Site) -> tuple[float, float]:
    far = log_uniform(random, 2, len(site.picture) / 12)
    along, across = _heading(random)
    return far * along, far * across


def _heading(random: np.random.Generator) -> tuple[float, float]:
    """A direction, as x and y of length 1."""
    turn = random.uniform(0, 2 * np.pi)
    return math.cos(turn), math.sin(turn)


def _piece(random: np.random.Generator, site: Site) -> Field:
    """Of a few random pieces the one that differs most from what is here."""
    height, width = site.picture.shape[:2]
    here, pieces = site.here, []
    for _ in range(PIECES):
        right, down = random.uniform(0, width) - site.left, random.uniform(0, height) - site.top
        turn = random.uniform(0, 2 * np.pi) if random.random() < 0.5 else np.pi / 2 * random.integers(4)
        pieces.append(site.moved(right, down, turn, log_uniform(random, 0.5, 2), donor=random.random() < 0.5))
    return max(pieces, key=lambda piece: cv2.norm(piece, here, cv2.NORM_L1))


def _tint(random: np.random.Generator, channels: int) -> Field:
    """How strongly each channel changes: of several at least one fully."""
    if channels == 1 or random.random() < 0.5:
        return np.ones(channels, np.float32)
    each = random.uniform(-1, 1, channels).astype(np.float32)
    return each / np.abs(each).max() * np.sign(each.sum() or 1)
