"""The order of the pictures, and what is painted into them."""

import numpy as np
import pytest
from small_network import make_splits

from defectline.components.common.classes import FILLER
from defectline.components.common.dataset import Split
from defectline.components.train.batches import WHOLE, Batches, Painting, Share

GOOD = np.array([1, 3, 5])


def drawn(seed: int | None, epoch: int, share: float = 1.0, several: bool = False, batch_size: int = 4):
    """All pictures and masks of an epoch, by row."""
    split = make_splits()["train"]
    batches = Batches(split, batch_size, seed, Painting(GOOD, share, 7, several))
    batches.shuffle(epoch)
    images, masks = (
        np.concatenate([batches[index][0][part] for index in range(len(batches))]) for part in (0, 1)
    )
    return {row: (images[place], masks[place]) for place, row in enumerate(batches.order.tolist())}


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_order_is_a_function_of_seed_and_epoch(splits):
    def order(seed: int, *epochs: int) -> list[int]:
        batches = Batches(splits["train"], 4, seed)
        for epoch in epochs:
            batches.shuffle(epoch)
        return batches.order.tolist()

    assert order(1, 0, 1, 2) == order(1, 2)
    assert sorted(order(1, 2)) == list(range(6))
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1, 2)}) == 6


def test_only_good_pictures_are_painted_and_the_arrays_stay(splits):
    images, masks, rows = make_splits()["train"][:3]
    found = drawn(0, epoch=0)
    for row in rows.tolist():
        assert same(found[row], (images[row], masks[row])) is (row not in GOOD)
    assert all(np.any(found[row][1] == 1) for row in GOOD.tolist())
    assert same(make_splits()["train"].images[rows], images[rows])


def test_each_epoch_shows_other_defects_and_the_same_again():
    assert all(same(drawn(0, 3)[row], drawn(0, 3)[row]) for row in range(6))
    assert not any(same(drawn(0, 3)[row], drawn(0, 4)[row]) for row in GOOD.tolist())
    # Without a seed, as for validation, they are always the same.
    assert all(same(drawn(None, 3)[row], drawn(None, 4)[row]) for row in range(6))


def test_of_a_picture_that_is_repeated_no_two_are_alike():
    images, masks = make_splits()["train"][:2]
    split = Split(images, masks, np.array([1, 1, 1, 1]))
    shown = Batches(split, 4, None, Painting(GOOD, 1.0, 7, False))[0][0][0]
    assert len({picture.tobytes() for picture in shown}) == 4


def test_a_share_of_the_pictures():
    images, masks = make_splits()["train"][:2]
    split = Split(images, masks, np.repeat(GOOD, 40))
    shown = Batches(split, 120, 0, Painting(GOOD, 0.25, 7, False))[0][0][1]
    assert 15 <= sum(bool(mask.any()) for mask in shown) <= 45


def test_where_nothing_counts_nothing_is_painted():
    images, masks = make_splits()["train"][:2]
    whole = np.array(masks[np.arange(9)])
    whole[:, :, :16] = 255
    split = Split(images, type(masks)([whole]), np.repeat(GOOD, 8))
    painted, shown = Batches(split, 24, None, Painting(GOOD, 1.0, 7, False))[0][0]
    assert np.all(shown[:, :, :16] == 255)
    assert np.array_equal(painted[:, :, :16], images[split.rows][:, :, :16])
    assert np.any(shown[:, :, 16:] == 1)


def test_of_several_classes_a_synthetic_defect_has_none():
    shown = drawn(0, 0, several=True)
    assert all(set(np.unique(shown[row][1])) <= {0, 254, 255} for row in GOOD.tolist())


def test_a_batch_says_which_of_its_pictures_have_no_mask(splits):
    split = splits["train"]
    assert len(Batches(split, 4)[0][0]) == 2
    unmasked = np.arange(9) % 2 == 1
    batches = Batches(split._replace(unmasked=unmasked), 4, seed=0)
    *_, flags = batches[1][0]
    rows = np.resize(np.concatenate([batches.order[4:], batches.order]), 4)
    np.testing.assert_array_equal(flags, unmasked[rows])


def test_images_are_compressed_as_jpeg_and_their_masks_are_not(splits):
    def fed(jpeg: int, epoch: int = 0):
        batches = Batches(splits["train"], 4, seed=0, jpeg=jpeg)
        batches.shuffle(epoch)
        return batches[0][0]

    plain, compressed = fed(100), fed(20)
    lost = abs(plain[0].astype(int) - compressed[0])
    assert (lost.max(axis=(1, 2, 3)) > 0).all()
    assert lost.mean() < 20
    assert np.array_equal(plain[1], compressed[1])
    assert same(compressed, fed(20))
    assert len({fed(20, epoch)[0].tobytes() for epoch in range(3)}) == 3
    assert splits["train"].images[0].shape == compressed[0][0].shape


def test_colours_stay_what_they_are_under_jpeg():
    red = np.zeros((8, 32, 32, 3), np.uint8)
    red[..., 0] = 200
    split = Split(red, np.zeros((8, 32, 32), np.uint8), np.arange(8))
    image = Batches(split, 4, seed=0, jpeg=50)[0][0][0][0]
    assert abs(image.astype(int) - red[0]).max() < 8


@pytest.mark.parametrize("seed", [1, None])
@pytest.mark.parametrize("processes", [2, 3])
def test_parts_of_processes_are_the_whole_batch(seed, processes):
    """Six pictures in batches of 4: the second is filled up from the start, or with what does not count."""
    split = make_splits()["train"]._replace(unmasked=np.arange(9) == 2)
    batch_size = 4 if processes == 2 else 6
    split = split._replace(rows=split.rows[:5])

    def read(share: Share = WHOLE) -> list[tuple[np.ndarray, ...]]:
        painting = Painting(GOOD, 1.0, 7, False)
        batches = Batches(split, batch_size, seed, painting, jpeg=50, share=share)
        batches.shuffle(3)
        return [batches[index][0] for index in range(len(batches))]

    parts = [read(Share(process, processes, processes)) for process in range(processes)]
    for index, whole in enumerate(read()):
        found = [np.concatenate(arrays) for arrays in zip(*(part[index] for part in parts), strict=True)]
        count = len(whole[0])
        assert {len(part[index][0]) for part in parts} == {-(-count // processes)}
        assert all(np.array_equal(array[:count], other) for array, other in zip(found, whole, strict=True))
        assert np.all(found[1][count:] == FILLER)
        assert not found[2][count:].any()
    # Without a seed the last batch of 4 has one picture, that of 6 has five.
    assert len(found[0]) == (batch_size if seed or processes == 3 else 2)
