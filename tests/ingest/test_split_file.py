"""splits.csv: a user's own splits, followed or refused, never half followed."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import accepted, encode, mask, noise, remove_pair, write_pair, write_source

from defectline.components.common.errors import SourceError
from defectline.components.common.snapshot import SPLITS, Pair, read_head, read_pairs
from defectline.components.common.storage import Object
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import take_snapshot
from defectline.components.ingest.split_file import Listed, known_splits, parse_split_file
from defectline.components.ingest.splits import assign_splits, targets


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source", range(10))


class ReversedFolder(FolderStorage):
    """A folder that lists its files in another order."""

    def list_all(self, prefix: str = "") -> Iterator[Object]:
        return iter(sorted(super().list_all(prefix), reverse=True))


def take(
    source: Path, store: FolderStorage, max_rejected: float = 0.3, kind: type[FolderStorage] = FolderStorage
) -> dict[str, Pair]:
    snapshot = take_snapshot(
        kind(source), store, "runs/r/quarantine.csv", IngestSettings(max_rejected=max_rejected)
    ).snapshot
    return {row.id: row for row in read_pairs(store, snapshot.id)}


def write_list(source: Path, *rows: str, header: str = "id,split") -> None:
    (source / "splits.csv").write_text("\n".join([header, *rows]) + "\n")


# The file


@pytest.mark.parametrize(
    "data",
    [
        b"id,split\nOK/1,test\nNG/1_Image.bmp,train\n",
        b"\xef\xbb\xbfid,split\r\nOK/1,test\r\n\r\nNG/1_Image.bmp,train",
        b' id , split\n"OK/1", test \nNG/1_Image.bmp,train\n,\n',
        b"id,split\nOK/1,test\nNG/1_Image.bmp,train\nOK/1,test\n",
    ],
)
def test_what_spreadsheets_write_is_read(data: bytes):
    rows = {(row.id, row.split) for row in parse_split_file(data)}
    assert rows == {("OK/1", "test"), ("NG/1_Image.bmp", "train")}


@pytest.mark.parametrize(
    ("data", "what", "got"),
    [
        (b"", "cannot be read", "first line ''"),
        (b"OK/1,test\n", "cannot be read", "'OK/1,test'"),
        (b"id;split\nOK/1;test\n", "cannot be read", "'id;split'"),
        (b"id,split\nOK/1,test\nOK/2\n", "cannot be read", "1 columns in line 3: 'OK/2'"),
        (b"id,split\nOK/1,test,new\n", "cannot be read", "3 columns in line 2"),
        (b"id,group,split\nOK/1,a,test\n", "cannot be read", "'id,group,split'"),
        (b"id,split\nOK/1,\n", "splits that there are not", "line 2: OK/1"),
        (b"id,group\nOK/1,a\nOK/1,b\n", "two groups", "line 2: OK/1,a; line 3: OK/1,b"),
        (b"id,split\nOK/\xff,test\n", "cannot be read", "not UTF-8 at 12"),
        (b'id,split\n"OK/1,test\n', "cannot be read", "end of data"),
        (
            b"id,split\nOK/1,val\nOK/2,Test\n",
            "splits that there are not",
            "line 2: OK/1,val; line 3: OK/2,Test",
        ),
        (b"id,split\nOK/1,test\nOK/1,train\n", "two splits", "line 2: OK/1,test; line 3: OK/1,train"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused(data: bytes, what: str, got: str):
    with pytest.raises(SourceError, match=what) as caught:
        parse_split_file(data)
    assert got in caught.value.got
    assert caught.value.fix


def test_groups_stand_beside_splits_or_alone():
    assert parse_split_file(b"id,group\nOK/1,a\nOK/2,\n") == [
        Listed(2, "OK/1", "", "a"),
        Listed(3, "OK/2", ""),
    ]
    assert parse_split_file(b"id,split,group\nOK/1,test,a\nOK/2,,a\nOK/3,train,\n") == [
        Listed(2, "OK/1", "test", "a"),
        Listed(3, "OK/2", "", "a"),
        Listed(4, "OK/3", "train"),
    ]


def test_an_error_names_a_few_rows_and_counts_the_others():
    rows = "".join(f"OK/{number},val\n" for number in range(40))
    with pytest.raises(SourceError) as caught:
        parse_split_file(f"id,split\n{rows}".encode())
    assert caught.value.got.endswith("line 6: OK/4,val; 35 more")


# Following it


def test_listed_pictures_get_their_split_and_the_others_fill_up(
    source: Path, store: FolderStorage, capsys: pytest.CaptureFixture[str]
):
    write_list(
        source,
        *(f"OK/{number:05d}_OK,test" for number in (0, 1)),
        "NG/00003_NG_Image.png,validation",
        "NG/00004_NG,train",
        "OK/00077_OK,train",
        "NG/00078_NG_Image.png,train",
    )
    rows = take(source, store)
    assert {rows[id].split for id in ("OK/00000_OK", "OK/00001_OK")} == {"test"}
    assert (rows["NG/00003_NG"].split, rows["NG/00004_NG"].split) == ("validation", "train")
    for label in ("OK", "NG"):
        assert Counter(row.split for row in rows.values() if row.label == label) == targets(10)
    said = capsys.readouterr().out
    assert "splits.csv: 2 of 6 rows name pictures that are not in the source" in said
    # It is part of the layout, not a stray file.
    assert "ignored" not in said


def test_the_list_may_grow_with_the_source_and_may_go(source: Path, store: FolderStorage):
    write_list(source, "OK/00000_OK,test")
    before = take(source, store)
    write_pair(source, "OK", 50)
    write_list(source, "OK/00000_OK,test", "OK/00050_OK,test", f"OK/00001_OK,{before['OK/00001_OK'].split}")
    after = take(source, store)
    assert after["OK/00050_OK"].split == "test"
    (source / "splits.csv").unlink()
    assert {id: row.split for id, row in take(source, store).items()} == {
        id: row.split for id, row in after.items()
    }
    assert all(after[id].split == row.split for id, row in before.items())


def test_a_split_once_given_is_kept_for_ever(source: Path, store: FolderStorage):
    before = take(source, store)
    head = read_head(store)
    wrong = [row for row in before.values() if row.split != "test"][:2]
    write_list(source, f"{wrong[0].id},test", f"{wrong[1].image_key},test")
    with pytest.raises(SourceError, match="moves pictures that have a split already") as caught:
        take(source, store)
    assert f"line 2: {wrong[0].id},test, but it is in {wrong[0].split}" in caught.value.got
    assert f"line 3: {wrong[1].image_key},test" in caught.value.got
    assert read_head(store) == head
    # A picture that was away keeps its split as well, under any name.
    (source / "splits.csv").unlink()
    gone = next(row for row in before.values() if row.label == "OK" and row.split == "train")
    number = int(gone.id[3:8])
    remove_pair(source, "OK", number)
    write_pair(source, "OK", 70)
    take(source, store)
    write_pair(source, "OK", 80, picture=number)
    write_list(source, "OK/00080_OK,test")
    with pytest.raises(SourceError, match="moves pictures"):
        take(source, store)


def test_identical_pictures_stand_on_one_side(source: Path, store: FolderStorage):
    write_pair(source, "OK", 60, picture=0)
    write_list(source, "OK/00000_OK,test", "OK/00060_OK,train")
    with pytest.raises(SourceError, match="two splits") as caught:
        take(source, store)
    assert caught.value.got == "line 2: OK/00000_OK,test; line 3: OK/00060_OK,train"
    # Of the copies only one is kept; the other's row decides as well.
    write_list(source, "OK/00060_OK,validation")
    assert take(source, store)["OK/00000_OK"].split == "validation"


def test_a_picture_by_id_and_by_key_is_one_picture():
    pair = Pair("OK/1", "OK", "accepted", "OK/1_Image.png", pixel_sha256="p")
    same = [Listed(2, "OK/1", "test"), Listed(3, "OK/1_Image.png", "test")]
    assert known_splits(same, [pair], {}) == {"p": "test"}
    with pytest.raises(SourceError, match="two splits"):
        known_splits([same[0], same[1]._replace(split="train")], [pair], {})


def test_names_are_compared_as_the_pairs_are():
    pair = Pair("OK/Pr\u00fcfling", "OK", "accepted", "OK/Pru\u0308fling.png", pixel_sha256="p")
    for id in ("OK/Pr\u00fcfling", "OK/Pru\u0308fling", "OK/Pru\u0308fling.png"):
        assert known_splits([Listed(2, id, "test")], [pair], {}) == {"p": "test"}


def test_rejected_pictures_may_be_listed(source: Path, store: FolderStorage):
    (source / "OK/00003_OK_Image.png").write_bytes(b"broken")
    (source / "NG_MSK/00003_NG_Mask.png").write_bytes(encode(mask(False)))
    write_list(source, "OK/00003_OK,test", "NG/00003_NG,test")
    rows = take(source, store)
    assert {rows[id].status for id in ("OK/00003_OK", "NG/00003_NG")} == {"rejected"}


def test_a_list_that_leaves_a_split_empty_is_refused(source: Path, store: FolderStorage):
    write_list(source, *(f"NG/{number:05d}_NG,train" for number in range(10)))
    with pytest.raises(SourceError, match="Too few NG pictures are left to validation") as caught:
        take(source, store)
    assert "splits.csv" in caught.value.got


# In general


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 39), st.sampled_from(SPLITS), max_size=12), st.randoms())
def test_every_list_is_followed_whatever_its_order(chosen: dict[int, str], random):
    rows = [
        Pair(
            f"{label}/{n}",
            label,
            "accepted",
            f"{label}/{n}.png",
            pixel_sha256=f"{n * 7919 % 101:064x}{label}",
        )
        for n in range(20)
        for label in ("OK", "NG")
    ]
    listed = [Listed(n, rows[n].id if n % 2 else rows[n].image_key, split) for n, split in chosen.items()]
    expected = known_splits(listed, rows, {})
    random.shuffle(listed)
    assert known_splits(listed, reversed(rows), {}) == expected
    split = {row.id: row.split for row in assign_splits(rows, expected)}
    assert all(split[rows[n].id] == given for n, given in chosen.items())
    # Adding more, later, moves none.
    known = {row.pixel_sha256: split[row.id] for row in rows}
    more = [row._replace(id=row.id + "x", pixel_sha256=row.pixel_sha256 + "x") for row in rows[:6]]
    assert all(row.split == split[row.id] for row in assign_splits([*rows, *more], known) if row.id in split)


def pair_files(source: Path, label: str, number: int, kind: int) -> None:
    """One of the things that a source may hold: sound, without mask, broken, the wrong mask, or a copy."""
    image = write_pair(source, label, number, picture={"OK": 0, "NG": 10_000}[label] if kind == 4 else None)
    truth = source / f"{label}_MSK/{number:05d}_{label}_Mask.png"
    if kind == 1:
        truth.unlink()
    elif kind == 2:
        image.write_bytes(encode(noise(number))[:-40])
    elif kind == 3:
        truth.write_bytes(encode(mask(label == "OK")))


@settings(deadline=None, max_examples=20)
@given(
    growth=st.lists(
        st.lists(st.tuples(st.sampled_from(["OK", "NG"]), st.integers(0, 4)), max_size=6),
        min_size=1,
        max_size=3,
    )
)
def test_a_source_that_grows_is_always_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, growth: list[list[tuple[str, int]]]
):
    """Train, validation, test and quarantine together are the source, and no picture moves."""
    folder = tmp_path_factory.mktemp("growth")
    source, store = write_source(folder / "source", range(6)), FolderStorage(folder / "store")
    before: dict[str, str] = {}
    number = 100
    for additions in growth:
        for label, kind in additions:
            number += 1
            pair_files(source, label, number, kind)
        rows = take(source, store, max_rejected=1.0).values()
        files = {path.relative_to(source).as_posix() for path in source.rglob("*.png")}
        assert {key for row in rows for key in (row.image_key, row.mask_key) if key} == files
        for row in rows:
            assert (row.status, bool(row.split)) in {("accepted", True), ("rejected", False)}
        now = {row.pixel_sha256: row.split for row in rows if row.split}
        assert len(now) == sum(bool(row.split) for row in rows)
        assert before.items() <= now.items()
        before = now
    # In another order of listing, the same source makes the same snapshot.
    orders = [FolderStorage(folder / "one"), FolderStorage(folder / "other")]
    assert take(source, orders[0], 1.0) == take(source, orders[1], 1.0, ReversedFolder)
    assert read_head(orders[0]) == read_head(orders[1])


def test_a_list_that_fits_no_picture_is_refused():
    rows = [accepted(1, "OK")]
    with pytest.raises(SourceError, match="No row of splits") as caught:
        known_splits([Listed(2, "00001", "train")], rows, {})
    assert "00001,train" in caught.value.got


@pytest.mark.parametrize("name", ["Splits.csv", "SPLITS.CSV", "Classes.csv"])
def test_a_file_for_all_formats_of_another_case_is_not_ignored(source: Path, store: FolderStorage, name: str):
    (source / name).write_text("id,split\nOK/00000_OK,test\n")
    with pytest.raises(SourceError, match=f"{name} would be ignored"):
        take(source, store)


def test_a_header_may_be_in_capitals():
    assert parse_split_file(b"ID,Split\nOK/1,test\n") == [Listed(2, "OK/1", "test")]
