"""Numbers of agreement, against ones that were worked out elsewhere."""

import pytest
from sklearn.metrics import cohen_kappa_score

from defectline.pipeline.qualification.agreement import Share, agree, cohen, level, parts_needed


def test_intervals_are_the_exact_ones():
    # R: binom.test(1, 30)
    assert Share(1, 30).interval == pytest.approx((0.0008436, 0.1721695), abs=1e-6)
    assert Share(0, 30).interval == pytest.approx((0, 0.1157033), abs=1e-6)
    assert Share(30, 30).interval == pytest.approx((0.8842967, 1), abs=1e-6)
    assert Share(0, 0).interval is None
    # The rule of three, nearly.
    assert Share(0, 299).at_most == pytest.approx(0.01, abs=2e-4)
    assert Share(3, 3).at_most == 1.0


def test_kappa_is_scikit_learns():
    first = ["OK", "OK", "NG", "NG", "LOOK", "OK", "NG", "OK"]
    second = ["OK", "NG", "NG", "NG", "OK", "OK", "LOOK", "OK"]
    found = cohen(list(zip(first, second, strict=True)))
    assert found == pytest.approx(cohen_kappa_score(first, second))
    assert cohen([("OK", "OK")] * 3) is None
    assert cohen([]) is None
    assert cohen([("OK", "NG"), ("NG", "OK")]) == pytest.approx(-1)


def test_a_part_is_right_where_every_verdict_is():
    parts = [
        ("OK", ["OK", "OK"]),
        ("OK", ["OK", "NG"]),
        ("NG", ["NG", "NG", "NG"]),
        ("NG", ["NG", "OK"]),
        ("NG", ["LOOK"]),
        ("NG", []),
    ]
    found = agree(parts)
    assert found.effectiveness == (2, 5)
    assert found.misses == (1, 3)
    assert found.false_alarms == (1, 2)
    assert found.repeated == (2, 4)


@pytest.mark.parametrize(
    ("name", "rate", "expected"),
    [
        ("effectiveness", 0.9, "acceptable"),
        ("effectiveness", 0.85, "marginal"),
        ("effectiveness", 0.79, "not acceptable"),
        ("miss rate", 0.02, "acceptable"),
        ("miss rate", 0.05, "marginal"),
        ("miss rate", 0.051, "not acceptable"),
        ("false alarm rate", 0.11, "not acceptable"),
        ("false alarm rate", None, "not known"),
    ],
)
def test_limits(name, rate, expected):
    assert level(name, rate) == expected


@pytest.mark.parametrize(("rate", "parts"), [(0.1, 29), (0.05, 59), (0.01, 299), (0.001, 2995)])
def test_so_many_parts_prove_a_rate(rate, parts):
    assert parts_needed(rate) == parts
    assert Share(0, parts).at_most <= rate < Share(0, parts - 1).at_most
