"""What defects are painted with: draws over orders of magnitude, smooth noise, and a fill for holes."""

import math
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
T = TypeVar("T", np.uint8, np.float32)


def log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    """Evenly spread over the orders of magnitude; `low` where `high` is less."""
    return float(low * (max(high, low) / low) ** random.random())


def smooth_noise(
    random: np.random.Generator, shape: tuple[int, ...], cell: float, octaves: int = 2, aspect: float = 1
) -> Field:
    """Random hills (H, W) of mean 0 and spread 1, about `cell` px from one to the next.

    Each octave adds hills of half the size and half the height, as Perlin's noise has them; `aspect` times
    as wide as high.
    """
    height, width = shape
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1)
        rows = min(height, int(height / (step / aspect**0.5)) + 2)
        columns = min(width, int(width / (step * aspect**0.5)) + 2)
        hills = random.standard_normal((rows, columns), np.float32) / 2**octave
        total += cv2.resize(hills, (width, height), interpolation=cv2.INTER_CUBIC)
    mean, spread = cv2.meanStdDev(total)
    return (total - np.float32(mean[0, 0])) / np.float32(max(spread[0, 0], 1e-3))


def angle(random: np.random.Generator) -> float:
    """In radians: any, or often, as what machines and rollers leave, along a side of the picture."""
    if random.random() < 0.4:
        return float(random.normal(0, 0.06) + np.pi / 2 * random.integers(2))
    return float(random.uniform(0, np.pi))


def blurred(values: Field, sigma_x: float, sigma_y: float = 0) -> Field:
    """Gaussian blur of (H, W) or (H, W, C), of the same shape; `sigma_y` as `sigma_x` where it is 0."""
    # Five standard deviations in all: OpenCV would take eight, for hardly more than time.
    sides = [2 * math.ceil(2.5 * sigma) + 1 for sigma in (sigma_x, sigma_y or sigma_x)]
    soft = cv2.GaussianBlur(values, sides, sigma_x, sigmaY=sigma_y, borderType=cv2.BORDER_REFLECT)
    return np.asarray(soft, np.float32).reshape(values.shape)


def largest(values: NDArray[T]) -> NDArray[T]:
    """Of the channels of (H, W, C) the largest, (H, W)."""
    return values[..., 0] if values.shape[2] == 1 else values.max(axis=2)


def filled(values: Field, known: Field) -> Field:
    """(H, W, C) with smooth values where `known` (H, W), 0 to 1, is 0, continuing those where it is 1.

    From coarse to fine, each level half the size of the one below: much as solving Poisson's equation, in a
    hundredth of the time.
    """
    height, width, _ = values.shape
    weight = known[..., None]
    if min(height, width) <= 2:
        mean = (values * weight).sum((0, 1)) / max(float(weight.sum()), 1e-3)
        return values * weight + mean * (1 - weight)
    half = (width + 1) // 2, (height + 1) // 2
    share = cv2.resize(known, half, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(values * weight, half, interpolation=cv2.INTER_AREA).reshape(*share.shape, -1)
    coarse = filled(sums / np.maximum(share, 1e-3)[..., None], np.minimum(4 * share, 1))
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(values.shape)
    return values * weight + fine * (1 - weight)
