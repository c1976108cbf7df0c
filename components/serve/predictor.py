"""The KServe predictor: an encoded picture in, verdict, score, regions and mask out."""

import asyncio
import base64
import binascii
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from kserve import Model
from kserve.errors import InvalidInput

from defectline.components.common.bundle import read_bundle
from defectline.components.common.imaging import UnreadableImage
from defectline.components.common.inspection import Network, answer, to_prediction

BODIES = 'a picture (Content-Type: image/png, …) or {"instances": [{"image": {"b64": "…"}}]}'


class DefectModel(Model):
    """Serves one published model over V1, raw pictures and JSON alike."""

    def __init__(self, name: str, folder: Path):
        super().__init__(name)
        self.folder = folder

    def load(self) -> bool:
        """Check the files, compile the network and answer once, so that the first request is fast too.

        Raises BundleError where the folder does not hold what was sealed.
        """
        self.bundle = read_bundle(self.folder)
        imaging = self.bundle.imaging
        self.network = Network(self.folder / self.bundle.network, imaging)
        size = imaging.image_size
        self.network.probabilities(np.zeros((1, size, size, imaging.channels), np.uint8))
        # More pictures at once than cores would only make each of them wait longer.
        self.slots = asyncio.Semaphore(os.cpu_count() or 1)
        self.ready = True
        return self.ready

    async def predict(
        self,
        payload: Any,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, list[dict]]:
        """One prediction a picture. Bad pictures and bodies are answered with HTTP 400."""
        return {"predictions": [await self._inspect(picture) for picture in _pictures(payload)]}

    async def _inspect(self, picture: bytes) -> dict:
        async with self.slots:
            # Off the event loop, so that health probes are answered meanwhile.
            return await asyncio.to_thread(self._answer, picture)

    def _answer(self, picture: bytes) -> dict:
        start = time.perf_counter()
        try:
            levels = self.network.levels(picture)
        except UnreadableImage as error:
            raise InvalidInput(f"{error.what} Got {error.got}. {error.fix}") from error
        judged = answer(levels, self.bundle.threshold, self.bundle.min_area_px)
        return {
            **to_prediction(judged, self.bundle.grades),
            "model_version": self.bundle.version,
            "latency_ms": round((time.perf_counter() - start) * 1000, 1),
        }


def _pictures(payload: Any) -> list[bytes]:
    """The encoded pictures in a request's body."""
    if isinstance(payload, bytes):
        return [payload]
    try:
        instances = payload["instances"]
        pictures = [base64.b64decode(item["image"]["b64"], validate=True) for item in instances]
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise InvalidInput(f"The body cannot be used. Expected {BODIES}.") from error
    if not pictures:
        raise InvalidInput(f"The body holds no picture. Expected {BODIES}.")
    return pictures
