"""Pictures of one part never lie on two sides."""

from pathlib import Path

import pytest
from pictures import QUARANTINE, write_pair, write_source

from defectline.components.common.errors import SettingsError, SourceError
from defectline.components.common.settings import checked
from defectline.components.common.snapshot import Pair, read_pairs, snapshot_id
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.grouping.groups import NO_PATTERN, assign_sides, check_sides, name_groups
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import take_snapshot
from defectline.components.ingest.split_file import Listed
from defectline.components.ingest.splits import assign_splits


def pair(id: str, split: str = "", group: str = "", status: str = "accepted") -> Pair:
    return Pair(id, id[:2], status, f"{id}.png", pixel_sha256=f"pixels of {id}", split=split, group=group)


def groups(rows: list[Pair]) -> dict[str, str]:
    return {row.id: row.group for row in rows}


def take(source: Path, store: FolderStorage, group_by: str = NO_PATTERN) -> dict[str, Pair]:
    snapshot = take_snapshot(
        FolderStorage(source), store, QUARANTINE, IngestSettings(group_by=group_by)
    ).snapshot
    return {row.id: row for row in read_pairs(store, snapshot.id)}


# The setting


@pytest.mark.parametrize("pattern", ["none", "(.+)", r"part(\d+)", "(?:a|b)(c?)", "(?P<part>k.*)_"])
def test_a_pattern_with_one_group_is_taken(pattern: str):
    assert checked(IngestSettings, group_by=pattern).group_by == pattern


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("part", "one capturing group (…); this has 0"),
        ("(a)(b)", "one capturing group (…); this has 2"),
        ("", "this has 0"),
        ("part(", "this is not one: missing ), unterminated subpattern at position 4"),
    ],
)
def test_another_pattern_is_refused(pattern: str, expected: str):
    with pytest.raises(SettingsError, match="The setting group_by is wrong") as caught:
        checked(IngestSettings, group_by=pattern)
    assert expected in caught.value.expected


# What says it


def test_looks_alone_never_leave_too_few_parts(capsys: pytest.CaptureFixture[str]):
    rows = [pair(f"{label}/{number}") for label in ("OK", "NG") for number in range(8)]
    alike = [row._replace(group="~one") if row.label == "NG" else row for row in rows]
    assert assign_sides(alike, {}, {}) == assign_splits(rows, {}, {})
    assert "each is split alone" in capsys.readouterr().out
    said = [row._replace(group="one") if row.label == "NG" else row for row in rows]
    with pytest.raises(SourceError, match="too few parts"):
        assign_sides(said, {}, {})


def test_ids_that_the_pattern_does_not_match_stand_alone_and_are_counted(capsys: pytest.CaptureFixture[str]):
    rows = [pair("OK/k01_1"), pair("OK/k01_2"), pair("NG/k01_3"), pair("OK/x"), pair("NG/y")]
    assert groups(name_groups(rows, [], r"k(\d+)_")) == {
        "OK/k01_1": "01",
        "OK/k01_2": "01",
        "NG/k01_3": "01",
        "OK/x": "",
        "NG/y": "",
    }
    assert "group_by does not match 2 of 5 ids, which stand alone: NG/y, OK/x\n" in capsys.readouterr().out


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(SourceError, match="group_by matches no picture") as caught:
        name_groups([pair("OK/1"), pair("NG/2")], [], "part(x)")
    assert caught.value.got == "group_by=part(x) and ids such as NG/2, OK/1"


def test_the_list_counts_more_than_the_pattern_and_this_more_than_the_layout():
    own = [pair("OK/a1", group="own"), pair("OK/b2", group="own")]
    rows = [*own, pair("NG/c3", status="absent", group="old")]
    listed = [Listed(2, "OK/a1.png", "", "list")]
    assert groups(name_groups(rows, [], NO_PATTERN)) == {"OK/a1": "own", "OK/b2": "own", "NG/c3": "old"}
    assert groups(name_groups(rows, listed, NO_PATTERN))["OK/a1"] == "list"
    assert groups(name_groups(rows, listed, r"(\d)")) == {"OK/a1": "list", "OK/b2": "2", "NG/c3": "3"}


