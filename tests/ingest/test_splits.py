"""Which pictures train, calibrate and judge: never the same one twice, and never another one later."""

import hashlib
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SourceError
from defectline.components.common.snapshot import SPLITS, Pair
from defectline.components.ingest.splits import LEAST, assign_splits, split_groups, targets


def pair(label: str, picture: int, name: str = "") -> Pair:
    pixels = hashlib.sha256(f"{picture}".encode()).hexdigest()
    return Pair(f"{label}/{name or picture}", label, "accepted", pixel_sha256=pixels)


def pairs(ok: int, ng: int) -> list[Pair]:
    """That many pairs of each label, all pictures different; more of them begin with the same ones."""
    return [pair("OK", 2 * n) for n in range(ok)] + [pair("NG", 2 * n + 1) for n in range(ng)]


def splits(rows: list[Pair]) -> dict[str, str]:
    return {row.pixel_sha256: row.split for row in rows if row.split}


def counts(rows: list[Pair], label: str) -> Counter[str]:
    return Counter(row.split for row in rows if row.label == label and row.accepted)


sizes = st.integers(3 * LEAST, 60)


@settings(deadline=None)
@given(ok=sizes, ng=sizes)
def test_sixty_twenty_twenty_of_each_label(ok: int, ng: int):
    rows = assign_splits(pairs(ok, ng), {})
    for label, count in (("OK", ok), ("NG", ng)):
        part = max(2, round(count / 5))
        assert counts(rows, label) == {"train": count - 2 * part, "validation": part, "test": part}


@pytest.mark.parametrize(("ok", "ng"), [(20, 20), (90_000, 10_000)])
def test_few_and_many_pairs_are_split_alike(ok: int, ng: int):
    rows = assign_splits(pairs(ok, ng), {})
    for label, count in (("OK", ok), ("NG", ng)):
        have = counts(rows, label)
        for name, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
            assert abs(have[name] / count - share) <= 0.01


@settings(deadline=None)
@given(ok=sizes, ng=sizes, random=st.randoms(use_true_random=False))
def test_neither_order_nor_names_matter(ok: int, ng: int, random):
    rows = pairs(ok, ng)
    expected = splits(assign_splits(rows, {}))
    renamed = [row._replace(id=f"{row.label}/{random.random()}") for row in rows]
    random.shuffle(renamed)
    assert splits(assign_splits(renamed, {})) == expected


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), min_size=1, max_size=5))
def test_adding_pictures_never_moves_an_old_one(additions: list[tuple[int, int]]):
    ok, ng = 3 * LEAST, 3 * LEAST
    known = splits(assign_splits(pairs(ok, ng), {}))
    for more_ok, more_ng in additions:
        ok, ng = ok + more_ok, ng + more_ng
        rows = assign_splits(pairs(ok, ng), known)
        now = splits(rows)
        assert known.items() <= now.items()
        known = now
    for label, count in (("OK", ok), ("NG", ng)):
        have = counts(rows, label)
        # Growing step by step ends near the shares that all at once would have had.
        assert all(abs(have[split] - targets(count)[split]) <= 2 for split in SPLITS)
        assert min(have[split] for split in SPLITS) >= LEAST


@settings(deadline=None)
@given(st.data())
def test_pictures_that_leave_never_move_those_that_stay(data):
    rows = assign_splits(pairs(20, 20), {})
    known = splits(rows)
    left = data.draw(st.sets(st.sampled_from(range(40)), max_size=25))
    stayed = [row._replace(split="") for index, row in enumerate(rows) if index not in left]
    fresh = [pair(label, 1000 + n) for n, label in enumerate(LABELS * 8)]
    now = splits(assign_splits(stayed + fresh, known))
    assert all(now[row.pixel_sha256] == known[row.pixel_sha256] for row in stayed)
    back = splits(assign_splits(rows, known | now))
    assert back == known


