"""What the network tells apart."""

import numpy as np

from defectline.components.common.classes import CLASSES, DEFECT, GOOD, LABELS, defect_probability


def test_each_class_has_a_number_of_its_own_and_the_defect_is_not_background():
    assert sorted({GOOD, DEFECT}) == list(range(CLASSES))
    # In a mask, 0 is what is not marked.
    assert GOOD == 0
    assert LABELS[GOOD] == "OK"
    assert LABELS[DEFECT] == "NG"


def test_the_score_of_a_pixel_is_the_probability_of_a_defect_bit_for_bit():
    logits = np.random.default_rng(0).normal(size=(2, 8, 8, CLASSES)).astype(np.float32)
    exponents = np.exp(logits)
    probabilities = exponents / exponents.sum(axis=-1, keepdims=True)
    score = defect_probability(probabilities)
    assert score.shape == (2, 8, 8)
    assert score.dtype == np.float32
    assert np.array_equal(score, probabilities[..., 1])
    assert np.allclose(score, 1 - probabilities[..., GOOD], atol=1e-6)
