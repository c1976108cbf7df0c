"""Which pictures are judged in which fold."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import write_source

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SettingsError
from defectline.components.common.snapshot import SPLITS, Pair, read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.grouping.folds import deal, deal_all, publish_folds
from defectline.components.ingest.step import ingest


def pairs(ok: int, ng: int) -> list[Pair]:
    numbers = {"OK": ok, "NG": ng}
    return [Pair(f"{label}/{n:03}", label, "accepted") for label in LABELS for n in range(numbers[label])]


@given(ok=st.integers(12, 60), ng=st.integers(12, 60), folds=st.integers(2, 6))
def test_every_picture_is_judged_once_and_never_by_what_has_seen_it(ok: int, ng: int, folds: int):
    dealt = [deal(pairs(ok, ng), fold, folds) for fold in range(folds)]
    tested = [row.id for rows in dealt for row in rows if row.split == "test"]
    assert sorted(tested) == [pair.id for pair in sorted(pairs(ok, ng))]
    for rows in dealt:
        assert [row.id for row in rows] == [pair.id for pair in sorted(pairs(ok, ng))]
        assert {(row.label, row.split) for row in rows} == {
            (label, split) for label in LABELS for split in ("train", "validation", "test")
        }


def test_folds_go_by_number():
    rows = deal(pairs(20, 20), fold=1, folds=4)
    assert [row.id for row in rows if row.split == "test" and row.label == "NG"] == [
        f"NG/{number:03}" for number in (1, 5, 9, 13, 17)
    ]
    assert Counter(row.split for row in rows) == {"train": 24, "validation": 6, "test": 10}


@given(sizes=st.lists(st.integers(1, 4), min_size=12, max_size=30), folds=st.integers(2, 5))
def test_pictures_of_a_group_stay_together(sizes: list[int], folds: int):
    rows = [
        Pair(f"{label}/{number:03}-{copy}", label, "accepted", group=f"{number // 2 if label else number}")
        for label in LABELS
        for number, size in enumerate(sizes)
        for copy in range(size)
    ]
    rows = [row._replace(group=row.label + row.group if int(row.group) > 1 else row.group) for row in rows]
    rows += pairs(20, 20)
    dealt = [deal(rows, fold, folds) for fold in range(folds)]
    assert sorted(row.id for fold in dealt for row in fold if row.split == "test") == sorted(
        row.id for row in rows
    )
    for fold in dealt:
        sides: dict[str, set[str]] = {}
        for row in fold:
            sides.setdefault(row.group or row.id, set()).add(row.split)
        assert all(len(found) == 1 for found in sides.values())
    tested = [sum(row.split == "test" for row in fold) for fold in dealt]
    # A fold has at most one part more than another of each label, and a part has 16 pictures at most.
    assert max(tested) - min(tested) <= 2 * 16


def test_folds_of_groups_have_about_as_many_pictures():
    rows = [row._replace(group=row.id[:-1]) for row in pairs(200, 200)]
    dealt = [deal(rows, fold, 4) for fold in range(4)]
    assert [Counter(row.split for row in fold)["test"] for fold in dealt] == [100] * 4


@pytest.mark.parametrize(("ok", "ng", "folds"), [(3, 20, 4), (20, 7, 4)])
def test_too_few_pictures_for_the_folds(ok: int, ng: int, folds: int):
    with pytest.raises(SettingsError, match="too few"):
        [deal(pairs(ok, ng), fold, folds) for fold in range(folds)]


def test_looks_alone_leave_enough_parts_for_the_folds():
    said: list[str] = []
    alike = [pair._replace(group="~1") if pair.label == "NG" else pair for pair in pairs(20, 20)]
    dealt = deal_all(alike, 4, said.append)
    assert dealt == [deal(pairs(20, 20), fold, 4) for fold in range(4)]
    assert said == [
        "too few parts are left where pictures that look alike stay together: each is split alone"
    ]
    with pytest.raises(SettingsError, match="too few NG"):
        deal_all([pair._replace(group="1") if pair.label == "NG" else pair for pair in alike], 4, said.append)


def test_each_fold_is_a_snapshot_of_the_splits_that_are_asked_for(tmp_path: Path):
    store = FolderStorage(tmp_path / "store")
    source = write_source(tmp_path / "source", range(30))
    whole = ingest(str(source), store.uri)
    of = {pair.id: pair.split for pair in read_pairs(store, whole)}
    for splits in (SPLITS, ("train", "validation")):
        folds = [read_pairs(store, id) for id in publish_folds(store, whole, 3, print, splits)]
        used = sorted(id for id, split in of.items() if split in splits)
        assert [[pair.id for pair in rows] for rows in folds] == [used] * 3
        assert sorted(pair.id for rows in folds for pair in rows if pair.split == "test") == used
