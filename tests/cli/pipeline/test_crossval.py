"""`defectline crossval`: its table. The folds are tested in tests/pipeline/test_crossval.py."""

import pytest
from commands import call
from counts import answers

from defectline.pipeline import crossval
from defectline.pipeline.crossval import Judged
from defectline.pipeline.local import RunFailed


def judged(*seeds: int) -> list[Judged]:
    """With each seed an image more is judged wrong."""
    made = []
    for number, seed in enumerate(seeds):
        letters = "w" * number + "r" * (4 - number)
        made.append(Judged(seed, [*answers("OK", "rrrr"), *answers("NG", letters)]))
    return made


@pytest.fixture
def asked(monkeypatch) -> list[tuple[int, list[int]]]:
    """Folds and seeds of each call."""
    found = []

    def cross_validate(parameters, folds, seeds, say):
        found.append((folds, list(seeds)))
        return judged(*seeds)

    monkeypatch.setattr(crossval, "cross_validate", cross_validate)
    return found


def test_a_line_a_seed_with_mean_and_spread(tmp_path, asked):
    done = call("crossval", tmp_path, "--folds", "2", "--seeds", "2", "--set", "seed=5")
    assert done.returncode == 0, done.stderr
    assert asked == [(2, [5, 6])]
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = {line[0]: line for line in lines[:5] if line[0] in ("5", "6", "mean", "spread")}
    assert [len(row) for row in rows.values()] == [8] * 4
    # Escape is the last but one.
    assert [row[-2] for row in rows.values()] == ["0.000", "0.250", "0.125", "0.177"]
    assert "seed 5, wrong or missed of 8 pictures: none" in done.stdout
    assert "seed 6, wrong or missed of 8 pictures: NG/0 (0.50)" in done.stdout


def test_a_source_is_an_argument_or_an_option(tmp_path, asked):
    assert call("crossval", "--source", tmp_path).returncode == 0
    assert call("crossval", tmp_path, "--source", tmp_path).returncode == 0
    two = call("crossval", tmp_path, "--source", tmp_path / "other")
    assert (two.returncode, "two sources" in two.stderr) == (2, True)
    none = call("crossval")
    assert (none.returncode, "source" in none.stderr) == (2, True)
    assert len(asked) == 2


def test_one_seed_has_no_spread(tmp_path, asked):
    done = call("crossval", tmp_path)
    assert "spread  " not in done.stdout
    assert asked == [(4, [0])]


def test_an_internal_error_is_told_with_its_log(tmp_path, monkeypatch):
    log = tmp_path / "log.txt"
    log.write_text("KeyError: 'a'\n")

    def fails(*_):
        raise RunFailed(log, tmp_path / "fault.txt")

    monkeypatch.setattr(crossval, "cross_validate", fails)
    done = call("crossval", tmp_path)
    assert done.returncode == 1
    assert "KeyError: 'a'" in done.stdout
