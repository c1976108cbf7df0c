"""The model that is served: it loads bundles, judges pictures, and reports whether it is ready."""

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from PIL import UnidentifiedImageError

from defectline.components.common.bundle import GPU_NETWORK, Bundle, Rate, bundle_roi, read_bundle
from defectline.components.common.errors import BundleError, DefectlineError
from defectline.components.common.images.masks import encode_mask
from defectline.components.common.images.reading import UnreadableImage, decode_image
from defectline.components.common.images.statistics import brightness_and_contrast
from defectline.components.common.inference.engine import EngineName
from defectline.components.common.inference.inspection import judge, to_prediction
from defectline.components.common.inference.network import Network
from defectline.components.common.inference.novelty import Novelty, read_novelty
from defectline.components.common.trust.signatures import signer_of
from defectline.components.serve.admission import Admission, processors, workers_for
from defectline.components.serve.monitoring.drift import Drift
from defectline.components.serve.monitoring.logs import Trace, log
from defectline.components.serve.monitoring.metrics import Metrics
from defectline.components.serve.monitoring.observers import Observation, Observers
from defectline.components.serve.monitoring.spans import Spans
from defectline.components.serve.protocol.errors import ApiError
from defectline.components.serve.protocol.requests import InferenceRequest, check_sizes, new_request_id
from defectline.components.serve.protocol.responses import ImageResult, InferenceResponse, encode, judge_part
from defectline.components.serve.sdk import Model
from defectline.components.serve.settings import ServeSettings
from defectline.components.serve.sources import Folder, Source, seal_of


class LoadedModel(NamedTuple):
    """A bundle and its compiled network."""

    bundle: Bundle
    network: Network
    precision: str
    """Of the network: INT8 or float32."""
    seal: str
    """SHA-256 of its SHA256SUMS."""
    drift: Drift
    novelty: Novelty | None
    roi: bytes
    """The region of interest, a 1-bit PNG; b"" where there is none."""
    signer: str
    """The fingerprint of the key that signed it; "" where it is not signed."""


def load(folder: Path, settings: ServeSettings) -> LoadedModel:
    """Check the bundle's files, compile its network and answer once, so that the first request is fast too.

    Raises BundleError where the files are not what was sealed, or there is no network for the engine;
    SettingsError where the engine cannot be used.
    """
    seal = seal_of(folder)
    bundle = read_bundle(folder)
    roi = bundle_roi(folder)
    height, width = roi.shape if roi is not None else (bundle.imaging.image_size,) * 2
    network = Network(
        _network_file(folder, bundle, settings.engine),
        bundle.imaging,
        settings.threads,
        settings.engine,
        bundle.classes,
        roi,
        bundle.first_look,
    )
    blank = np.zeros((height, width, bundle.imaging.channels), np.uint8)
    encode(judge(network.maps_of(blank), bundle.threshold, bundle.min_area_px, bundle.ng_from), "png")
    precision = bundle.precision if settings.engine == "openvino" else "float32"
    drift = Drift.of_model(folder, settings.drift_window)
    mask = b"" if roi is None else encode_mask(roi)
    novelty = read_novelty(folder)
    return LoadedModel(bundle, network, precision, seal, drift, novelty, mask, signer_of(folder))


def _network_file(folder: Path, bundle: Bundle, engine: EngineName) -> Path:
    if engine == "openvino":
        return folder / bundle.network
    file = folder / GPU_NETWORK
    if not file.exists():
        raise BundleError(
            f"The bundle in {folder} has no network for the engine {engine}.",
            got=f"no {GPU_NETWORK}",
            expected=f"{GPU_NETWORK} next to bundle.json",
            fix="Deploy the model again with this version of defectline, or serve with --engine openvino.",
        )
    return file


def make_admission(settings: ServeSettings) -> Admission:
    """For all models of a process that have these settings."""
    workers = workers_for(settings.threads or processors())
    return Admission(workers, settings.queue, settings.deadline_ms / 1000)


