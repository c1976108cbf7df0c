"""Near twins: what looks like one part lies on one side, and what does not is not joined."""

import hashlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from paths import SHARED
from pictures import QUARANTINE, encode, mask

from defectline.components.common.images.reading import decode_image
from defectline.components.common.snapshot import Pair, read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.grouping import twins
from defectline.components.ingest.grouping.looks import describe
from defectline.components.ingest.grouping.twins import join_twins
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import take_snapshot

SHIFTS = ((0, 0), (4, -3), (-6, 5), (9, 2))


def plate(number: int, shift: tuple[int, int] = (0, 0), size: int = 112) -> np.ndarray:
    """A picture of the rough plate `number`, a little beside where others of it lie, and in another light."""
    rough = np.random.default_rng([11, number]).normal(size=(size, size))
    grey = 120 + 300 * cv2.GaussianBlur(rough, (0, 0), 3)
    light = 1 - 0.03 * abs(shift[0])
    return np.clip(np.roll(grey, shift, axis=(0, 1)) * light, 0, 255).astype(np.uint8)


def seen(id: str, pixels: np.ndarray, status: str = "accepted") -> Pair:
    look = describe(np.repeat(pixels[..., None], 3, axis=2))
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return Pair(id, id[:2], status, f"{id}.png", pixel_sha256=digest, look=look)


@pytest.fixture(scope="module")
def burst() -> list[Pair]:
    """Thirty plates, each taken four times."""
    return [
        seen(f"OK/{hash_name(number, index)}", plate(number, shift))
        for number in range(30)
        for index, shift in enumerate(SHIFTS)
    ]


def hash_name(number: int, index: int) -> str:
    """A name that says what is shown to the test alone: others lie between in the order of names."""
    return f"{hashlib.sha256(f'{number} {index}'.encode()).hexdigest()[:6]}-{number}"


def half_alike(number: int) -> np.ndarray:
    """Less like the plate `number` than two pictures of one part should be, but not by much."""
    mixed = 0.68 * (plate(number) - 120.0) + 0.73 * (plate(number + 500) - 120.0)
    return np.clip(120 + mixed, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("names", "joined"),
    [
        # A camera's numbers, whatever stands before them.
        (("OK/exp1_num_0811", "OK/exp3_num_0830"), True),
        (("OK/7", "OK/8"), True),
        (("OK/line/7", "OK/8"), False),
        # Another frame lies between.
        (("OK/exp1_num_0811", "OK/exp3_num_0850"), False),
    ],
)
def test_of_frames_one_after_another_less_is_asked(names: tuple[str, str], joined: bool):
    rows = [seen(names[0], plate(0)), seen(names[1], half_alike(0)), seen("OK/exp2_num_0840", plate(900))]
    rows += [seen(f"OK/other_{9000 + number}", plate(number)) for number in range(1, 3)]
    found = {row.id: row.group for row in join_twins(rows, [])}
    assert bool(found[names[0]]) == joined
    assert found[names[0]] == found[names[1]]


def plates(rows: list[Pair]) -> dict[str, set[str]]:
    """Groups to the plates that they show."""
    found: dict[str, set[str]] = {}
    for row in rows:
        if row.group:
            found.setdefault(row.group, set()).add(row.id.rpartition("-")[2])
    return found


def test_pictures_of_one_plate_are_a_group(burst: list[Pair]):
    rows = join_twins(burst, [])
    assert all(len(shown) == 1 for shown in plates(rows).values())
    assert sorted(Counter(row.group for row in rows).values()) == [4] * 30
    first = next(row for row in rows if row.group)
    assert first.group == "~" + min(row.id for row in rows if row.group == first.group)


def test_the_order_does_not_matter(burst: list[Pair]):
    expected = {row.id: row.group for row in join_twins(burst, [])}
    assert {row.id: row.group for row in join_twins(reversed(burst), [])} == expected


def test_new_pictures_join_the_groups_of_old_ones(burst: list[Pair]):
    old = join_twins([row for index, row in enumerate(burst) if index % 4 < 2], [])
    rows = join_twins([*old, *(row for index, row in enumerate(burst) if index % 4 >= 2)], old)
    assert plates(rows).keys() == plates(join_twins(burst, [])).keys()
    assert all(len(shown) == 1 for shown in plates(rows).values())


def test_a_picture_that_left_still_holds_its_group(burst: list[Pair]):
    old = join_twins(burst[:8], [])
    gone = [row._replace(status="absent") for row in old]
    rows = join_twins([*gone, seen("OK/zz-0", plate(0, (2, 2)))], old)
    assert rows[-1].group == old[0].group


def test_nothing_is_compared_where_nothing_is_new(burst: list[Pair], monkeypatch: pytest.MonkeyPatch):
    rows = join_twins(burst, [])
    monkeypatch.setattr(twins, "Likeness", None)
    bare = [row._replace(group="") for row in rows]
    assert join_twins(bare, rows) == rows


def test_said_groups_are_left_alone(burst: list[Pair]):
    said = [row._replace(group="part") if index % 4 == 0 else row for index, row in enumerate(burst)]
    rows = join_twins(said, [])
    assert sum(row.group == "part" for row in rows) == 30
    assert sorted(Counter(row.group for row in rows).values()) == [3] * 30 + [30]


