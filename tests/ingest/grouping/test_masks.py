"""Twins whose masks differ are named."""

import cv2
import numpy as np
import pytest
from paths import SHARED
from pictures import encode, mask

from defectline.components.common.snapshot import Pair
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.checks import check_pair, reject_duplicates
from defectline.components.ingest.grouping.looks import describe
from defectline.components.ingest.grouping.masks import (
    describe_marks,
    find_contradictions,
    masks_differ,
    tell_contradictions,
)
from defectline.components.ingest.grouping.twins import join_twins
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import take_snapshot

SIZE = 112


def rough(number: int, light: float = 1.0) -> np.ndarray:
    noise = np.random.default_rng([7, number]).normal(size=(SIZE, SIZE))
    return np.clip((120 + 300 * cv2.GaussianBlur(noise, (0, 0), 3)) * light, 0, 255).astype(np.uint8)


def square(x: int, y: int, side: int = 10) -> np.ndarray:
    drawn = np.zeros((SIZE, SIZE), bool)
    drawn[y : y + side, x : x + side] = True
    return drawn


def marking(marked: np.ndarray, id: str = "NG/1", light: float = 1.0, number: int = 0) -> Pair:
    pixels = rough(number, light)
    return Pair(
        id,
        id[:2],
        "accepted",
        pixel_sha256=id,
        width=SIZE,
        height=SIZE,
        defect_px=int(marked.sum()),
        marks=describe_marks(marked),
        look=describe(np.repeat(pixels[..., None], 3, axis=2)),
        group="~1",
    )


@pytest.mark.parametrize(
    ("other", "differ"),
    [
        (square(20, 20), False),
        (square(23, 18), False),  # drawn by another hand
        (square(18, 18, 14), False),
        (square(70, 70), True),
        (square(20, 20) | square(70, 70), True),
        (square(15, 15, 30), True),  # nine times as large
    ],
)
def test_masks_differ(other, differ):
    one = marking(square(20, 20))
    assert masks_differ(one, marking(other)) is masks_differ(marking(other), one) is differ


@pytest.mark.parametrize(("id", "differ"), [("OK/1", True), ("NG/1", False)])
def test_of_a_picture_without_a_mask_the_label_says_it(id, differ):
    one, other = marking(square(20, 20)), marking(np.zeros((SIZE, SIZE), bool), id)
    assert masks_differ(one, other) is masks_differ(other, one) is differ


def test_nothing_is_said_of_what_an_older_version_read():
    assert not masks_differ(marking(square(20, 20))._replace(marks=""), marking(square(70, 70)))


def test_marks_of_a_picture_of_any_shape():
    line = np.zeros((1, 4000), bool)
    line[0, 3999] = True
    assert describe_marks(line) != describe_marks(line[:, ::-1]) != ""
    assert describe_marks(np.zeros((3, 5), bool)) == ""


def test_only_what_looks_the_same_is_named():
    here, there = square(20, 20), square(70, 70)
    rows = [
        marking(here, "NG/1"),
        marking(there, "NG/2", light=0.8),
        marking(here, "NG/3", light=0.9),
        # In the group for other reasons: it shows something else.
        marking(there, "NG/4", number=1),
        marking(there, "NG/5")._replace(status="rejected"),
        marking(there, "NG/6")._replace(group=""),
    ]
    found = find_contradictions(reversed(rows))
    assert [(one.id, other.id) for one, other in found] == [("NG/1", "NG/2"), ("NG/2", "NG/3")]
    assert tell_contradictions(found).startswith("2 × two pictures look the same")
    assert "NG/1 (100 px) and NG/2 (100 px), NG/2" in tell_contradictions(found)
    assert not find_contradictions([rows[0], rows[2]])


def test_the_same_pixels_with_another_mask():
    picture = encode(rough(0))
    rows = [
        check_pair(Pair(f"NG/{name}", "NG", "accepted", "a", "b"), picture, encode(drawn)).pair
        for name, drawn in (
            ("1", mask(20, SIZE)),
            ("2", np.roll(mask(20, SIZE), 50, axis=0)),
            ("3", mask(20, SIZE)),
        )
    ]
    assert [row.reason for row in reject_duplicates(rows, {})] == [
        "",
        "The same picture as NG/1, with another mask.",
        "The same picture as NG/1.",
    ]


def test_ingest_says_them(tmp_path, capsys):
    for number in range(14):
        for label, drawn in (("OK", None), ("NG", square(20, 20))):
            folder = tmp_path / "source" / label
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rough(100 * (label == "NG") + number)
            (folder / f"{number:03}.png").write_bytes(encode(pixels))
            if drawn is not None:
                masks = tmp_path / "source" / "NG_MSK"
                masks.mkdir(exist_ok=True)
                (masks / f"{number:03}.png").write_bytes(encode(drawn.astype(np.uint8) * 255))
    (tmp_path / "source/OK/again.png").write_bytes(encode(rough(103, light=0.9)))
    store = FolderStorage(tmp_path / "store")
    take_snapshot(FolderStorage(tmp_path / "source"), store, "q.csv", IngestSettings(masks="ng_only"))
    said = capsys.readouterr().out
    assert "1 × two pictures look the same" in said
    assert "NG/003 (100 px) and OK/again (0 px)" in said


@pytest.mark.skipif(not (SHARED / "data/magnetic_tile").is_dir(), reason="no ../shared/data/magnetic_tile")
def test_a_tile_that_is_called_good_and_defective():
    """The same tile under two exposures; the pinhole is visible in both."""
    folder = SHARED / "data/magnetic_tile"
    rows = []
    for label, name in (("NG", "MT_Blowhole/Imgs/exp1_num_346311"), ("OK", "MT_Free/Imgs/exp4_num_346361")):
        image, drawn = ((folder / f"{name}{suffix}").read_bytes() for suffix in (".jpg", ".png"))
        rows.append(check_pair(Pair(f"{label}/1", label, "accepted", "a", "b"), image, drawn).pair)
    found = find_contradictions(join_twins(rows, []))
    assert [(one.id, other.id) for one, other in found] == [("NG/1", "OK/1")]
