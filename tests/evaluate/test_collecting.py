"""What the folds of a cross-validation come to."""

import json
from pathlib import Path

import pytest
from counts import answers

from defectline.components.common.errors import StoreError
from defectline.components.common.layout import COUNTS, run_key
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.evaluate.collecting import (
    COLUMNS,
    FoldRun,
    Judged,
    as_markdown,
    collect,
    name_missed,
    read_judged,
    rows,
    write_crossval,
)

FOLDS = [FoldRun(seed, f"s{fold}", f"r{seed}{fold}") for seed in (3, 4) for fold in (0, 1)]


@pytest.fixture
def store(tmp_path: Path) -> FolderStorage:
    """With seed 4 an NG picture is called OK in each fold."""
    store = FolderStorage(tmp_path)
    for fold in FOLDS:
        counts = [*answers("OK", "rrrr"), *answers("NG", "rrrw" if fold.seed == 4 else "rrrr")]
        counts = [count._replace(id=f"{count.id}-{fold.snapshot}") for count in counts]
        store.write(run_key(fold.run, COUNTS), json.dumps([one._asdict() for one in counts]).encode())
    return store


def test_of_many_wrong_pictures_the_first_are_named():
    assert name_missed(Judged(0, answers("NG", "rr"))) == "none"
    told = name_missed(Judged(0, answers("NG", "w" * 50)))
    assert told.count("NG/") == 20
    assert told.endswith(", and 30 more")


def test_a_row_a_seed_with_mean_and_spread(store):
    judged = read_judged(store, FOLDS)
    assert [(one.seed, len(one.counts)) for one in judged] == [(3, 16), (4, 16)]
    found = dict(rows(judged))
    assert [found[title]["escape"] for title in ("3", "4", "mean")] == [0.0, 0.25, 0.125]
    assert found["spread"]["escape"] == pytest.approx(0.1768, abs=1e-4)
    assert [title for title, _ in rows(judged[:1])] == ["3"]
    alone = [Judged(0, answers("NG", "r")), Judged(1, answers("NG", "r"))]
    assert dict(rows(alone))["mean"]["overkill"] is None


def test_what_they_came_to_is_kept_and_shown(store):
    judged = collect(store.uri, FOLDS, "epochs=60.0 tile=False")
    text = as_markdown(judged)
    assert text.splitlines()[0].count("|") == len(COLUMNS) + 2
    assert "| spread |" in text
    assert "Seed 4, wrong or missed of 16 pictures: NG/3-s0 (0.50), NG/3-s1 (0.50)" in text
    key = write_crossval(store, FOLDS, judged, "tile=false epochs=60")
    # However the settings are written, it is the same file.
    assert [found.key for found in store.list("crossval/")] == [key]
    kept = json.loads(store.read(key))
    assert kept["settings"] == "epochs=60 tile=false"
    assert [one["seed"] for one in kept["seeds"]] == [3, 4]
    assert kept["mean"]["escape"] == 0.125
    assert kept["runs"][0] == {"seed": 3, "snapshot": "s0", "run": "r30"}


def test_a_fold_that_is_missing_is_named(store):
    with pytest.raises(StoreError, match="fold of the cross-validation is missing") as caught:
        read_judged(store, [*FOLDS, FoldRun(5, "s", "lost")])
    assert "lost" in caught.value.got
