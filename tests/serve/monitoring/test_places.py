"""Which frames of a day are worth a look."""

import numpy as np
import pytest
from bundles import levels

from defectline.components.common.inference.inspection import judge_score
from defectline.components.serve.monitoring.places import Kept, Places, worth

GOOD, BAD = [0.0] * 6 + [0.001, 0.003, 0.003, 0.004], [0.97] + [0.999] * 9
MARGIN = 0.02


def test_good_frames_far_from_the_level_are_in_no_doubt_however_near_it_is_to_zero():
    low = levels(0.052, GOOD, BAD)
    assert worth(0.0, low, MARGIN) is None
    assert worth(0.003, low, MARGIN) is None
    assert worth(0.02, low, MARGIN) == pytest.approx(0.5, abs=0.02)
    assert worth(0.999, low, MARGIN) is None


def test_what_no_validation_picture_scored_is_in_doubt_the_more_the_nearer_to_the_level():
    bundle = levels(0.5, GOOD, BAD)
    values = [worth(score, bundle, MARGIN) for score in (0.02, 0.2, 0.45, 0.5, 0.55, 0.8, 0.96)]
    assert None not in values
    assert values == [*sorted(values[:3]), 1.0, *sorted(values[4:], reverse=True)]
    assert worth(0.97, bundle, MARGIN) is None
    # With half of the pictures as a margin, all but the most usual are.
    assert worth(0.001, bundle, 0.5) is not None
    assert worth(0.0, bundle, 0.5) is None


def test_between_two_levels_everything_is_in_doubt():
    bundle = levels(0.3, GOOD, [0.35, *BAD], ng_from=0.6)
    assert [worth(score, bundle, MARGIN) for score in (0.3, 0.5, 0.599)] == [1.0] * 3
    assert worth(0.7, bundle, 0.2) < 1


def test_a_frame_that_is_nearly_all_defect_is_in_doubt_however_sure():
    bundle = levels(0.5, GOOD, BAD)
    assert worth(0.999, bundle, MARGIN, 0.4) is None
    assert worth(0.999, bundle, MARGIN, 0.9) == 0.9


def test_without_a_defective_validation_picture_each_find_is_in_doubt():
    assert worth(0.999, levels(0.5, GOOD), MARGIN) is not None


def test_a_bundle_without_scores_has_a_distance_instead():
    assert worth(0.4, levels(), MARGIN) is not None
    assert worth(0.1, levels(), MARGIN) is None


def test_places_are_borrowed_and_given_back():
    """Ten: one for chance, two for novel ones, three for parts called OK, four for others."""
    places = Places(10)
    for number in range(10):
        good = Kept("near_level", "OK", 0.1 * number, decided=number == 0)
        assert places.make_room(good) == ""
        places.kept[f"ok-{number}"] = good
    assert places.make_room(Kept("near_level", "OK", 0.05)) is None
    assert places.make_room(Kept("near_level", "OK", 0.15)) == "ok-1"
    # What has too many gives back, the least first, but not what a person has decided about.
    assert places.make_room(Kept("random", "OK", 0.01)) == "ok-1"
    places.kept["random"] = places.kept.pop("ok-1")._replace(reason="random")
    assert places.make_room(Kept("random", "OK", 0.05)) is None
    assert places.make_room(Kept("random", "OK", 0.2)) == "random"
    for number, verdict in enumerate(["NG", "NG", "LOOK", "NG"]):
        bad = Kept("near_level", verdict, 0.01 * number)
        gone = places.make_room(bad)
        assert gone == f"ok-{number + 2}"
        del places.kept[gone]
        places.kept[f"ng-{number}"] = bad
    assert places.make_room(Kept("near_level", "NG", 0.005)) == "ng-0"
    assert places.make_room(Kept("near_level", "OK", 0.55)) is None
    assert places.make_room(Kept("near_level", "OK", 0.65)) == "ok-6"
    assert places.make_room(Kept("novel", "NG", 0.01)) == "ok-6"


def _at(mean: float, spread: float, count: int, random: np.random.Generator) -> np.ndarray:
    """Scores in thousandths with such a logit."""
    return np.round(1 / (1 + np.exp(-random.normal(mean, spread, count))), 3)


@pytest.mark.parametrize("seed", range(5))
def test_of_a_day_with_drift_the_wrong_verdicts_have_places(seed):
    """10,000 frames, 1 % of them defective; in the afternoon another lamp makes good parts score higher, and
    defects lower."""
    random = np.random.default_rng(seed)
    bundle = levels(0.3, _at(-6, 1.2, 60, random).tolist(), _at(4, 1.6, 60, random).tolist())
    bad = random.random(10_000) < 0.01
    later = np.arange(10_000) >= 5_000
    scores = np.where(bad, _at(4, 1.6, 10_000, random), _at(-6, 1.2, 10_000, random))
    moved = np.where(bad, _at(2, 2, 10_000, random), _at(-4, 1.4, 10_000, random))
    scores = np.where(later, moved, scores)
    places, wrong = Places(200), set()
    for number, (score, defective) in enumerate(zip(scores.tolist(), bad.tolist(), strict=True)):
        if judge_score(score, bundle.threshold) != ("NG" if defective else "OK"):
            wrong.add(str(number))
        value = worth(score, bundle, MARGIN)
        verdict = judge_score(score, bundle.threshold)
        frame = Kept("random", verdict, random.random())
        if value is not None:
            frame = Kept("near_level", verdict, value)
        if value is None and random.random() >= 0.005:
            continue
        while goes := places.make_room(frame):
            del places.kept[goes]
        if goes is not None:
            places.kept[str(number)] = frame
    assert len(wrong) > 40
    assert len(places.kept) == 200
    assert len(wrong & places.kept.keys()) >= 0.8 * len(wrong)