def test_a_relabelled_picture_keeps_its_split():
    rows = assign_splits(pairs(20, 20), {})
    known = splits(rows)
    moved = next(row for row in rows if row.label == "OK" and row.split == "test")
    changed = [row._replace(id="NG/moved", label="NG") if row is moved else row for row in rows]
    after = {row.id: row for row in assign_splits(changed, known)}
    assert (after["NG/moved"].label, after["NG/moved"].split) == ("NG", "test")


def test_rejected_rows_get_no_split_and_do_not_count():
    bad = pair("OK", 500)._replace(status="rejected", reason="damaged")
    rows = assign_splits([*pairs(6, 6), bad], {})
    assert next(row for row in rows if row.id == bad.id).split == ""
    with pytest.raises(SourceError):
        assign_splits([*pairs(5, 6), bad], {})


@pytest.mark.parametrize(
    ("ok", "ng", "label", "got"), [(5, 6, "OK", "5"), (0, 5, "NG", "5"), (1, 6, "OK", "1")]
)
def test_too_few_pairs_of_a_label(ok: int, ng: int, label: str, got: str):
    with pytest.raises(SourceError, match=f"too few usable {label} pairs") as caught:
        assign_splits(pairs(ok, ng), {})
    assert caught.value.got == got
    assert "at least 6" in caught.value.expected


def test_a_source_of_good_pictures_gets_defective_ones_night_by_night():
    rows: list[Pair] = []
    for defective, expected in (
        (0, {}),
        (1, {"train": 1}),
        (5, {"train": 5}),
        # Later ones judge escapes when there are enough of them.
        (6, {"train": 5, "validation": 1}),
        (9, {"train": 5, "validation": 2, "test": 2}),
        (20, targets(20)),
    ):
        known = splits(rows)
        rows = assign_splits(pairs(20, defective), known)
        assert counts(rows, "NG") == expected
        assert known.items() <= splits(rows).items()
        assert counts(rows, "OK") == targets(20)


def test_defective_pictures_that_were_all_rejected_are_not_taken_for_none():
    rows = [*pairs(20, 0), pair("NG", 1)._replace(status="rejected", reason="damaged")]
    with pytest.raises(SourceError, match="too few usable NG pairs"):
        assign_splits(rows, {})


def test_a_source_may_have_no_good_pictures():
    assert counts(assign_splits(pairs(0, 20), {}), "NG") == targets(20)


def test_too_few_pictures_are_left_to_a_split():
    rows = assign_splits(pairs(20, 20), {})
    known = splits(rows)
    left = [row for row in rows if not (row.label == "NG" and row.split == "test")]
    with pytest.raises(SourceError, match="Too few NG pictures are left to test") as caught:
        assign_splits(left, known)
    assert caught.value.got.startswith("0")
    # As many new ones as are missing fix it.
    fixed = assign_splits([*left, *(pair("NG", 900 + n) for n in range(4))], known)
    assert counts(fixed, "NG")["test"] == 4


@pytest.mark.parametrize(
    ("ok", "ng", "first", "grown"),
    [
        (6, 6, "98765d5782cef053", "004a671c72887516"),
        (7, 13, "a0f2c392733f2725", "764771bbc0c27846"),
        (101, 37, "37fae2fe44f11130", "7acf41238e15f6bf"),
        (4000, 600, "4c064c52a502b29a", "54dd81b14bf207f7"),
    ],
)
def test_pictures_that_stand_alone_are_split_as_recorded(ok: int, ng: int, first: str, grown: str):
    rows = assign_splits(pairs(ok, ng), {})
    assert digest(rows) == first
    assert digest(assign_splits(pairs(ok + 17, ng + 5), splits(rows))) == grown


def digest(rows: list[Pair]) -> str:
    lines = "\n".join(f"{row.id} {row.split}" for row in sorted(rows))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


# Groups


