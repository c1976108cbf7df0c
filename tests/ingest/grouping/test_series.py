"""Names that tell which pictures show one part are followed where looks bear them out, and not else."""

from itertools import pairwise

import pytest

from defectline.components.ingest.grouping.series import ENOUGH, find_series

PARTS = 40


def exposures(part: int) -> list[str]:
    """Two to five exposures of a part, some left out, numbered by a camera that never stops."""
    views = [view for view in range(1, 7) if (part * 7 + view) % 3][: 2 + part % 4]
    return [f"OK/exp{view}_num_{100 * part + 13 * view}" for view in views]


def sides(part: int) -> list[str]:
    return [f"NG/plate-{part:04d}_{side}" for side in ("back", "front", "top")]


def lights(part: int) -> list[str]:
    return [f"OK/{part}.{light}" for light in (1, 2)]


@pytest.mark.parametrize("name", [exposures, sides, lights])
@pytest.mark.parametrize("missed", [0, 3])
def test_parts_are_found_by_their_names(name, missed: int):
    """Looks have joined all parts but a few, and the first two pictures alone of the others."""
    parts = [name(part) for part in range(PARTS)]
    ids = sorted(one for part in parts for one in part)
    joined = {frozenset(pair) for part in parts[missed:] for pair in list(pairwise(part))[:1]}
    found = find_series(ids, lambda a, b: frozenset((ids[a], ids[b])) in joined)
    groups = {frozenset(ids[index] for index in part) for part in found}
    if name is exposures:
        # Where a part's exposures begin above those of the one before, the two are one run.
        assert all(any(one >= set(part) for one in groups) for part in parts)
    else:
        assert groups == {frozenset(part) for part in parts}


def test_names_alone_say_nothing():
    ids = sorted(one for part in range(PARTS) for one in sides(part))
    assert find_series(ids, lambda a, b: False) == []


def test_what_looks_the_same_everywhere_bears_nothing_out():
    """Where all pictures look like one part, so do those of two."""
    ids = sorted(one for part in range(PARTS) for one in sides(part))
    assert find_series(ids, lambda a, b: True) == []


def test_a_field_that_means_something_else_is_not_followed():
    """Shifts A and B each number their parts from 1: the same number is not the same part."""
    ids = sorted(f"OK/shift{shift}_{number:03d}" for shift in "AB" for number in range(PARTS))
    assert find_series(ids, lambda a, b: abs(int(ids[a][-3:]) - int(ids[b][-3:])) == 1) == []


@pytest.mark.parametrize("count", [ENOUGH - 1, ENOUGH])
def test_few_parts_are_not_enough(count: int):
    ids = sorted(one for part in range(count) for one in sides(part))
    found = find_series(ids, lambda a, b: ids[a].split("_")[0] == ids[b].split("_")[0])
    assert bool(found) == (count >= ENOUGH)


def test_other_names_stay_out():
    """Pictures with names of another kind, and those of another folder, are joined to nothing."""
    ids = sorted(one for part in range(PARTS) for one in sides(part))
    ids += ["NG/by hand", "NG/plate", "OK/plate-0001_back", ""]
    found = find_series(ids, lambda a, b: ids[a].split("_")[0] == ids[b].split("_")[0])
    assert len(found) == PARTS
    assert not {index for part in found for index in part} & set(range(len(ids) - 4, len(ids)))


def test_no_pictures():
    assert find_series([], lambda a, b: True) == []
