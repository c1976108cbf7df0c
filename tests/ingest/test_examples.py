"""Examples of synthetic defects for the contact sheet."""

import re

import numpy as np
from pictures import noise

from defectline.components.ingest.examples import Good, paint_examples


def good(number: int, roi: np.ndarray | None = None) -> Good:
    return Good(f"OK/{number}", np.repeat(noise(number, 64)[..., None], 3, axis=2), roi)


def test_each_picture_is_shown_plain_and_outlined_and_the_same_again():
    pictures = [good(1), good(2), good(3)]
    cards = paint_examples(pictures)
    assert len(cards) == 3
    for one, card in zip(pictures, cards, strict=True):
        plain, outlined = re.findall(r'src="([^"]*)"', card)
        assert plain != outlined
        assert f"<code>{one.id}</code>" in card
    assert paint_examples(pictures) == cards


def test_one_picture_is_its_own_donor_and_none_has_no_cards():
    assert len(paint_examples([good(1)])) == 1
    assert paint_examples([]) == []


def test_what_hardly_counts_has_no_card():
    roi = np.zeros((64, 64), np.uint8)
    assert paint_examples([good(1, roi)]) == []
    roi[20:50, 20:50] = 1
    assert len(paint_examples([good(1, roi)])) == 1


def test_an_id_is_text():
    card = paint_examples([good(1)._replace(id="OK/<b>&")])[0]
    assert "<b>" not in card
    assert "OK/&lt;b&gt;&amp;" in card
