"""Do frames on the line still look like the training pictures?

Over the last frames, for brightness and for contrast, the population stability index

    PSI = Σ (now_k − then_k) · ln(now_k / then_k)

of the shares of frames and of training pictures in bins k. It is 0 for the same shares and grows with their
difference; the usual limits, from credit scoring (N. Siddiqi, Credit Risk Scorecards, Wiley 2006), are 0.1
(look at it) and 0.25 (it is another distribution). Where nothing has changed its mean is near
(bins − 1) · (1 / frames + 1 / pictures) (B. Yurdakul, Statistical Properties of Population Stability Index,
Western Michigan University 2018), so few pictures get few bins: see `merge`.
"""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import REGISTRY, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import ValidationError

from defectline.components.common.errors import BundleError, SettingsError
from defectline.components.common.images.statistics import NAME, Histogram, Statistics, read_statistics

FEATURES = ("brightness", "contrast")
LEAST_FRAMES = 200
"""Fewer say nothing: with ten bins chance alone makes a PSI near 0.1."""
LEAST_PICTURES = 20
LIMIT = 0.25
"""PSI above which frames are others than those that promises were made on."""
MOST_BINS = 10
PICTURES_A_BIN = 20
"""At least, where there are enough for two bins."""


class Shift(NamedTuple):
    """Drift of the last frames. NaN where there are too few of them, or of training pictures."""

    frames: int
    psi: dict[str, float]
    """Per feature."""
    defect_rate: float
    """Share of the frames that were called NG."""


class Drift(Collector):
    """Watches the last `window` frames; safe to use from several threads.

    `statistics` is None for a model without: its PSI is NaN. Raises SettingsError for too short a window.
    """

    def __init__(self, statistics: Statistics | None, window: int = 1000):
        if window < LEAST_FRAMES:
            raise SettingsError(
                "The window of drift is too short.",
                got=f"{window} frames",
                expected=f"{LEAST_FRAMES} or more",
                fix="Choose a longer one; 1000 is usual.",
            )
        self._window = window
        self._then = None if statistics is None else (statistics.brightness, statistics.contrast)
        self._defective = math.nan
        if statistics is not None and statistics.pictures:
            self._defective = statistics.defective / statistics.pictures
        self._lock = Lock()
        self._frames: deque[tuple[int, int, int]] = deque()
        self._counts = [np.zeros(len(of.counts), np.int64) for of in self._then or ()]
        self._ng = 0

    @classmethod
    def of_model(cls, folder: Path, window: int = 1000) -> "Drift":
        """Of the model in `folder`; older ones have no statistics. Raises BundleError for unreadable ones."""
        try:
            return cls(read_statistics([folder]) if (folder / NAME).exists() else None, window)
        except ValidationError as error:
            raise BundleError(
                f"{folder / NAME} cannot be read.",
                got=str(error).splitlines()[0],
                expected="statistics of this version of defectline",
                fix="Run the pipeline again with --force, or install the version that made the bundle.",
            ) from error

    def see(self, brightness: float, contrast: float, verdict: str) -> None:
        """Note one frame: `brightness_and_contrast` of it as it was decoded, and OK or NG."""
        values = (brightness, contrast)
        bins = [_bin(value, of) for value, of in zip(values, self._then or (), strict=False)] or [0, 0]
        ng = int(verdict == "NG")
        with self._lock:
            self._frames.append((bins[0], bins[1], ng))
            self._count(bins[0], bins[1], ng, 1)
            if len(self._frames) > self._window:
                self._count(*self._frames.popleft(), -1)

    def _count(self, brightness: int, contrast: int, ng: int, by: int) -> None:
        for counts, index in zip(self._counts, (brightness, contrast), strict=False):
            counts[index] += by
        self._ng += by * ng

    def shift(self) -> Shift:
        """Drift of the last frames."""
        with self._lock:
            frames, ng, counts = len(self._frames), self._ng, [found.copy() for found in self._counts]
        enough = frames >= LEAST_FRAMES
        psi = dict.fromkeys(FEATURES, math.nan)
        if enough and self._then:
            for feature, then, now in zip(FEATURES, self._then, counts, strict=True):
                psi[feature] = stability(np.array(then.counts), now)
        return Shift(frames, psi, ng / frames if enough else math.nan)

    def tripped(self) -> str:
        """What drifted beyond LIMIT, in words; "" where nothing did, or too little is known."""
        psi = self.shift().psi
        return ", ".join(f"{of} drifted (PSI {value:.2f})" for of, value in psi.items() if value > LIMIT)

    def collect(self) -> Iterator[Metric]:
        """The gauges, computed when Prometheus asks for them."""
        found = self.shift()
        index = GaugeMetricFamily(
            "defectline_drift_psi",
            "Population stability index of the last frames against the training pictures.",
            labels=["feature"],
        )
        for feature, value in found.psi.items():
            index.add_metric([feature], value)
        yield index
        yield GaugeMetricFamily(
            "defectline_defect_rate", "Share of the last frames that were called NG.", found.defect_rate
        )
        yield GaugeMetricFamily(
            "defectline_training_defect_rate",
            "Share of the training pictures that are labelled NG.",
            self._defective,
        )
        yield GaugeMetricFamily(
            "defectline_drift_frames", "Frames that drift and defect rate rest on.", found.frames
        )

    def expose(self, registry: CollectorRegistry = REGISTRY) -> "Drift":
        """Add the gauges to a registry, once; `registry.unregister` takes them away."""
        registry.register(self)
        return self


def _bin(value: float, of: Histogram) -> int:
    return min(max(bisect_right(of.edges, value) - 1, 0), len(of.counts) - 1)


def stability(then: NDArray[np.integer], now: NDArray[np.integer]) -> float:
    """The PSI of counts `now` against counts `then`, both integers (bins,); NaN where one is too small.

    Shares are raised by one picture of the smaller of both samples, so that a bin that is empty on both
    sides says nothing, and one that is empty on one side something finite.
    """
    least = min(then.sum(), now.sum())
    if then.sum() < LEAST_PICTURES or not least:
        return math.nan
    starts = merge(then)
    shares = [np.add.reduceat(counts, starts) / counts.sum() + 1 / least for counts in (then, now)]
    before, after = (share / share.sum() for share in shares)
    return float(np.sum((after - before) * np.log(after / before)))


def merge(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """First bins of the merged ones, for counts (bins,) that are not all 0.

    What the training pictures span is divided into two to MOST_BINS parts with as equal counts as whole bins
    allow, one part where they cannot be divided; what lies below and above of it are two more.
    """
    used = np.flatnonzero(counts)
    first, end = int(used[0]), int(used[-1]) + 1
    parts = min(max(int(counts.sum()) // PICTURES_A_BIN, 2), MOST_BINS)
    least, gathered = counts.sum() / parts, 0
    starts = [first]
    for index in range(first, end):
        gathered += counts[index]
        if gathered >= least:
            starts.append(index + 1)
            gathered = 0
    if len(starts) > 1:
        # After it come no pictures, or too few for a bin.
        starts.pop()
    return np.unique([0, *starts, *([end] if end < len(counts) else [])])
