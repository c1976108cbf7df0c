"""Images with what the endpoint found in them; needs NumPy, OpenCV and Pillow."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from defectline.components.common.files import explained
from defectline.components.common.images.colours import colour_of
from defectline.components.common.images.drawing import dim_outside
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.images.reading import decode_image

HEAD_WIDTH = 448
"""Pixels that the line of text above an image needs."""
LONGEST = 4096
"""Side in pixels up to which an image is enlarged."""
DARK = 24
OUTLINE = NG = (231, 76, 60)
COLOURS = {"OK": (46, 160, 90), "LOOK": (230, 160, 30), "NG": NG}


def draw_overlay(data: bytes, prediction: Mapping[str, Any], target: Path, roi: bytes | None = None) -> None:
    """Write the image with the found regions outlined and the verdict above, as PNG.

    `data` is the content of its file. Regions get their boxes where the prediction has no mask. `roi` is the
    region of interest as `Client.roi` gives it: the rest is dimmed. Raises SettingsError where `target`
    cannot be written.
    """
    image = decode_image(data, channels=3)
    # Small images are enlarged to the head's width; of narrow ones that would take gigabytes.
    scale = max(1, min(round(HEAD_WIDTH / image.shape[1]), LONGEST // max(image.shape)))
    mask = _mask(prediction, image.shape[:2])
    image = np.repeat(np.repeat(image, scale, axis=0), scale, axis=1)
    mask = np.repeat(np.repeat(mask, scale, axis=0), scale, axis=1)
    unit = max(1.0, image.shape[1] / HEAD_WIDTH)
    line = round(unit)
    image = dim_outside(image, decode_mask(roi), line) if roi else image.copy()
    names = list(prediction.get("class_areas_px") or {})
    for number in np.unique(mask[mask > 0]).tolist():
        one = (mask == number).astype(np.uint8)
        contours, _ = cv2.findContours(one, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        image = cv2.drawContours(image, contours, -1, colour_of(number) if names else OUTLINE, line)
    margin = max(0, HEAD_WIDTH - image.shape[1])
    image = cv2.copyMakeBorder(image, 0, 0, 0, margin, cv2.BORDER_CONSTANT, value=(DARK,) * 3)
    head = np.full((round(34 * unit), image.shape[1], 3), DARK, np.uint8)
    colour = COLOURS[prediction["verdict"]]
    cv2.rectangle(head, (0, 0), (round(6 * unit), head.shape[0]), colour, cv2.FILLED)
    graded = f"  grade {prediction['grade']}" if prediction.get("grade") else ""
    text = (
        f"{prediction['verdict']}{graded}  score {prediction['score']:.3f}  {prediction['defect_area_px']} px"
    )
    position = (round(16 * unit), round(23 * unit))
    cv2.putText(
        head, text, position, cv2.FONT_HERSHEY_SIMPLEX, 0.55 * unit, (255, 255, 255), line, cv2.LINE_AA
    )
    if names:
        head = np.vstack([head, _legend(names, head.shape[1], unit)])
    with explained(
        f"{target} cannot be written.",
        expected="a folder that this user may write to",
        fix="Name another one with --overlays.",
    ):
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.vstack([head, image])).save(target, "PNG")


def _legend(names: Sequence[str], width: int, unit: float) -> NDArray[np.uint8]:
    """Rows of text (h, width, 3): the name of each class in its colour."""
    font, scale, line, height = cv2.FONT_HERSHEY_SIMPLEX, 0.45 * unit, max(1, round(unit)), round(24 * unit)
    places, x, y = [], round(16 * unit), 0
    for number, name in enumerate(names, start=1):
        # OpenCV's font has ASCII alone.
        text = name.encode("ascii", "replace").decode()
        long = cv2.getTextSize(text, font, scale, line)[0][0] + round(18 * unit)
        if x + long > width and x > round(16 * unit):
            x, y = round(16 * unit), y + height
        places.append((number, text, x, y))
        x += long
    rows = np.full((y + height, width, 3), DARK, np.uint8)
    for number, text, left, top in places:
        position = (left, top + round(16 * unit))
        cv2.putText(rows, text, position, font, scale, colour_of(number), line, cv2.LINE_AA)
    return rows


def _mask(prediction: Mapping[str, Any], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """(H, W), the numbers of classes."""
    if prediction.get("mask_png"):
        return decode_mask(base64.b64decode(prediction["mask_png"]), numbered=True)
    mask, names = np.zeros(shape, np.uint8), list(prediction.get("class_areas_px") or {})
    for region in prediction["regions"]:
        x, y, width, height = region["bbox"]
        mask[y : y + height, x : x + width] = 1 + names.index(region["class"]) if names else 1
    return mask
