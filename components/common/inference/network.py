"""An exported network on pictures as they come: prepared, judged whole or tile by tile, and put together."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import DEFAULT_CLASSES, GOOD, outputs
from defectline.components.common.errors import BundleError
from defectline.components.common.images.imaging import (
    ImagingSettings,
    find_window,
    frame_grid,
    prepare_frame,
    prepare_image,
)
from defectline.components.common.images.reading import decode_image
from defectline.components.common.images.roi import roi_for
from defectline.components.common.images.tiling import cut_tile, stitch
from defectline.components.common.inference import class_maps
from defectline.components.common.inference.class_maps import LEVELS, Collector
from defectline.components.common.inference.engine import ENGINES, EngineName, Seen
from defectline.components.common.inference.glance import FEWEST_TILES, Glance, halve
from defectline.components.common.inference.inspection import Maps, to_score_map

TILE_BATCH = 8
"""Tiles that go through the network at once; more would take memory and save no time."""


class Network:
    """An exported network on the engine that its file is for, always in float32.

    Outside of `roi`, uint8 (H, W) of 0 and 1, nothing is a defect; it fits frames of its shape at any size.
    Of a frame of many tiles those alone are judged in full that at half resolution have a probability of at
    least `first_look` somewhere; all, where it is None.

    Raises BundleError for a file that the engine cannot load or that takes or gives something else than
    `imaging` says. Safe to use from several threads.
    """

    def __init__(
        self,
        file: Path,
        imaging: ImagingSettings,
        threads: int = 0,
        engine: EngineName = "openvino",
        classes: Sequence[str] = DEFAULT_CLASSES,
        roi: NDArray[np.uint8] | None = None,
        first_look: float | None = None,
    ):
        self.imaging, self.classes, self.roi, self.first_look = imaging, tuple(classes), roi, first_look
        self._engine = ENGINES[engine](file, threads)
        self._check_shapes(file)

    def _check_shapes(self, file: Path) -> None:
        """Raise BundleError for another size of pictures or number of classes; a side left open fits any."""
        size, channels = self.imaging.image_size, self.imaging.channels
        for sides, what, expected in (
            (self._engine.takes, "takes", (size, size, channels)),
            (self._engine.gives, "gives", (size, size, outputs(self.classes))),
        ):
            fits = zip(sides, expected, strict=False)
            if len(sides) != 3 or any(got not in (None, wanted) for got, wanted in fits):
                raise BundleError(
                    f"{file} is a network for other pictures or classes.",
                    got=f"it {what} {'×'.join(str(side or '?') for side in sides)}",
                    expected="×".join(map(str, expected)) + " (height, width, channels or classes)",
                    fix="Run the pipeline again with --force; never mix files of two models.",
                )

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probability of a defect, (N, S, S), for prepared pictures uint8 (N, S, S, channels); of several
        classes those of good and of each, (N, S, S, 1 + K).

        Raises BundleError where the network gives no number.
        """
        return self._see(batch).probability

    def _see(self, batch: NDArray[np.uint8]) -> Seen:
        seen = self._engine(batch)
        if not np.isfinite(seen.probability).all():
            raise BundleError(
                "The network gives no probabilities.",
                got="NaN or infinite values",
                expected="numbers from 0 to 1",
                fix="Its training diverged: train again with a lower learning rate or another seed.",
            )
        return seen

    def score_map(self, data: bytes) -> NDArray[np.uint16]:
        """Score map (H, W) of an encoded picture, at its own size. Raises UnreadableImage."""
        return self.maps(data).score_map

    def maps(self, data: bytes) -> Maps:
        """What the network says of an encoded picture. Raises UnreadableImage."""
        return self.maps_of(decode_image(data, self.imaging.channels))

    def maps_of(self, image: NDArray[np.uint8]) -> Maps:
        """What it says of a decoded picture (H, W, channels). Raises UnreadableImage for a frame that is too
        long and narrow to be cut into tiles, or that has another shape than the region of interest."""
        if self.roi is None:
            return self._maps_of(image)
        inside = roi_for(self.roi, *image.shape[:2])
        found = self._maps_of(image)
        return found._replace(score_map=found.score_map * inside)

    def _maps_of(self, image: NDArray[np.uint8]) -> Maps:
        if self.imaging.tile:
            return self._maps_of_tiles(image)
        seen = self._see(prepare_image(image, self.imaging)[None])
        probability = seen.probability[0]
        height, width = image.shape[:2]
        window = find_window(height, width, self.imaging)
        probability = probability[
            window.top : window.top + window.height, window.left : window.left + window.width
        ]
        classes = None
        if probability.ndim == 3:
            classes = class_maps.of_output(self.classes, probability[..., 1:], height, width)
            probability = 1 - probability[..., GOOD]
        if probability.shape != (height, width):
            probability = cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR)
        return Maps(to_score_map(probability), classes, seen.features)

    def _maps_of_tiles(self, image: NDArray[np.uint8]) -> Maps:
        """What it says of a decoded frame (H, W, channels), tile by tile at full resolution.

        Probabilities of overlapping tiles are blended before they are rounded, so that a defect on a seam is
        one region. Besides the frame and its score map (three to five bytes a pixel), memory holds a band
        as high as a tile and, for several classes, their maps: see `class_maps`.
        """
        frame = prepare_frame(image, self.imaging)
        glance = None if self.first_look is None else self.glance(frame, self.first_look)
        return self._maps_of_frame(frame, glance)

    def glance(self, frame: NDArray[np.uint8], level: float) -> Glance | None:
        """What it says of a prepared frame (H, W, channels) at half resolution, to look in full at what
        reaches the level; None where that would save no time."""
        if len(frame_grid(frame.shape[0], frame.shape[1], self.imaging).positions) < FEWEST_TILES:
            return None
        seen = self._maps_of_frame(halve(frame))
        return Glance(seen.score_map, max(1, round(level * LEVELS)), seen.features)

    def _maps_of_frame(self, frame: NDArray[np.uint8], glance: Glance | None = None) -> Maps:
        height, width = frame.shape[:2]
        grid = frame_grid(height, width, self.imaging)
        features = list[NDArray[np.float32]]()

        def row_of_tiles(y: int) -> Iterator[NDArray[np.float32]]:
            in_full = [x for x in grid.xs if glance is None or glance.suspects(y, x, grid.size)]
            judged = self._judge_tiles([(y, x) for x in in_full], frame, grid.size, features)
            for x in grid.xs:
                if glance is None or x in in_full:
                    yield next(judged)
                else:
                    yield glance.tile(y, x, grid.size, outputs(self.classes))

        score_map, top = np.empty((height, width), np.uint16), 0
        several = len(self.classes) > 1
        collector = Collector(self.classes, height, width) if several else None
        stitched = stitch(grid, map(row_of_tiles, grid.ys))
        for band in class_maps.with_bands(stitched, collector) if collector else stitched:
            score_map[top : top + len(band)] = to_score_map(band)
            top += len(band)
        if glance and glance.features is not None:
            features.append(glance.features)
        of_tiles = np.concatenate(features) if features else None
        return Maps(score_map, collector.maps() if collector else None, of_tiles)

    def _judge_tiles(
        self,
        places: Sequence[tuple[int, int]],
        frame: NDArray[np.uint8],
        size: int,
        features: list[NDArray[np.float32]],
    ) -> Iterator[NDArray[np.float32]]:
        """What the network says of the tiles at these places; what its encoder sees goes to `features`."""
        for start in range(0, len(places), TILE_BATCH):
            batch = [cut_tile(frame, y, x, size) for y, x in places[start : start + TILE_BATCH]]
            seen = self._see(np.stack(batch))
            if seen.features is not None:
                features.append(seen.features)
            yield from seen.probability
