"""A dataset in one shard or in several is the same dataset."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import write_source

from defectline.components.common.dataset import ConcatenatedArray, Prepared, Row, Split, open_dataset
from defectline.components.common.errors import SettingsError
from defectline.components.common.images.imaging import ImagingSettings
from defectline.components.ingest.step import ingest
from defectline.components.preprocess.step import preprocess


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """The folders 0 of 1, and 0 to 2 of 3, named `<shard>-<shards>`."""
    place = tmp_path_factory.mktemp("shards")
    snapshot = ingest(str(write_source(place / "source", range(8))), str(place / "store"))
    for shard, count in [(0, 1), (0, 3), (1, 3), (2, 3)]:
        folder = place / f"{shard}-{count}"
        preprocess(str(place / "store"), snapshot, folder, {"image_size": 32}, shard, count)
    return place


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.data())
def test_a_stack_reads_like_one_array(lengths, data):
    whole = np.arange(sum(lengths) * 6, dtype=np.uint8).reshape(-1, 3, 2)
    stack = ConcatenatedArray(np.split(whole, np.cumsum(lengths)[:-1]))
    assert (stack.shape, stack.dtype, len(stack)) == (whole.shape, whole.dtype, len(whole))
    if len(whole):
        rows = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1))), np.int64)
        np.testing.assert_array_equal(stack[rows], whole[rows])
        np.testing.assert_array_equal(stack[len(whole) - 1], whole[-1])
    for beyond in (-1, len(whole)):
        with pytest.raises(IndexError):
            stack[np.array([beyond])]


def test_shards_open_as_one_dataset_in_any_order(shards):
    one, of_one = open_dataset([shards / "0-1"])
    three, of_three = open_dataset([shards / "2-3", shards / "0-3", shards / "1-3"])
    assert one == three
    for name in ("train", "validation"):
        rows = of_one[name].rows
        np.testing.assert_array_equal(rows, of_three[name].rows)
        np.testing.assert_array_equal(of_one[name].images[rows], of_three[name].images[rows])
        np.testing.assert_array_equal(of_one[name].masks[rows], of_three[name].masks[rows])
    assert all(isinstance(part, np.memmap) for part in of_three["train"].images.parts)


@pytest.mark.parametrize(
    "names", [["0-3", "2-3"], ["0-3", "1-3", "1-3"], ["0-1", "0-1"], ["0-1", "0-3", "1-3", "2-3"], []]
)
def test_shards_that_do_not_make_a_dataset_are_refused(shards, names):
    with pytest.raises(SettingsError, match="do not make one dataset") as caught:
        open_dataset([shards / name for name in names])
    assert caught.value.got


@pytest.mark.slow
def test_training_sees_the_same_batches_however_many_shards(shards):
    from defectline.components.train.batches import Batches

    def batches(split: Split) -> list[np.ndarray]:
        batches = Batches(split, batch_size=5, seed=3)
        seen = []
        for epoch in range(2):
            batches.shuffle(epoch)
            seen += [array for index in range(len(batches)) for array in batches[index][0]]
        return seen

    _, one = open_dataset(shards / "0-1")
    _, three = open_dataset([shards / f"{shard}-3" for shard in range(3)])
    for a, b in zip(batches(one["train"]), batches(three["train"]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("masked", "unmasked", "outlined"),
    [
        ([True, True, True], None, True),
        ([True, False, False], [False, True, True], False),
        ([True, True, False], [False, False, True], True),
    ],
)
def test_whether_masks_say_how_well_defects_are_found(tmp_path, masked, unmasked, outlined):
    rows = [Row(id=f"NG/{n}", label="NG", split="train", masked=one) for n, one in enumerate(masked)]
    imaging = ImagingSettings(image_size=32)
    content = Prepared(snapshot="s", fingerprint="f", imaging=imaging, rows=rows).model_dump_json()
    assert content.count("masked") == masked.count(False)
    (tmp_path / "dataset.json").write_text(content)
    np.save(tmp_path / "images.npy", np.zeros((3, 32, 32, 1), np.uint8))
    np.save(tmp_path / "masks.npy", np.zeros((3, 32, 32), np.uint8))
    prepared, splits = open_dataset(tmp_path)
    assert [row.masked for row in prepared.rows] == masked
    found = splits["train"].unmasked
    assert (found if found is None else found.tolist(), splits["train"].outlined) == (unmasked, outlined)
