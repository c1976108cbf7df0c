"""Trials as files, and which of them is the best."""

from pathlib import Path

import pytest

from defectline.components.common.errors import StoreError
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.tuning.study import (
    FoldResult,
    Footprint,
    State,
    Study,
    Trial,
)
from defectline.pipeline.tuning.trials import Trials, best_of, loss_of, ranked, write_study

STUDY = Study(
    source="here",
    snapshot="s",
    folds=("a", "b"),
    objective="cost",
    seed=0,
    settings="epochs=1",
    space={"zoom": "0..1"},
)


def trial(number: int, *costs: float, iou: float | None = 0.5, state: State = "complete") -> Trial:
    folds = tuple(FoldResult(run=f"r{n}", pictures=10, cost=cost, iou=iou) for n, cost in enumerate(costs))
    return Trial(number=number, state=state, values={"zoom": 0.5, "tile": True}, folds=folds)


def test_a_trial_is_written_once_and_read_as_it_was(tmp_path: Path):
    trials = Trials(FolderStorage(tmp_path), STUDY.id)
    first = trial(3, 0.1, 0.2).model_copy(update={"footprint": Footprint(latency_ms=2.5, memory_mb=300)})
    assert trials.write(first) == first
    assert trials.write(trial(3, 0.9)) == first
    assert trials.write(trial(0, 1.0)) == trial(0, 1.0)
    assert trials.read() == [trial(0, 1.0), first]
    assert trials.ended() == {0, 3}
    assert Trials(trials.store, "other").read() == []
    (tmp_path / trials.key(3)).write_text("{}")
    with pytest.raises(StoreError, match="damaged"):
        trials.read()


def test_the_best_is_the_first_of_the_cheapest_that_were_judged_whole():
    trials = [
        trial(0, 0.3, 0.5),
        trial(1, 0.2, 0.2, iou=0.5),
        trial(2, 0.1, 0.3, iou=0.6),
        trial(3, 0.3, 0.1, iou=0.6),
        trial(4, 0.0, state="pruned"),
        trial(5, 0.0, 0.0, state="infeasible"),
        trial(6, state="failed"),
    ]
    best = best_of(trials, "cost")
    assert best is not None
    # Of equal cost 2 and 3 have the better IoU.
    assert best.number == 2
    assert [one.number for one in ranked(trials, "cost")] == [2, 3, 1, 0, 4, 5, 6]
    assert best_of(trials[4:], "cost") is None
    assert loss_of(trials[6], "iou") == float("inf")
    worst = trial(7, 9.0, 9.0, iou=0.9)
    assert best_of([*trials, worst], "iou") == worst


def test_cost_is_of_all_pictures_and_the_spread_of_the_folds():
    found = trial(0, 0.0, 0.3)
    found = found.model_copy(
        update={"folds": (found.folds[0].model_copy(update={"pictures": 20}), found.folds[1])}
    )
    assert found.cost == pytest.approx(0.1)
    assert found.spread("cost") == pytest.approx(0.2121, abs=1e-4)
    assert trial(0, 0.1).spread("cost") is None
    assert trial(0, 0.1, iou=None).iou is None


def test_a_study_is_named_by_what_its_numbers_depend_on(tmp_path: Path):
    others = [
        STUDY.model_copy(update=change)
        for change in (
            {"seed": 1},
            {"folds": ("a",)},
            {"space": {}},
            {"max_latency_ms": 5.0},
            {"snapshot": "t"},
        )
    ]
    assert len({STUDY.id, *(other.id for other in others)}) == 6
    assert STUDY.model_copy(update={"source": "there"}).id == STUDY.id
    store = FolderStorage(tmp_path)
    write_study(store, STUDY)
    write_study(store, STUDY.model_copy(update={"source": "there"}))
    assert Study.model_validate_json(store.read(f"tuning/{STUDY.id}/study.json")) == STUDY
