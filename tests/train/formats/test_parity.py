"""Whether an exported file answers as the network that was trained."""

import numpy as np
import pytest

from defectline.components.common.errors import BundleError
from defectline.components.train.formats.parity import TOLERANCE, Parity, check, compare, table


def _probabilities(*squares: tuple[int, float]) -> np.ndarray:
    """Pictures of 16×16, each with a square of one side and probability on 0.2."""
    pictures = np.full((len(squares), 16, 16), 0.2, np.float32)
    for picture, (side, value) in zip(pictures, squares, strict=True):
        picture[:side, :side] = value
    return pictures


def test_equal_answers():
    same = _probabilities((4, 0.9), (0, 0))
    assert compare(same, same) == Parity(largest=0, mean=0, pixels=0, verdicts=0)


def test_other_answers_are_counted():
    """Sixteen pixels change sides, and a verdict with them; four others are too few for a verdict."""
    found = compare(_probabilities((4, 0.9), (2, 0.6), (4, 0.6)), _probabilities((4, 0.4), (0, 0), (4, 0.9)))
    assert found.largest == pytest.approx(0.5)
    assert found.mean == pytest.approx((16 * 0.5 + 4 * 0.4 + 16 * 0.3) / (3 * 256))
    assert found.pixels == pytest.approx(20 / (3 * 256))
    assert found.verdicts == 1


def test_a_float32_file_must_be_within_the_tolerance():
    check("onnx/model.onnx", Parity(TOLERANCE, 0, 0, 0))
    for largest in (2 * TOLERANCE, float("nan")):
        with pytest.raises(BundleError, match=r"onnx/model\.onnx does not answer as the network") as caught:
            check("onnx/model.onnx", Parity(largest, 0, 0, 1))
        assert "1 other verdicts" in caught.value.got


def test_the_table_has_a_row_a_file():
    lines = table({"openvino": Parity(2e-6, 1e-9, 0, 0), "openvino_int8": Parity(0.1, 2e-5, 0.00012, 3)})
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["openvino_int8", "1.0e-01", "2.0e-05", "0.0120%", "3"]
