"""One model and one predictor for all tests of serve, which only read them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from endpoints import Running, expected, frame, plate, serving
from networks import SIZE, Judged, judge_model
from numpy.typing import NDArray

from defectline.components.common.bundle import ROI, copy_served, read_bundle
from defectline.components.common.images.masks import encode_mask
from defectline.components.common.images.statistics import ImageStats, Statistics, brightness_and_contrast
from defectline.components.common.storage import checksums
from defectline.components.serve.sdk import messages


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """With limits for grades (B for `plate()`), and the statistics of 200 training pictures."""
    judged = judge_model(tmp_path_factory.mktemp("judged") / "one")
    content = json.loads((judged.folder / "bundle.json").read_text())
    area = expected(judged, plate())["defect_area_px"]
    content["grades"] = {"a_px": area - 1, "b_px": area}
    (judged.folder / "bundle.json").write_text(json.dumps(content))
    looks = [
        ImageStats(*brightness_and_contrast(frame(number)[..., None]), 0, number % 4 == 1)
        for number in range(200)
    ]
    Statistics.of(looks).write(judged.folder)
    checksums.seal(judged.folder)
    return judged._replace(bundle=read_bundle(judged.folder))


@pytest.fixture(scope="session")
def model(judged: Judged, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What KServe would pull."""
    folder = tmp_path_factory.mktemp("served") / "model"
    copy_served(judged.folder, folder)
    return folder


@pytest.fixture(scope="session")
def served(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Takes bodies of 4 MB and pictures of 16 megapixels."""
    options = ["--alias", "imagesegmodel", "--max_mb", "4", "--max_megapixels", "16"]
    with serving(model, tmp_path_factory.mktemp("log") / "log", *options) as running:
        yield running
        assert running.process.poll() is None, running.log.read_text()


@pytest.fixture(scope="session")
def roi() -> NDArray[np.uint8]:
    """A region of interest: without the right third of the picture."""
    inside = np.ones((SIZE, SIZE), np.uint8)
    inside[:, SIZE * 2 // 3 :] = 0
    return inside


@pytest.fixture(scope="session")
def framed(
    judged: Judged, roi: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Serves a model with that region of interest."""
    folder = tmp_path_factory.mktemp("framed") / "model"
    copy_served(judged.folder, folder)
    (folder / ROI).write_bytes(encode_mask(roi))
    checksums.seal(folder)
    with serving(folder, tmp_path_factory.mktemp("log") / "log") as running:
        yield running


@pytest.fixture(scope="session")
def call(served: Running) -> Iterator[Callable[..., Any]]:
    """Calls a method of gRPC."""
    with grpc.insecure_channel(served.grpc) as channel:

        def call(method: str, request: Any, answer: Any = None, **more: Any) -> Any:
            kind = answer or getattr(messages, type(request).__name__.replace("Request", "Response"))
            ask = channel.unary_unary(
                f"/inference.GRPCInferenceService/{method}",
                request_serializer=lambda r: r if isinstance(r, bytes) else r.SerializeToString(),
                response_deserializer=kind.FromString,
            )
            return ask(request, timeout=30, **more)

        yield call