def test_a_copy_gives_its_group_to_the_one_that_is_kept():
    kept, copy = pair("OK/a"), pair("OK/b", status="rejected")._replace(pixel_sha256="pixels of OK/a")
    assert name_groups([kept, copy], [Listed(2, "OK/b", "", "g")], NO_PATTERN)[0].group == "g"
    with pytest.raises(SourceError, match="two groups"):
        name_groups([kept, copy], [Listed(2, "OK/b", "", "g"), Listed(3, "OK/a", "", "h")], NO_PATTERN)


# Two sides


def test_a_list_that_tears_a_group_apart_is_refused():
    rows = [pair("OK/a", "train", "g"), pair("OK/b", "test", "g")]
    listed = [Listed(2, "OK/a", "train", "g"), Listed(3, "OK/b", "test", "g")]
    with pytest.raises(SourceError, match="one part on two sides") as caught:
        check_sides(rows, listed, {})
    assert caught.value.got == "line 2: OK/a,train,g (group g); line 3: OK/b,test,g (group g)"


def test_an_old_group_on_two_sides_is_told_and_left(capsys: pytest.CaptureFixture[str]):
    rows = [pair("OK/a", "train", "g"), pair("OK/b", "test", "g"), pair("OK/c", "test")]
    check_sides(rows, [Listed(2, "OK/a", "train")], {"pixels of OK/a": "train", "pixels of OK/b": "test"})
    said = capsys.readouterr().out
    assert "1 groups lie on two sides since earlier snapshots or by splits.csv, where they stay: g." in said


def test_a_list_may_tear_apart_what_only_looks_alike(capsys: pytest.CaptureFixture[str]):
    rows = [pair("OK/a", "train", "~OK/a"), pair("OK/b", "test", "~OK/a")]
    check_sides(rows, [Listed(2, "OK/a", "train"), Listed(3, "OK/b", "test")], {})
    assert "1 groups lie on two sides" in capsys.readouterr().out


def test_groups_are_part_of_what_a_snapshot_is():
    rows = [pair("OK/a", "train"), pair("OK/b", "train")]
    assert snapshot_id(rows) != snapshot_id([row._replace(group="g") for row in rows])


# Through ingest


def test_groups_by_pattern_hold_in_a_source_that_grows(tmp_path: Path, store: FolderStorage):
    source = write_source(tmp_path / "source", range(40))
    by_tens = r"/\d+?(\d)_"
    rows = take(source, store, by_tens)
    assert {row.group for row in rows.values()} == {str(digit) for digit in range(10)}
    before = {row.group: row.split for row in rows.values()}
    assert all(row.split == before[row.group] for row in rows.values())
    for number in range(50, 70):
        write_pair(source, "OK", number)
    after = take(source, store, by_tens)
    assert len(after) == 100
    assert all(row.split == before[row.group] for row in after.values())


def test_groups_that_come_later_move_nothing(
    tmp_path: Path, store: FolderStorage, capsys: pytest.CaptureFixture[str]
):
    source = write_source(tmp_path / "source", range(40))
    before = {id: row.split for id, row in take(source, store).items()}
    after = take(source, store, r"/\d+?(\d)_")
    assert {id: row.split for id, row in after.items()} == before
    said = capsys.readouterr().out
    assert "lie on two sides since earlier snapshots" in said
    assert "show one part with others: 10 groups, " in said
    assert "of them on two sides, the largest" in said


def test_a_column_of_groups_in_the_list(tmp_path: Path, store: FolderStorage):
    source = write_source(tmp_path / "source", range(30))
    lines = [f"NG/{number:05}_NG,part {number // 3}" for number in range(30)]
    (source / "splits.csv").write_text("\n".join(["id,group", *lines]))
    rows = take(source, store)
    sides: dict[str, set[str]] = {}
    for row in rows.values():
        if row.label == "NG":
            sides.setdefault(row.group, set()).add(row.split)
    assert set(map(len, sides.values())) == {1}
    assert len(sides) == 10
