"""What a report is made of: pictures with truth and answer, without a network."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from networks import draw
from numpy.typing import NDArray
from pictures import accepted

from defectline.components.common.bundle import Bundle, Data
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.common.inference.inspection import Grades, answer
from defectline.components.evaluate.champion import ChampionResult, choose_opponent
from defectline.components.evaluate.gate import judge
from defectline.components.evaluate.metrics import count, intervals, summarize
from defectline.components.evaluate.pixels import Pixels
from defectline.components.evaluate.reporting.examples import Example, ExampleCollector
from defectline.components.evaluate.reporting.report import Report
from defectline.components.evaluate.scoring import Evaluated, Scored
from defectline.components.evaluate.settings import EvaluateSettings
from defectline.components.train.progress.history import plot_history

CHAMPION = "v20250101-000000-000000"


THRESHOLD, AREA = 0.6, 20


Picture = tuple[str, NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint16]]
"""Id, image (H, W), truth (H, W), score map (H, W)."""


def report_bundle(grades: Grades | None = None, note: str = "", **metrics) -> Bundle:
    return Bundle(
        version="v20260102-030405-abcdef",
        name="plates",
        created="2026-01-02T03:04:05+00:00",
        imaging=ImagingSettings(image_size=224),
        threshold=THRESHOLD,
        min_area_px=AREA,
        calibration_note=note,
        grades=grades,
        metrics=metrics,
        data=Data(
            snapshot="0123456789abcdef",
            fingerprint="f" * 64,
            pairs={"train": 24, "validation": 8, "test": 8},
        ),
        training={"epochs": 60, "encoder_weights": "s3://bucket/" + "a-long-name-" * 12 + ".h5", "seed": 0},
        golden=[],
    )


def as_png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def evaluate_picture(picture: Picture) -> Evaluated:
    id, image, truth, score_map = picture
    given = answer(score_map, THRESHOLD, AREA)
    pair = accepted(0, id[:2])._replace(id=id, pixel_sha256=id)
    return Evaluated(pair, as_png(image), truth, score_map, given, count(id, id[:2], given, truth))


def collect(picture: Picture) -> Example:
    collector = ExampleCollector()
    collector.add(evaluate_picture(picture))
    (example,) = collector.examples
    return example


def score_pictures(pictures: Sequence[Picture], collector: ExampleCollector) -> Scored:
    scored = Scored([], Pixels())
    for picture in pictures:
        evaluated = evaluate_picture(picture)
        scored.counts.append(evaluated.counted)
        scored.pixels.see(evaluated.score_map, evaluated.truth)
        collector.add(evaluated)
    return scored


def make_report(
    folder: Path,
    pictures: Sequence[Picture],
    champion: Sequence[Picture] | None = None,
    note: str = "there was no champion",
    calibration: str = "",
    **settings,
) -> Report:
    """A report on what the challenger, and perhaps a champion, answered to the pictures."""
    chosen = EvaluateSettings(**settings)
    champion_result = (
        ChampionResult(score_pictures(champion, ExampleCollector()), "")
        if champion
        else ChampionResult(None, note)
    )
    answered = champion_result.scored.counts if champion_result.scored else []
    collector = ExampleCollector(champion={count.id: count.verdict for count in answered})
    scored = score_pictures(pictures, collector)
    opponent, note = choose_opponent(champion_result, champion_result, "of new pictures", "", "better")
    test = summarize(*scored)
    history = [{"epoch": n, "loss": 1 / n, "val_loss": 1 / n, "iou": 0.1, "val_iou": 0.1} for n in (1, 2)]
    plot_history(history, folder / "history.png")
    return Report(
        run="run-1",
        bundle=report_bundle(chosen.grades, calibration, test=test, validation=test),
        settings=chosen,
        champion=CHAMPION if champion else "",
        champion_result=champion_result,
        rules=judge(scored.counts, opponent, chosen, note),
        scored=scored,
        intervals=intervals(scored.counts),
        kinds=collector.kinds,
        rejected=3,
        history=(folder / "history.png").read_bytes(),
        store="s3://plates/store",
    )


def box(y: int, x: int, height: int, width: int, value: int = 1, size: int = 224) -> np.ndarray:
    array = np.zeros((size, size), np.uint16 if value > 1 else np.uint8)
    array[y : y + height, x : x + width] = value
    return array


def make_picture(id: str, truth: np.ndarray, score_map: np.ndarray, seed: int = 0) -> Picture:
    """A drawn picture of which the network gave `score_map`."""
    image, _ = draw("OK", np.random.default_rng(seed), size=score_map.shape[0])
    image[truth > 0] = 250
    return id, image, truth, score_map


DEFECT = box(40, 60, 10, 30)


NONE = np.zeros((224, 224), np.uint8)


PICTURES = [
    make_picture("NG/small", DEFECT, box(40, 60, 3, 5, 900)),
    make_picture("NG/dim<b>", DEFECT, box(40, 60, 10, 30, 450)),
    make_picture("NG/elsewhere", DEFECT, box(140, 160, 10, 10, 900)),
    make_picture("OK/two-specks", NONE, box(100, 20, 5, 6, 655) + box(50, 120, 6, 7, 655)),
    make_picture("OK/one-speck", NONE, box(100, 20, 5, 6, 733)),
    *[make_picture(f"NG/found-{n}", DEFECT, box(40, 62, 10, 30, 950), n) for n in range(3)],
    *[make_picture(f"OK/clean-{n}", NONE, box(5, 5, 2, 2, 300), n) for n in range(4)],
]


BETTER = [(id, image, truth, truth.astype(np.uint16) * 900) for id, image, truth, _ in PICTURES]
"""What a champion without a fault would say."""
