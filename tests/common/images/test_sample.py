"""Drawn samples: layout, masks, the same bytes again, and nothing half-written."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from defectline.components.common.errors import SettingsError
from defectline.components.common.images import sample
from defectline.components.common.images.sample import draw_pair, generate_samples


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def defective(count: int, size: int = 224) -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw_pair("NG", np.random.default_rng([5, number]), size) for number in range(count)]


def test_layout_and_names(tmp_path):
    generate_samples(tmp_path / "deep" / "drawn", pairs=5, size=64)
    assert set(contents(tmp_path / "deep" / "drawn")) == {
        f"{label}{folder}/{number:05d}_{label}_{kind}.png"
        for label, count in (("OK", 3), ("NG", 2))
        for folder, kind in (("", "Image"), ("_MSK", "Mask"))
        for number in range(count)
    }
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["drawn"]


def test_files_are_8_bit_grey_and_masks_hold_0_and_255(tmp_path):
    generate_samples(tmp_path / "drawn", pairs=4, size=224)
    for path in (tmp_path / "drawn").rglob("*.png"):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (224, 224))
            if "_Mask" in path.name:
                values = set(np.unique(np.asarray(image)).tolist())
                assert values == ({0, 255} if "_NG_" in path.name else {0})


def test_same_arguments_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        generate_samples(tmp_path / name, pairs=8, seed=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_larger_draw_holds_the_smaller_one(tmp_path):
    generate_samples(tmp_path / "small", pairs=5, size=64)
    generate_samples(tmp_path / "large", pairs=12, size=64)
    assert contents(tmp_path / "small").items() <= contents(tmp_path / "large").items()


def test_no_two_images_are_equal_and_another_seed_gives_others(tmp_path):
    for seed in (0, 1):
        generate_samples(tmp_path / str(seed), pairs=8, seed=seed, size=64)
    images = [data for key, data in contents(tmp_path).items() if key.endswith("_Image.png")]
    assert len(set(images)) == len(images) == 16


@pytest.mark.parametrize("size", [32, 100, 224, 300])
def test_defect_area_grows_with_the_size(size):
    areas = np.array([np.count_nonzero(mask) for _, mask in defective(40, size)])
    scale = (size / 224) ** 2
    assert areas.min() >= 50 * scale
    assert areas.max() <= 900 * scale
    assert areas.max() > 2 * areas.min()


def test_mask_covers_what_differs():
    """The same generator draws the same plate without the defect for OK; only the noise is another. Points
    that the defect touches are marked whole, and hardly differ where they shine already."""
    for number, (image, mask) in enumerate(defective(40)):
        flawless, _ = draw_pair("OK", np.random.default_rng([5, number]), 224)
        difference = np.abs(image.astype(int) - flawless)
        assert np.mean(difference[mask > 0] >= 10) > 0.3
        assert not np.any(difference[mask == 0] > 35)


def test_ok_masks_are_empty():
    for number in range(20):
        image, mask = draw_pair("OK", np.random.default_rng(number), 224)
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == mask.shape == (224, 224)
        assert not mask.any()
        assert image.std() > 10


@pytest.mark.parametrize(("name", "value"), [("pairs", 1), ("size", 31), ("seed", -1)])
def test_refuses_numbers_that_are_too_small(tmp_path, name, value):
    with pytest.raises(SettingsError, match=f"{name}={value}"):
        generate_samples(tmp_path / "drawn", **{name: value})
    assert not list(tmp_path.iterdir())


def test_refuses_a_folder_that_is_not_empty(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(SettingsError, match="nothing was overwritten"):
        generate_samples(tmp_path, pairs=2, size=32)
    with pytest.raises(SettingsError, match="a file"):
        generate_samples(tmp_path / "mine.txt", pairs=2, size=32)
    assert contents(tmp_path) == {"mine.txt": b"keep"}


def test_takes_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    generate_samples(tmp_path / "empty", pairs=2, size=32)
    assert len(contents(tmp_path / "empty")) == 4


def test_a_place_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="could not be written"):
        generate_samples(tmp_path / "file" / "drawn", pairs=2, size=32)


def test_a_failed_draw_leaves_nothing(tmp_path, monkeypatch):
    written = []

    def fail_late(pixels: np.ndarray, path: Path) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError(28, os.strerror(28))
        path.touch()

    monkeypatch.setattr(sample, "_write", fail_late)
    with pytest.raises(SettingsError, match="No space left"):
        generate_samples(tmp_path / "drawn", pairs=4, size=32)
    assert len(written) == 3
    assert not list(tmp_path.iterdir())
