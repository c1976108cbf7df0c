"""The report: one HTML file that needs no network and no script, for the store and for KFP's page."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import jinja2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.bundle import Bundle
from defectline.components.common.drawing import data_uri, outline, picture_uri
from defectline.components.common.imaging import decode_image
from defectline.components.common.inspection import Answer
from defectline.components.evaluate.gate import Rule, passed
from defectline.components.evaluate.metrics import Count, Interval

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TRUTH, FOUND = (46, 204, 113), (231, 76, 60)
"""Outline colours (RGB) of the true defect and of the found one."""
WIDTH_PX = 448
"""Small pictures are shown about this wide, large ones at most half as wide again."""


class Case(NamedTuple):
    """One test picture: its bytes, true mask (H, W), the answer, and the highest probability where the
    truth has its defect (of a good picture: anywhere)."""

    id: str
    image: bytes
    truth: NDArray[np.uint8]
    answer: Answer
    peak: float


class Report(NamedTuple):
    run: str
    bundle: Bundle
    champion: str
    champion_metrics: Mapping[str, float | int | None] | None
    rules: Sequence[Rule]
    counts: Sequence[Count]
    intervals: Mapping[str, Interval | None]
    cases: Sequence[Case]
    history: bytes
    """The training's curves, PNG."""


class _Shown(NamedTuple):
    id: str
    wrong: bool
    headline: str
    why: str
    plain: str
    truth: str
    found: str


def render(report: Report) -> str:
    """The page as text. Pictures are inside it as data URIs."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    cases = [_show(case, report.bundle) for case in report.cases]
    return environment.get_template("report.html").render(
        report=report,
        bundle=report.bundle,
        test=report.bundle.metrics["test"],
        validation=report.bundle.metrics["validation"],
        passed=passed(list(report.rules)),
        missed=sum(count.missed for count in report.counts),
        escapes=sum(count.label == "NG" and count.verdict == "OK" for count in report.counts),
        overkills=sum(count.label == "OK" and count.verdict == "NG" for count in report.counts),
        wrong=[case for case in cases if case.wrong],
        right=[case for case in cases if not case.wrong],
        curves=data_uri(_curves(report)),
        history=data_uri(report.history),
        number=lambda value: "–" if value is None else f"{value:.3f}",
    )


def explain(case: Case, bundle: Bundle) -> tuple[bool, str, str]:
    """Whether the answer is wrong, its headline, and why it came out so."""
    true, answer = case.truth.astype(bool), case.answer
    area, found = int(true.sum()), answer.mask.astype(bool)
    limit = f"threshold {bundle.threshold:.3f}"
    if area and answer.verdict == "OK":
        why = f"The defect of {area} px reached {case.peak:.3f} at most, below the {limit}."
        if case.peak >= bundle.threshold:
            why = (
                f"The defect of {area} px reached {case.peak:.3f}, but no region of "
                f"{bundle.min_area_px} px or more lies above the {limit}."
            )
        return True, "Escape: defective, called OK", why
    if not area and answer.verdict == "NG":
        region, others = answer.regions[0], len(answer.regions) - 1
        which = (
            f"{others + 1} regions above the {limit}; the largest"
            if others
            else f"1 region above the {limit}; it"
        )
        why = (
            f"{which} has {region.area_px} px at x {region.bbox[0]}, y {region.bbox[1]}, "
            f"probability {region.score:.3f} at most."
        )
        return True, "Overkill: good, called NG", why
    if not area:
        return False, "Good, called OK", f"Score {answer.score:.3f}, {limit}."
    overlap = np.count_nonzero(true & found)
    iou = overlap / np.count_nonzero(true | found)
    parts = f"{overlap} of {area} px found, {np.count_nonzero(found & ~true)} px too many: IoU {iou:.2f}."
    if not overlap:
        return True, "Right verdict for the wrong place", f"Nothing of the defect was found. {parts}"
    return False, "Defective, called NG", f"Score {answer.score:.3f}, {limit}. {parts}"


def _show(case: Case, bundle: Bundle) -> _Shown:
    image = decode_image(case.image, channels=3)
    scale = max(1, WIDTH_PX // image.shape[1])
    if image.shape[1] > 1.5 * WIDTH_PX:
        scale = 1.5 * WIDTH_PX / image.shape[1]
    resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    wrong, headline, why = explain(case, bundle)
    return _Shown(
        case.id,
        wrong,
        headline,
        why,
        plain=picture_uri(resized),
        truth=picture_uri(outline(resized, case.truth, TRUTH)),
        found=picture_uri(outline(resized, case.answer.mask, FOUND)),
    )


def _curves(report: Report) -> bytes:
    """Scores of all test pictures against the threshold, and what other thresholds would have done."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    scores = {label: np.array([c.score for c in report.counts if c.label == label]) for label in ("OK", "NG")}
    bins = np.linspace(0, 1, 26)
    for label, colour in (("OK", "#2e8b57"), ("NG", "#c0392b")):
        left.hist(scores[label], bins=bins, alpha=0.7, label=f"{label} ({len(scores[label])})", color=colour)
    left.set(title="Scores of test pictures", xlabel="score", ylabel="pictures")
    cuts = np.linspace(0, 1, 501)
    if len(scores["NG"]):
        right.plot(cuts, [np.mean(scores["NG"] < t) for t in cuts], color="#c0392b", label="escape")
    if len(scores["OK"]):
        right.plot(cuts, [np.mean(scores["OK"] >= t) for t in cuts], color="#2e8b57", label="overkill")
    right.set(title="Rates at other thresholds", xlabel="threshold", ylabel="rate", ylim=(-0.02, 1.02))
    for axis in (left, right):
        axis.axvline(report.bundle.threshold, color="#222222", linestyle="--", linewidth=1)
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    plt.close(figure)
    return out.getvalue()
