"""What is unlike the training pictures, by features of which the test knows the truth."""

import numpy as np
import pytest

from defectline.components.common.errors import BundleError
from defectline.components.common.inference.novelty import NAME, Novelty, choose_centres, read_novelty


def rows(count: int, at: float = 0.0, seed: int = 0, channels: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(at, 1, (count, channels)).astype(np.float32)


def known(validation: int = 100) -> Novelty:
    return Novelty.of(
        [row[None] for row in rows(400)],
        [row[None] for row in rows(validation, seed=1)] if validation else [],
    )


def test_what_lies_apart_is_novel_and_what_does_not_is_not():
    novelty = known()
    usual = sum(novelty.judge(row[None], 0.02) is not None for row in rows(1000, seed=2))
    # As many as of the validation pictures.
    assert usual < 60
    far = [novelty.judge(rows(1, at=at, seed=3), 0.02) for at in (3, 6, 30)]
    assert [found is not None for found in far] == [True] * 3
    worths = [found.worth for found in far]
    assert worths == sorted(worths)
    assert worths[0] > 0
    assert worths[-1] < 1


def test_one_tile_is_enough():
    novelty = known()
    tiles = np.concatenate([rows(30, seed=1)[:3], rows(1, at=9), rows(2, seed=5)])
    found = novelty.judge(tiles, 0.02)
    np.testing.assert_array_equal(found.farthest, tiles[3:4])


def test_more_of_the_same_is_no_longer_novel():
    novelty = known()
    one, alike, other = rows(1, at=9), rows(1, at=9) + 0.01, rows(1, at=-9)
    assert novelty.judge(alike, 0.02, [one]) is None
    assert novelty.judge(other, 0.02, [one]) is not None
    # Those of another network say nothing.
    assert novelty.judge(alike, 0.02, [rows(1, at=9, channels=5)]) is not None


@pytest.mark.parametrize(("margin", "limit"), [(0.0, 100), (0.02, 98), (0.5, 50)])
def test_the_margin_is_a_share_of_validation_pictures(margin: float, limit: int):
    novelty = Novelty(
        np.zeros((1, 1), np.float32), np.ones(1, np.float32), np.arange(1, 101, dtype=np.float32)
    )
    assert novelty.judge(np.array([[limit]], np.float32), margin) is None
    assert novelty.judge(np.array([[limit + 0.5]], np.float32), margin) is not None


def test_without_validation_pictures_or_features_nothing_is_novel():
    assert known(validation=0).judge(rows(1, at=50), 0.02) is None
    assert known().judge(None, 0.02) is None


def test_features_that_never_vary_count_little_until_they_do():
    training = rows(50)
    training[:, 0] = 3
    novelty = Novelty.of([row[None] for row in training], [row[None] for row in training])
    assert np.isfinite(novelty.scale).all()
    assert (novelty.scale > 0).all()
    same = Novelty.of([training[:1]] * 5, [training[:1]] * 5)
    assert same.training.shape == (1, 8)
    assert same.judge(training[:1], 0.02) is None


def test_centres_stand_for_all():
    lumps = np.concatenate([rows(100, at=at, seed=at) for at in (0, 40, 80)])
    centres = choose_centres(lumps, np.ones(8, np.float32), 3)
    assert sorted(np.round(centres.mean(axis=1) / 40)) == [0, 1, 2]
    assert len(choose_centres(lumps, np.ones(8, np.float32), 1000)) == 300


def test_it_is_read_as_it_was_written(tmp_path):
    assert read_novelty(tmp_path) is None
    novelty = known()
    (tmp_path / NAME).write_bytes(novelty.dump())
    read = read_novelty(tmp_path)
    for name in ("training", "scale", "validation"):
        np.testing.assert_array_equal(getattr(read, name), getattr(novelty, name))
    assert read.judge(rows(1, at=9), 0.02).worth == novelty.judge(rows(1, at=9), 0.02).worth


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"text"])
def test_another_file_is_refused(tmp_path, content: bytes):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(BundleError, match="cannot be read"):
        read_novelty(tmp_path)


def test_a_file_of_objects_is_refused(tmp_path):
    np.savez(tmp_path / NAME, training=np.array([{}], object), scale=np.ones(1), validation=np.ones(1))
    with pytest.raises(BundleError):
        read_novelty(tmp_path)
