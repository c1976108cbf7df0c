"""Wrong settings of the evaluate step."""

import pytest
from networks import run_evaluate


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"max_escape": 10}, "setting max_escape"),
        ({"min_iou": -0.1}, "setting min_iou"),
        ({"escape_cost": 0}, "setting escape_cost"),
        ({"grade_a_px": 9, "grade_b_px": 8}, "setting grade_b_px"),
        ({"grade_a_px": 9}, "setting grade_b_px"),
    ],
)
def test_settings_that_make_no_sense_are_named(judged, tmp_path, capsys, fields, text):
    with pytest.raises(SystemExit) as caught:
        run_evaluate(judged, tmp_path, "percent", **fields)
    assert caught.value.code == 2
    assert text in capsys.readouterr().out
