"""Examples of the synthetic defects of training, for the contact sheet."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import DEFECT
from defectline.components.common.synthetic.generator import paint_defects
from defectline.components.ingest.figures import at_page_size, figure


class Good(NamedTuple):
    """A good picture."""

    id: str
    picture: NDArray[np.uint8]
    """RGB (H, W, 3)"""
    roi: NDArray[np.uint8] | None
    """Of any size: 0 where nothing counts; None where all does."""


def paint_examples(pictures: Sequence[Good]) -> list[str]:
    """Cards of HTML: each picture with synthetic defects, plain and outlined.

    They are painted at the page's size, which is about that of training. The defects depend on the pictures
    and their ids alone; pieces are cut out of the next picture.
    """
    small = [at_page_size(one.picture) for one in pictures]
    cards = []
    for one, picture, donor in zip(pictures, small, small[1:] + small[:1], strict=True):
        size = picture.shape[1], picture.shape[0]
        counts = None if one.roi is None else cv2.resize(one.roi, size, interpolation=cv2.INTER_NEAREST)
        random = np.random.default_rng(list(one.id.encode()))
        painted, mask = paint_defects(picture, donor, random, None if counts is None else np.asarray(counts))
        if np.any(mask == DEFECT):
            plain = figure(painted, None, one.roi, one.id, several=False)
            outlined = figure(painted, np.minimum(mask, DEFECT), one.roi, one.id, several=False)
            cards.append(
                f'<div class="card"><div class="pair">{plain}{outlined}</div>'
                f"<code>{escape(one.id)}</code></div>"
            )
    return cards
