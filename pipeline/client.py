"""Ask an endpoint about pictures, and draw what it found."""

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import requests
from PIL import Image

from defectline.components.common.errors import ServingError, SettingsError
from defectline.components.common.imaging import decode_image, decode_mask

OUTLINE = (231, 76, 60)


def inspect(picture: Path, url: str, name: str, timeout_s: float = 30) -> dict[str, Any]:
    """The endpoint's prediction for one picture file. Raises SettingsError and ServingError."""
    try:
        data = picture.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{picture} cannot be read.",
            got=error.strerror or str(error),
            expected="a picture file",
            fix="Check the path.",
        ) from error
    address = f"{url.rstrip('/')}/v1/models/{name}:predict"
    try:
        answer = requests.post(address, data=data, headers={"Content-Type": "image/*"}, timeout=timeout_s)
    except requests.RequestException as error:
        raise ServingError(
            f"{url} does not answer.",
            got=type(error).__name__,
            expected="a running endpoint",
            fix="Start one with `make serve`, or correct --url.",
        ) from error
    if answer.status_code != 200:
        raise ServingError(
            f"The endpoint does not accept {picture}.",
            got=f"HTTP {answer.status_code}: {answer.text[:200]}",
            expected="HTTP 200",
            fix="Check the picture, and that --name is the model's name.",
        )
    try:
        return answer.json()["predictions"][0]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ServingError(
            f"{address} gives no prediction.",
            got=answer.text[:200],
            expected="an endpoint of defectline",
            fix="Correct --url.",
        ) from error


def draw_overlay(picture: Path, prediction: dict[str, Any], target: Path) -> None:
    """Write the picture with the found regions outlined and the verdict above, as PNG.

    Raises SettingsError where `target` cannot be written.
    """
    image = decode_image(picture.read_bytes(), channels=3)
    mask = decode_mask(base64.b64decode(prediction["mask_png"]))
    scale = max(1, round(448 / image.shape[1]))
    image = np.repeat(np.repeat(image, scale, axis=0), scale, axis=1)
    mask = np.repeat(np.repeat(mask, scale, axis=0), scale, axis=1)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    unit = image.shape[1] / 448
    line = max(1, round(unit))
    image = cv2.drawContours(image.copy(), contours, -1, OUTLINE, line)
    head = np.full((round(34 * unit), image.shape[1], 3), 24, np.uint8)
    text = f"{prediction['verdict']}  score {prediction['score']:.3f}  {prediction['defect_area_px']} px"
    place = (round(10 * unit), round(23 * unit))
    cv2.putText(head, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.55 * unit, (255, 255, 255), line, cv2.LINE_AA)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.vstack([head, image])).save(target, "PNG")
    except OSError as error:
        raise SettingsError(
            f"{target} cannot be written.",
            got=error.strerror or str(error),
            expected="a folder that this user may write to",
            fix="Name another one with --overlays.",
        ) from error
