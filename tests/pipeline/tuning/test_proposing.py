"""What trials try, and which are given up."""

import random

from optuna.distributions import CategoricalDistribution, FloatDistribution

from defectline.pipeline.tuning.proposing import RANDOM_TRIALS, beyond, is_hopeless, propose
from defectline.pipeline.tuning.space import Value
from defectline.pipeline.tuning.study import FoldResult, Footprint, State, Study, Trial

SPACE = {
    "zoom": FloatDistribution(0.0, 1.0),
    "decoder": CategoricalDistribution(("light", "pix2pix")),
    "tile": CategoricalDistribution((False, True)),
}
STUDY = Study(
    source="here",
    snapshot="s",
    folds=("a", "b"),
    objective="cost",
    seed=7,
    settings="",
    space={"zoom": "0..1"},
)


def ended(
    number: int, values: dict[str, Value], cost: float, state: State = "complete", ms: float = 1.0
) -> Trial:
    return Trial(
        number=number,
        state=state,
        values=values,
        folds=(FoldResult(run="r", pictures=10, cost=cost, iou=0.5),),
        footprint=Footprint(latency_ms=ms, memory_mb=100),
    )


def cost_of(values: dict[str, Value]) -> float:
    """Least at a zoom of 0.3, with the light decoder."""
    return abs(float(values["zoom"]) - 0.3) + (values["decoder"] == "pix2pix")


def search(trials: int, study: Study = STUDY) -> list[Trial]:
    found: list[Trial] = []
    for number in range(trials):
        values = propose(number, study, SPACE, found)
        found.append(ended(number, values, cost_of(values)))
    return found


def test_a_proposal_follows_from_the_seed_and_the_trials_before():
    first = search(RANDOM_TRIALS + 4)
    again = search(RANDOM_TRIALS + 4)
    assert again == first
    # In whatever order they are found, and whatever came later.
    number = RANDOM_TRIALS + 2
    shuffled = [*first, ended(99, first[0].values, 0.0)]
    random.Random(0).shuffle(shuffled)
    assert propose(number, STUDY, SPACE, sorted(shuffled, key=lambda one: one.number)) == first[number].values
    assert search(2, STUDY.model_copy(update={"seed": 8})) != first[:2]
    assert len({str(trial.values) for trial in first}) == len(first)


def test_it_finds_what_is_good():
    found = search(30)
    before = [cost_of(trial.values) for trial in found[:RANDOM_TRIALS]]
    after = [cost_of(trial.values) for trial in found[-10:]]
    assert sum(after) / len(after) < sum(before) / len(before) / 2


def test_what_lies_outside_of_the_space_or_failed_teaches_nothing():
    inside = search(RANDOM_TRIALS + 1)
    outside = ended(0, {"zoom": 5.0, "decoder": "light", "tile": False}, 0.0)
    failed = Trial(number=0, state="failed", values={"zoom": 0.5, "decoder": "light", "tile": True})
    number = RANDOM_TRIALS + 1
    found = [propose(number, STUDY, SPACE, [odd, *inside[1:]]) for odd in (outside, failed)]
    assert found[0] == found[1]


def test_trials_beyond_a_limit_are_kept_away_from():
    limited = STUDY.model_copy(update={"max_latency_ms": 10.0})
    found: list[Trial] = []
    for number in range(30):
        values = propose(number, limited, SPACE, found)
        slow = values["decoder"] == "light"
        state: State = "infeasible" if slow else "complete"
        found.append(ended(number, values, cost_of(values), state, ms=20.0 if slow else 5.0))
    assert sum(trial.values["decoder"] == "pix2pix" for trial in found[RANDOM_TRIALS:]) >= 16
    assert beyond(found[0], STUDY) == []
    assert [round(share, 6) for share in beyond(ended(0, {}, 0.0, ms=12.0), limited)] == [0.2]


def test_a_trial_that_loses_on_the_same_pictures_is_hopeless():
    best = {f"p{n}": 0.0 for n in range(40)}
    worse = {f"p{n}": 3.0 * (n % 2) for n in range(10)}
    assert is_hopeless(worse, best)
    assert not is_hopeless({f"p{n}": 0.0 for n in range(10)}, best)
    # A fold that is hard for all says nothing about the trial.
    hard = {**best, **worse}
    assert not is_hopeless(worse, hard)
    # One picture of ten may be chance.
    assert not is_hopeless({**{f"p{n}": 0.0 for n in range(10)}, "p3": 1.0}, best)
    assert not is_hopeless({"other": 9.0}, best)