class DefectModel(Model):
    """Serves one published model, under its name and its aliases."""

    def __init__(
        self,
        name: str,
        source: Source | Path,
        settings: ServeSettings | None = None,
        aliases: Sequence[str] = (),
        admission: Admission | None = None,
    ):
        """`admission` is that of the process, where it serves several models."""
        super().__init__(name)
        self.names = (name, *aliases)
        self.beside: tuple[str, ...] = ()
        """Names of the other models that the process serves."""
        self.source = Folder(source) if isinstance(source, Path) else source
        settings = settings or ServeSettings()
        self.settings = settings.model_copy(update={"threads": settings.threads or processors()})
        self.admission = admission or make_admission(self.settings)
        self.metrics = Metrics()
        self.observers = Observers(self.metrics)
        self.observers.add(self._watch_drift)
        self.loaded: LoadedModel | None = None
        self.keeps_frames = False
        """Whether frames can be kept for review."""
        self.spans: Spans | None = None
        """Where each request is told to OpenTelemetry as well."""
        self.draining = False
        """The process is stopping: requests are still answered, but not ready."""
        self._switching = asyncio.Lock()
        self._state = self._distrusted = ""
        self.metrics.waiting.set_function(lambda: self.admission.waiting(name))
        self.metrics.running.set_function(lambda: self.admission.running(name))
        self.metrics.ready.set_function(lambda: not self.not_ready_reason())
        for rate in get_args(Rate):
            self.metrics.guarantee.labels(rate).set_function(partial(self._guaranteed, rate))

    # Loading and switching

    def load(self) -> bool:
        """Load the first bundle. Raises DefectlineError."""
        self._state = self.source.state()
        self._activate(load(self.source.fetch(), self.settings))
        self.ready = True
        return True

    def _activate(self, loaded: LoadedModel) -> None:
        if self.loaded is not None:
            self.metrics.registry.unregister(self.loaded.drift)
        self.loaded = loaded
        loaded.drift.expose(self.metrics.registry)
        bundle = loaded.bundle
        self.metrics.serves(self.name, bundle.version, loaded.precision, bundle.classes)
        if self.keeps_frames and loaded.novelty is None:
            # Its day would look as if nothing new had come.
            log(
                "no frame is kept as novel: the bundle has no novelty.npz; one of a new run has",
                logging.WARNING,
                model_version=bundle.version,
            )

    async def switch(self) -> None:
        """Load what the source has now and serve it from the next request on.

        Requests under way are answered by the version that they began with. Where the bundle cannot be
        loaded, the present one goes on serving.
        """
        async with self._switching:
            assert self.loaded is not None
            previous = self.loaded.bundle.version
            seal = self.loaded.seal
            self._state = await asyncio.to_thread(self.source.state)
            try:
                folder = await asyncio.to_thread(self._fetch_other, seal)
                self._distrusted = ""
                if folder is None:
                    log("the model is the same as before", model_version=previous)
                    return
                version = await asyncio.to_thread(self._reload, folder)
            except DefectlineError as error:
                self.metrics.switches.labels("failed").inc()
                log(
                    "the new model cannot be served; the present one stays",
                    logging.ERROR,
                    model_version=previous,
                    **vars(error),
                )
                if not self.source.trusts(self.loaded.signer):
                    self._distrusted = "The key that signed the model is not trusted any more."
                if not isinstance(error, BundleError):
                    # A store that did not answer may do so next time.
                    self._state = ""
                return
            self.metrics.switches.labels("done").inc()
            log("another model serves", model_version=version, previous_version=previous)

    def _fetch_other(self, seal: str) -> Path | None:
        """The folder of what the source has now; None where that is what serves."""
        folder = self.source.fetch()
        if seal_of(folder) == seal:
            return None
        return folder

    def _reload(self, folder: Path) -> str:
        self._activate(load(folder, self.settings))
        assert self.loaded is not None
        return self.loaded.bundle.version

    async def watch(self, seconds: float) -> None:
        """Switch whenever the source has another bundle. Never returns."""
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

    def not_ready_reason(self) -> str:
        """Why no new request should come; empty where the model is ready."""
        if self.loaded is None:
            return "No model is loaded yet."
        if self.draining:
            return "The server is shutting down."
        if self._distrusted:
            return self._distrusted
        if self.admission.stuck:
            return "A thread hangs on a picture."
        return ""

    async def healthy(self) -> bool:
        return not self.not_ready_reason()

    def _guaranteed(self, rate: Rate) -> bool:
        """Whether all that is promised of the rate holds, and the last frames look like those that the model
        was judged on."""
        if self.loaded is None:
            return False
        of_rate = [promise.holds for promise in self.loaded.bundle.promises if promise.rate == rate]
        return bool(of_rate) and all(of_rate) and not self.loaded.drift.tripped()

    def check(self, name: str, version: str | None = None) -> LoadedModel:
        """The model that serves under this name. Raises ApiError."""
        if name not in self.names:
            there = ", ".join((self.name, *self.beside))
            raise ApiError("not_found", f"There is no model {name[:60]!r}. This server has {there}.")
        if self.loaded is None:
            raise ApiError("not_ready", self.not_ready_reason())
        if version is not None and version != self.loaded.bundle.version:
            raise ApiError("not_found", f"{self.name} serves only version {self.loaded.bundle.version}.")
        return self.loaded

    def check_ready(self, name: str, version: str | None = None) -> None:
        self.check(name, version)
        if reason := self.not_ready_reason():
            raise ApiError("not_ready", reason)

    # Judging

    async def predict(
        self,
        payload: InferenceRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
        trace: Trace | None = None,
        model_name: str = "",
    ) -> InferenceResponse:
        """Judge the pictures of one request, in a thread. Raises ApiError."""
        trace = trace or Trace(new_request_id(payload.parameters.request_id))
        if payload.parameters.review and not self.keeps_frames:
            raise ApiError("invalid_request", "This server keeps nothing for review: --review starts it.")
        # The pictures of a request are judged one after the other; once begun, a request runs to its end.
        pixels = max(check_sizes(payload.pictures, self.settings.max_pixels))
        asked_at = time.perf_counter()
        results, bundle = await self.admission.run(
            lambda: self._judge_all(payload, trace, asked_at), pixels, self.name
        )
        self._count(results, trace)
        part = None
        if how := payload.parameters.part:
            scores = [result.prediction["score"] for result in results]
            part = judge_part(scores, how, *_levels(payload, bundle))
        return InferenceResponse(results, model_name or self.name, bundle.version, trace.request_id, part)

    def _judge_all(
        self, request: InferenceRequest, trace: Trace, asked_at: float
    ) -> tuple[list[ImageResult], Bundle]:
        self._stage(trace, "queue", asked_at)
        loaded = self.loaded
        assert loaded is not None
        trace.version = loaded.bundle.version
        results = [self._judge(loaded, request, picture, trace) for picture in request.pictures]
        return results, loaded.bundle

    def _judge(
        self, loaded: LoadedModel, request: InferenceRequest, picture: bytes, trace: Trace
    ) -> ImageResult:
        bundle, begun = loaded.bundle, time.perf_counter()
        threshold, ng_from = _levels(request, bundle)
        try:
            image = decode_image(picture, bundle.imaging.channels)
            at = self._stage(trace, "decode", begun)
            maps = loaded.network.maps_of(image)
        except UnreadableImage as error:
            raise ApiError("invalid_image", _describe(error)) from error
        at = self._stage(trace, "infer", at)
        found = judge(maps, threshold, bundle.min_area_px, ng_from)
        prediction = to_prediction(found, bundle.grades, mask=False)
        mask = encode(found, request.mask)
        ended = self._stage(trace, "answer", at)
        self.observers.notify(
            Observation(
                picture,
                image,
                maps,
                prediction,
                found.mask,
                trace.request_id,
                request.protocol,
                bundle,
                threshold,
                request.parameters.review,
                loaded.novelty,
            )
        )
        return ImageResult(prediction, mask, round((ended - begun) * 1000, 1))

    def end(self, trace: Trace, status: int | str) -> None:
        """Count and log a request that has ended, and send its spans."""
        trace.end(status, self.metrics)
        if self.spans:
            self.spans.send(trace, status)

    def _watch_drift(self, observation: Observation) -> None:
        loaded = self.loaded
        # The last answers of a previous model may still be under way.
        # What is sent for review was seen when it came from the line; other pictures are not from there.
        if loaded is not None and loaded.bundle is observation.bundle and observation.review is None:
            loaded.drift.see(*brightness_and_contrast(observation.image), observation.verdict)

    def _stage(self, trace: Trace, stage: str, begun: float) -> float:
        """Note how long a stage took; when it ended."""
        now = time.perf_counter()
        trace.add(stage, begun, now)
        self.metrics.stages.labels(stage).observe(now - begun)
        return now

    def _count(self, results: Sequence[ImageResult], trace: Trace) -> None:
        for result in results:
            verdict = result.prediction["verdict"]
            trace.verdicts.append(verdict)
            self.metrics.verdicts.labels(verdict).inc()
            if verdict != "OK":
                self.metrics.area.observe(result.prediction["defect_area_ratio"])
                self.metrics.by_class.see(result.prediction)


def _levels(request: InferenceRequest, bundle: Bundle) -> tuple[float, float | None]:
    """The caller's threshold, or those of the model."""
    own = request.parameters.threshold
    return (bundle.threshold, bundle.ng_from) if own is None else (own, None)


def _describe(error: UnreadableImage) -> str:
    if isinstance(error.__cause__, UnidentifiedImageError):
        # The fix in the error is for a folder of files.
        return f"These bytes are not a picture. Got {error.got}. Send PNG, JPEG, BMP, TIFF or WebP."
    # Where there is a cause, `got` is the text of a decoder's exception, which is for the log.
    if error.__cause__ is None:
        return f"{error.reason} {error.fix}"
    return f"{error.what} {error.fix}"