def test_rejected_and_plain_pictures_are_left_out():
    flat = np.full((50, 50), 90, np.uint8)
    rows = [
        seen("OK/a", flat),
        seen("OK/b", flat + 1),
        seen("OK/c", plate(0), "rejected"),
        seen("OK/d", plate(0, (1, 1))),
    ]
    assert not any(row.group for row in join_twins(rows, []))


def test_parts_that_lie_in_one_place_are_not_one_part():
    """A board whose parts always lie in one place: only what differs tells whether it is the same one."""
    board = cv2.resize(plate(99), (224, 224)).astype(int)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(80):
        own = cv2.GaussianBlur(rng.normal(0, 90, board.shape), (0, 0), 3)
        for copy in range(2 if number < 5 else 1):
            noise = rng.normal(0, 3, board.shape)
            pixels = np.clip(board + own + noise, 0, 255).astype(np.uint8)
            rows.append(seen(f"OK/{copy}-{number}", pixels))
    found = plates(join_twins(rows, []))
    assert sorted(found.values(), key=min) == [{str(number)} for number in range(5)]


def test_a_chain_of_pictures_does_not_join_its_ends():
    """A strip that moves on: neighbours are alike, the first and the last have nothing in common."""
    strip = np.hstack([plate(200 + number) for number in range(12)])
    rows = [
        seen(f"OK/{start:05}", strip[:, start : start + 112]) for start in range(0, strip.shape[1] - 112, 6)
    ]
    rows += [seen(f"NG/{number}", plate(300 + number)) for number in range(20)]
    sizes = Counter(row.group for row in join_twins(rows, []) if row.group)
    assert max(sizes.values()) < len(rows) / 3


@pytest.mark.skipif(not (SHARED / "data/lgp").is_dir(), reason="needs the light guide plates")
def test_light_guide_plates_are_forty_parts():
    paths = sorted((SHARED / "data/lgp").glob("[ON]*/*_Image.bmp"))
    rows = [
        seen(f"{path.parent.name}/{path.stem}", decode_image(path.read_bytes())[..., 0]) for path in paths
    ]
    assert len(rows) == 40
    assert not any(row.group for row in join_twins(rows, []))


@pytest.mark.skipif(not (SHARED / "data/magnetic_tile").is_dir(), reason="needs the magnetic tiles")
def test_magnetic_tiles_under_several_exposures(tmp_path: Path):
    """Of the good tiles, by the rule of the data's README; see docs/data.md."""
    paths = sorted((SHARED / "data/magnetic_tile/MT_Free/Imgs").glob("*.jpg"), key=_frame)[:240]
    tile, tiles, last = -1, {}, (0, 9)
    rows = []
    for path in paths:
        frame, exposure = _frame(path)
        tile += exposure <= last[1] or frame - last[0] >= 600
        last = frame, exposure
        row = seen(f"OK/{path.stem}", read(path))
        tiles[row.id] = tile
        rows.append(row)
    found = {row.id: row.group or row.id for row in join_twins(rows, [])}
    torn = [one for one in set(tiles.values()) if len({found[id] for id in tiles if tiles[id] == one}) > 1]
    assert len(set(tiles.values())) > 50
    # Some pictures of a tile look like none of the others: their names, which looks bear out, join them.
    assert not torn


def read(path: Path) -> np.ndarray:
    return decode_image(path.read_bytes())[..., 0]


def _frame(path: Path) -> tuple[int, int]:
    exposure, _, frame = path.stem.removeprefix("exp").partition("_num_")
    return int(frame), int(exposure)


def test_ingest_keeps_near_twins_on_one_side(
    tmp_path: Path, store: FolderStorage, capsys: pytest.CaptureFixture[str]
):
    source = tmp_path / "source"
    for number in range(24):
        label = "OK" if number % 2 else "NG"
        for index, shift in enumerate(SHIFTS[:2]):
            for folder, pixels in ((label, plate(number, shift)), (f"{label}_MSK", mask(label == "NG", 112))):
                path = source / folder / f"{hash_name(number, index)}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode(pixels))
    first = take_snapshot(FolderStorage(source), store, QUARANTINE).snapshot
    rows = read_pairs(store, first.id)
    assert len(rows) == 48
    assert sorted(Counter(row.group for row in rows).values()) == [2] * 24
    assert all(len({row.split for row in rows if row.group == name}) == 1 for name in plates(rows))
    said = "48 pictures show one part with others by looks and names: 24 groups, each on one side"
    assert said in capsys.readouterr().out
    assert take_snapshot(FolderStorage(source), store, QUARANTINE).snapshot.id == first.id
    # Where every picture shall stand alone, the setting says so.
    alone = take_snapshot(
        FolderStorage(source), FolderStorage(tmp_path / "other"), QUARANTINE, IngestSettings(group_by="(.+)")
    ).snapshot
    assert not any(
        row.group.startswith("~") for row in read_pairs(FolderStorage(tmp_path / "other"), alone.id)
    )


def test_a_store_of_before_looks_gets_them(tmp_path: Path, source: Path, store: FolderStorage, monkeypatch):
    monkeypatch.setattr("defectline.components.ingest.checks.describe", lambda pixels: "")
    before = take_snapshot(FolderStorage(source), store, QUARANTINE).snapshot
    monkeypatch.undo()
    after = take_snapshot(FolderStorage(source), store, QUARANTINE).snapshot
    assert after.id == before.id
    assert all(row.look for row in read_pairs(store, after.id))
