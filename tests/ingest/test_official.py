"""The splits that a format gives."""

from pictures import accepted

from defectline.components.common.snapshot import SPLITS, Pair
from defectline.components.common.storage import Object
from defectline.components.ingest.official import Official, official_splits
from defectline.components.ingest.readers.base import Record
from defectline.components.ingest.splits import assign_splits


def pairs(count: int = 9, **groups: str) -> list[Pair]:
    """As many of each label."""
    found = [accepted(number, label) for label in ("OK", "NG") for number in range(count)]
    return [pair._replace(group=groups.get(f"{pair.label}{int(pair.id[-5:])}", "")) for pair in found]


def follow(rows: list[Pair], *names: str, known: dict[str, str] | None = None) -> Official:
    """The picture `number` of each label has the split `names[number % len(names)]`."""
    records = [
        Record(
            pair.id, pair.label, Object(pair.image_key, 1, "1"), split=names[int(pair.id[-5:]) % len(names)]
        )
        for pair in rows
    ]
    return official_splits(records, rows, known or {})


def test_three_splits_are_followed():
    rows = pairs()
    official = follow(rows, "train", "validation", "test")
    assert official.notes == []
    split = assign_splits(rows, official.splits)
    assert all(pair.split == ("train", "validation", "test")[int(pair.id[-5:]) % 3] for pair in split)


def test_what_is_known_comes_first():
    rows = pairs()
    known = {rows[0].pixel_sha256: "test"}
    official = follow(rows, "train", "validation", "test", known=known)
    assert rows[0].pixel_sha256 not in official.splits
    assert len(official.splits) == len(rows) - 1


def test_a_missing_split_is_taken_from_training():
    rows = pairs(20)
    official = follow(rows, "train", "train", "train", "test")
    assert official.notes == [
        "the source names no pictures for validation: some to train on are taken, by hash"
    ]
    split = assign_splits(rows, official.splits)
    for pair in split:
        # What was kept from training is never trained on.
        assert (int(pair.id[-5:]) % 4 != 3) or pair.split == "test"
    assert {pair.split for pair in split} == set(SPLITS)


def test_a_split_with_too_few_is_not_used():
    rows = pairs()
    records = [
        Record(p.id, p.label, Object(p.image_key, 1, "1"), split="test" if p.label == "NG" else "train")
        for p in rows
    ]
    official = official_splits(records, rows, {})
    assert official == Official({}, ["the source's own split is not used: it leaves 0 NG pictures to train"])


def test_a_group_goes_as_a_whole():
    rows = pairs(12, OK0="part", OK3="part", OK4="part", NG1="other", NG2="other")
    hashes = {f"{pair.label}{int(pair.id[-5:])}": pair.pixel_sha256 for pair in rows}
    official = follow(rows, "train", "validation", "test")
    assert {official.splits[hashes[name]] for name in ("OK0", "OK3", "OK4")} == {"train"}
    assert official.splits[hashes["NG1"]] == official.splits[hashes["NG2"]]
    assert official.notes == ["2 groups lie on two sides in the source's own split: each goes where most is"]
    # A group that has its side already keeps it.
    known = {hashes["OK0"]: "test"}
    later = follow(rows, "train", "validation", "test", known=known)
    assert not {hashes["OK3"], hashes["OK4"]} & later.splits.keys()
    split = assign_splits(rows, {**later.splits, **known})
    assert {pair.split for pair in split if pair.group == "part"} == {"test"}


def test_without_splits_nothing_is_said():
    assert follow(pairs(), "") == Official({}, [])