def grouped(ok: int, ng: int, group_of: Callable[[int], int | None]) -> list[Pair]:
    """As `pairs`, each in the group of its number in its label; None stands alone."""
    rows = []
    for row in pairs(ok, ng):
        group = group_of(int(row.id[3:]) // 2)
        rows.append(row if group is None else row._replace(group=f"{row.label}{group}"))
    return rows


def test_a_group_lies_on_one_side_and_shares_are_near():
    rows = assign_splits(grouped(400, 100, lambda number: number // 4), {})
    assert not split_groups(rows)
    assert counts(rows, "OK") == {"train": 240, "validation": 80, "test": 80}
    assert counts(rows, "NG") == {"train": 60, "validation": 20, "test": 20}


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=6, max_size=25),
    both=st.integers(0, 5),
    random=st.randoms(use_true_random=False),
)
@example(sizes=[2, 1, 21, 3, 1, 2], both=5, random=Random(0))
def test_every_label_has_two_groups_everywhere_and_a_large_one_goes_where_it_fits(
    sizes: list[int], both: int, random
):
    numbers = [group for group, size in enumerate(sizes) for _ in range(size)]
    rows = grouped(len(numbers), len(numbers), numbers.__getitem__)
    # Some parts have pictures of both labels.
    shared = {f"{label}{group}": f"part {group}" for group in range(both) for label in LABELS}
    rows = [row._replace(group=shared.get(row.group, row.group)) for row in rows]
    random.shuffle(rows)
    done = assign_splits(rows, {})
    assert not split_groups(done)
    for label in LABELS:
        for side in SPLITS:
            assert len({row.group for row in done if (row.label, row.split) == (label, side)}) >= LEAST
    wanted = targets(len(numbers))
    assert all(counts(done, "OK")[side] <= wanted[side] + max(sizes) for side in SPLITS)
    assert splits(assign_splits(sorted(done), {})) == splits(done)


def test_a_group_joins_its_old_side_and_an_old_picture_never_moves():
    rows = assign_splits(grouped(60, 60, lambda number: number // 3), {})
    known = splits(rows)
    new = [pair("OK", 5000 + n)._replace(group=f"OK{n % 20}") for n in range(40)]
    after = assign_splits([*rows, *new], known)
    assert known.items() <= splits(after).items()
    assert not split_groups(after)


def test_an_absent_picture_holds_the_side_of_its_group():
    rows = assign_splits(grouped(60, 60, lambda number: number // 3), {})
    gone = [row for row in rows if row.group == "NG4"]
    stayed = [row for row in rows if row.group != "NG4"]
    absent = [row._replace(status="absent") for row in gone]
    new = pair("NG", 9001)._replace(group="NG4")
    after = assign_splits([*stayed, *absent, new], splits(rows))
    assert next(row for row in after if row.id == new.id).split == gone[0].split


def test_a_group_that_lies_on_two_sides_stays_and_a_new_picture_goes_to_most_of_it():
    known = splits(assign_splits(pairs(60, 60), {}))
    rows = grouped(60, 60, lambda number: 0 if number < 25 else None)
    rows += [pair("OK", 7000)._replace(group="OK0")]
    after = assign_splits(rows, known)
    assert known.items() <= splits(after).items()
    sides = Counter(row.split for row in after if row.group == "OK0" and row.id != "OK/7000")
    assert next(row.split for row in after if row.id == "OK/7000") == sides.most_common(1)[0][0]
    assert set(split_groups(after)) == {"OK0", "NG0"}


def test_many_pictures_of_few_parts_are_too_few():
    rows = grouped(60, 60, lambda number: number % 5)
    with pytest.raises(SourceError, match="The OK pictures show too few parts") as caught:
        assign_splits(rows, {})
    assert caught.value.got == "60 pictures in 5 groups"
    assert "at least 6 groups" in caught.value.expected


def test_too_few_groups_are_left_to_a_split():
    rows = grouped(60, 60, lambda number: number // 6)
    known = {row.pixel_sha256: "test" if row.group == "NG3" else "train" for row in rows if row.label == "NG"}
    with pytest.raises(SourceError, match="Too few NG pictures are left to validation"):
        assign_splits(rows, known)
    known |= {row.pixel_sha256: "validation" for row in rows if row.group == "NG4"}
    with pytest.raises(SourceError, match="Too few NG groups are left to validation"):
        assign_splits(rows, known)
