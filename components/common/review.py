"""Frames of the line that people look at, and what they decide.

review/<model>/<date>/                   of the day (UTC) when the frame came
  <id>.png, .jpg, …                      the frame as it was sent; the id begins its SHA-256
  <id>.json                              a `Frame`: written last, so a frame that has it is whole
  <id>.mask-<digest>.png                 a mask that a person drew, 1-bit PNG
  <id>.decision.json                     a `Decision`
"""

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Verdict = Literal["OK", "NG"]
Decided = Verdict | Literal["open"]
"""What people decide; `open` takes a decision back."""
Reason = Literal["near_level", "near_threshold", "novel", "random", "asked", "label"]
"""Why a frame was kept; `near_threshold` is what earlier versions wrote, `novel` is unlike the training
pictures, `label` that of a picture of the source whose label is doubted."""
SUFFIXES = {"PNG": "png", "JPEG": "jpg", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp"}
"""Pillow's name of a format → how its files are called here."""


class Frame(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    model: str
    version: str
    taken: str
    """ISO 8601, UTC."""
    reason: Reason
    worth: float = 0.0
    """What looking at it teaches, compared with other frames of its reason; from 0 to 1."""
    features: str = ""
    """Of a novel one, what the network's encoder sees in it: base64 of float16 (C,), so that those which look
    like it are not kept as well."""
    threshold: float
    picture: str
    """Name of its file."""
    prediction: dict[str, Any]
    """What the endpoint answered, mask included; of a picture whose label is doubted, the verdict of networks
    that had not learned it, and the mask that it has."""
    labelled: Verdict | None = None
    image: str = ""
    source: str = ""
    """Of a picture whose label is doubted: its label, and its key in which source."""


class Decision(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Decided
    """What the part really is; `open` where the decision was taken back."""
    decided: str
    """ISO 8601, UTC."""
    by: str = ""
    """Who decided; "" in older decisions."""
    mask: str = ""
    """Name of a mask's file; empty for the predicted one, and where the part is OK."""
    classes: tuple[str, ...] = ()
    """Names of the numbers in that mask; empty where they are those of the source."""
    exported: tuple[str, ...] = ()
    """URIs of the sources that have got the pair."""


def frame_id(picture: bytes) -> str:
    """32 hexadecimal digits that the same bytes always get."""
    return hashlib.sha256(picture).hexdigest()[:32]
