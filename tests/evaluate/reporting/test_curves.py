"""What other thresholds would have done."""

from reports import PICTURES, THRESHOLD, score_pictures

from defectline.components.evaluate.reporting.curves import at_thresholds
from defectline.components.evaluate.reporting.examples import ExampleCollector
from defectline.components.evaluate.settings import Costs

COSTS = Costs(escape=3.0, look=0.2, escape_of={})


def test_other_thresholds_by_hand():
    counts = score_pictures(PICTURES, ExampleCollector()).counts
    rows = {row.threshold: row for row in at_thresholds(counts, [THRESHOLD], COSTS)}
    # NG scores 0 (too small), 0.45, 0.9, 0.95 three times; OK scores 0.655, 0.733 and 0 four times.
    assert [row[:4] for row in (rows[0.1], rows[0.6], rows[0.7], rows[0.95])] == [
        (0.1, 1, 2, 5.0),
        (0.6, 2, 2, 8.0),
        (0.7, 2, 1, 7.0),
        (0.95, 3, 0, 9.0),
    ]
    assert [threshold for threshold, row in rows.items() if row.chosen] == [THRESHOLD]
    assert 0.123 in {row.threshold for row in at_thresholds(counts, [0.123], COSTS)}
