"""The model that is served: it loads bundles, judges pictures, and says honestly whether it can."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import UnidentifiedImageError

from defectline.components.common import checksums
from defectline.components.common.bundle import GPU_NETWORK, Bundle, read_bundle
from defectline.components.common.engine import EngineName
from defectline.components.common.errors import BundleError, DefectlineError
from defectline.components.common.imaging import UnreadableImage, decode_image
from defectline.components.common.inspection import Network, answer, to_prediction
from defectline.components.common.statistics import brightness_and_contrast
from defectline.components.serve.admission import Admission, processors, workers_for
from defectline.components.serve.monitoring.drift import Drift
from defectline.components.serve.monitoring.logs import Trace, log
from defectline.components.serve.monitoring.metrics import Metrics
from defectline.components.serve.monitoring.observers import Observed, Observers
from defectline.components.serve.protocol.errors import Refusal
from defectline.components.serve.protocol.requests import Asked, check_sizes, new_request_id
from defectline.components.serve.protocol.responses import Answered, Judged, encode
from defectline.components.serve.sdk import Model


class Source(Protocol):
    """Where bundles come from."""

    def state(self) -> str:
        """Another string than before once there may be another bundle; cheap."""
        ...

    def fetch(self) -> Path:
        """The folder of the bundle that should be served. Raises DefectlineError."""
        ...


class Folder:
    """The bundle in one folder, whatever is put there."""

    def __init__(self, folder: Path):
        self.folder = folder

    def state(self) -> str:
        try:
            return hashlib.sha256((self.folder / checksums.NAME).read_bytes()).hexdigest()
        except OSError:
            return ""

    def fetch(self) -> Path:
        return self.folder


class Loaded(NamedTuple):
    """A bundle that can answer."""

    bundle: Bundle
    network: Network
    precision: str
    """Of the network: INT8 or float32."""
    seal: str
    """SHA-256 of its SHA256SUMS."""
    drift: Drift


class Loading(NamedTuple):
    """How bundles are loaded."""

    threads: int = 1
    engine: EngineName = "openvino"
    drift_window: int = 1000


def load(folder: Path, how: Loading) -> Loaded:
    """Check the bundle's files, compile its network and answer once, so that the first request is fast too.

    Raises BundleError where the folder does not hold what was sealed, or no network for the engine;
    SettingsError where the engine cannot be used.
    """
    seal = Folder(folder).state()
    bundle = read_bundle(folder)
    size, channels = bundle.imaging.image_size, bundle.imaging.channels
    network = Network(_network_file(folder, bundle, how.engine), bundle.imaging, how.threads, how.engine)
    blank = np.zeros((size, size, channels), np.uint8)
    encode(answer(network.levels_of(blank), bundle.threshold, bundle.min_area_px).mask, "png")
    precision = bundle.precision if how.engine == "openvino" else "float32"
    return Loaded(bundle, network, precision, seal, Drift.of_model(folder, how.drift_window))


def _network_file(folder: Path, bundle: Bundle, engine: EngineName) -> Path:
    if engine == "openvino":
        return folder / bundle.network
    file = folder / GPU_NETWORK
    if not file.exists():
        raise BundleError(
            f"The bundle in {folder} has no network for the engine {engine}.",
            got=f"no {GPU_NETWORK}",
            expected=f"{GPU_NETWORK} beside bundle.json",
            fix="Deploy the model again with this version of defectline, or serve with --engine openvino.",
        )
    return file


class DefectModel(Model):
    """Serves one published model, under its name and its aliases."""

    def __init__(
        self,
        name: str,
        source: Source | Path,
        threads: int = 0,
        admission: Admission | None = None,
        metrics: Metrics | None = None,
        aliases: Sequence[str] = (),
        max_pixels: int = 50_000_000,
        engine: EngineName = "openvino",
        drift_window: int = 1000,
    ):
        super().__init__(name)
        self.names = (name, *aliases)
        self.source = Folder(source) if isinstance(source, Path) else source
        threads = threads or processors()
        self.admission = admission or Admission(workers_for(threads), queue=32, deadline_s=5)
        self.metrics = metrics or Metrics()
        self.observers = Observers(self.metrics)
        self.observers.callables.append(self._watch_drift)
        self.how = Loading(threads, engine, drift_window)
        self.max_pixels = max_pixels
        self.loaded: Loaded | None = None
        self.ending = False
        """Whether the process was told to stop."""
        self._switching = asyncio.Lock()
        self._state = ""
        self.metrics.waiting.set_function(lambda: self.admission.waiting)
        self.metrics.running.set_function(lambda: self.admission.running)
        self.metrics.ready.set_function(lambda: not self.unready())

    # Loading and switching

    def load(self) -> bool:
        """Load the first bundle. Raises DefectlineError."""
        self._state = self.source.state()
        self._take(load(self.source.fetch(), self.how))
        self.ready = True
        return True

    def _take(self, loaded: Loaded) -> None:
        if self.loaded is not None:
            self.metrics.registry.unregister(self.loaded.drift)
        self.loaded = loaded
        loaded.drift.expose(self.metrics.registry)
        self.metrics.serves(self.name, loaded.bundle.version, loaded.precision)

    async def switch(self) -> None:
        """Load what the source has now and serve it from the next request on.

        Requests under way are answered by the version that they began with. A bundle that cannot be loaded
        leaves the present one serving.
        """
        async with self._switching:
            assert self.loaded is not None
            former = self.loaded.bundle.version
            seal = self.loaded.seal
            self._state = await asyncio.to_thread(self.source.state)
            try:
                folder = await asyncio.to_thread(self._fetch_other, seal)
                if folder is None:
                    log("the model is the same as before", model_version=former)
                    return
                version = await asyncio.to_thread(self._exchange, folder)
            except DefectlineError as error:
                self.metrics.switches.labels("failed").inc()
                log(
                    "the new model cannot be served; the present one stays",
                    logging.ERROR,
                    model_version=former,
                    **vars(error),
                )
                if not isinstance(error, BundleError):
                    # A store that did not answer may do so next time.
                    self._state = ""
                return
            self.metrics.switches.labels("done").inc()
            log("another model serves", model_version=version, former_version=former)

    def _fetch_other(self, seal: str) -> Path | None:
        """The folder of what the source has now; None where that is what serves."""
        folder = self.source.fetch()
        if Folder(folder).state() == seal:
            return None
        return folder

    def _exchange(self, folder: Path) -> str:
        self._take(load(folder, self.how))
        assert self.loaded is not None
        return self.loaded.bundle.version

    async def watch(self, seconds: float) -> None:
        """Switch whenever the source has something else; for ever."""
        lost = False
        while True:
            await asyncio.sleep(seconds)
            try:
                state = await asyncio.to_thread(self.source.state)
            except DefectlineError as error:
                if not lost:
                    log("the source of models does not answer", logging.WARNING, **vars(error))
                lost = True
                continue
            lost = False
            if state != self._state:
                await self.switch()

    # Readiness

    def unready(self) -> str:
        """Why no new request is welcome; empty where one is."""
        if self.loaded is None:
            return "No model is loaded yet."
        if self.ending:
            return "The server is about to end."
        if self.admission.stuck:
            return "A picture is being judged without end."
        return ""

    async def healthy(self) -> bool:
        return not self.unready()

    def check(self, name: str, version: str | None = None) -> Loaded:
        """What serves under this name. Raises Refusal."""
        if name not in self.names:
            raise Refusal("not_found", f"There is no model {name[:60]!r}. This server has {self.name}.")
        if self.loaded is None:
            raise Refusal("not_ready", self.unready())
        if version is not None and version != self.loaded.bundle.version:
            raise Refusal("not_found", f"{self.name} serves in version {self.loaded.bundle.version} alone.")
        return self.loaded

    def check_ready(self, name: str, version: str | None = None) -> None:
        self.check(name, version)
        if reason := self.unready():
            raise Refusal("not_ready", reason)

    # Judging

    async def predict(
        self,
        payload: Asked,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
        trace: Trace | None = None,
        model_name: str = "",
    ) -> Answered:
        """Judge the pictures of one request, in a thread. Raises Refusal."""
        trace = trace or Trace(new_request_id(payload.parameters.request_id))
        # One request's pictures are judged one after the other, and nobody stops them once they are begun.
        pixels = max(check_sizes(payload.pictures, self.max_pixels))
        asked_at = time.perf_counter()
        judged, version = await self.admission.run(lambda: self._judge_all(payload, trace, asked_at), pixels)
        self._count(judged, trace)
        return Answered(judged, model_name or self.name, version, trace.request_id)

    def _judge_all(self, asked: Asked, trace: Trace, asked_at: float) -> tuple[list[Judged], str]:
        self._stage(trace, "queue", asked_at)
        loaded = self.loaded
        assert loaded is not None
        trace.version = loaded.bundle.version
        return [self._judge(loaded, asked, p, trace) for p in asked.pictures], loaded.bundle.version

    def _judge(self, loaded: Loaded, asked: Asked, picture: bytes, trace: Trace) -> Judged:
        bundle, begun = loaded.bundle, time.perf_counter()
        threshold = bundle.threshold if asked.parameters.threshold is None else asked.parameters.threshold
        try:
            image = decode_image(picture, bundle.imaging.channels)
            at = self._stage(trace, "decode", begun)
            levels = loaded.network.levels_of(image)
        except UnreadableImage as error:
            raise Refusal("invalid_image", _in_words(error)) from error
        at = self._stage(trace, "infer", at)
        found = answer(levels, threshold, bundle.min_area_px)
        prediction = to_prediction(found, bundle.grades, mask=False)
        mask = encode(found.mask, asked.mask)
        ended = self._stage(trace, "answer", at)
        self.observers.tell(
            Observed(
                picture,
                image,
                levels,
                prediction,
                found.mask,
                trace.request_id,
                asked.protocol,
                bundle,
                threshold,
            )
        )
        return Judged(prediction, mask, round((ended - begun) * 1000, 1))

    def _watch_drift(self, observed: Observed) -> None:
        loaded = self.loaded
        # The last answers of a former model may still be under way.
        if loaded is not None and loaded.bundle is observed.bundle:
            loaded.drift.see(*brightness_and_contrast(observed.image), observed.verdict)

    def _stage(self, trace: Trace, stage: str, begun: float) -> float:
        """Note how long a stage took; when it ended."""
        now = time.perf_counter()
        trace.add(stage, now - begun)
        self.metrics.stages.labels(stage).observe(now - begun)
        return now

    def _count(self, judged: Sequence[Judged], trace: Trace) -> None:
        for one in judged:
            verdict = one.prediction["verdict"]
            trace.verdicts.append(verdict)
            self.metrics.verdicts.labels(verdict).inc()
            if verdict == "NG":
                self.metrics.area.observe(one.prediction["defect_area_ratio"])


def _in_words(error: UnreadableImage) -> str:
    if isinstance(error.__cause__, UnidentifiedImageError):
        # The fix is for who has a folder of files.
        return f"These bytes are no picture. Got {error.got}. Send PNG, JPEG, BMP, TIFF or WebP."
    # What a decoder's exception says is for the log; `got` holds it where there is such a cause.
    if error.__cause__ is None:
        return f"{error.what} Got {error.got}. {error.fix}"
    return f"{error.what} {error.fix}"
