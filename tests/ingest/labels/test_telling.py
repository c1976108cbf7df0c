"""The quarantine table, and what is said of the pairs of a source."""

import csv
import io

import pytest
from pictures import accepted

from defectline.components.common.legend import write_legend
from defectline.components.common.snapshot import Pair
from defectline.components.ingest.labels.telling import (
    NOTED_FIX,
    SHOWN,
    quarantine_table,
    say_checked,
    say_classes,
    say_regions,
)

GOOD = [accepted(number, "OK") for number in range(3)]


def rejected(number: int, reason: str) -> Pair:
    return accepted(number, "NG")._replace(status="rejected", reason=reason, fix="Do it again.")


def defects(number: int, areas: str, legend: str = "") -> Pair:
    return accepted(number, "NG")._replace(areas=areas, legend=legend, defect_px=9)


Said = pytest.CaptureFixture[str]


def lines(said: Said) -> list[str]:
    return [line.removeprefix("▸ ") for line in said.readouterr().out.splitlines()]


def test_the_table_has_what_was_rejected_and_then_what_was_changed():
    noted = accepted(1, "OK")._replace(note='Smoothed: "half".')
    rows = [noted, rejected(2, "Its mask is empty."), *GOOD[2:], rejected(1, "Damaged, or cut.")]
    table = quarantine_table(rows)
    assert table == quarantine_table(rows[::-1])
    assert list(csv.reader(io.StringIO(table.decode()))) == [
        ["id", "image", "mask", "status", "reason", "fix"],
        ["NG/00001", "NG/00001.png", "NG_MSK/00001.png", "rejected", "Damaged, or cut.", "Do it again."],
        ["NG/00002", "NG/00002.png", "NG_MSK/00002.png", "rejected", "Its mask is empty.", "Do it again."],
        ["OK/00001", "OK/00001.png", "OK_MSK/00001.png", "noted", 'Smoothed: "half".', NOTED_FIX],
    ]
    assert quarantine_table(GOOD) == b"id,image,mask,status,reason,fix\n"


def test_reasons_are_counted_without_their_numbers(capsys: Said):
    rows = [rejected(n, f"Sizes differ: mask {n}×9, image 16×16. More of it.") for n in (7, 8)]
    say_checked([*GOOD, *rows, rejected(9, "No mask of that name.")])
    assert lines(capsys) == [
        "3 pairs were rejected: 2 × Sizes differ: mask 7×9, image 16×16; 1 × No mask of that name"
    ]


def test_of_many_reasons_the_most_frequent_are_named(capsys: Said):
    kinds = ["Empty", "Damaged", "Inverted", "Missing", "Turned", "Black"]
    rows = [rejected(10 * n + k, f"{kind} it is.") for n, kind in enumerate(kinds) for k in range(9 - n)]
    say_checked(rows)
    (line,) = lines(capsys)
    assert line.startswith("39 pairs were rejected: 9 × Empty it is; ")
    assert line.count("×") == SHOWN
    assert line.endswith("; 9 for other reasons")


def test_pairs_that_were_changed_are_counted_and_nothing_else_is_said(capsys: Said):
    say_checked(GOOD)
    assert lines(capsys) == []
    say_checked([*GOOD, defects(9, "9")._replace(note="Smoothed.")])
    assert lines(capsys) == ["1 pairs were changed to be used; the quarantine table says how"]


def test_pictures_are_counted_by_class(capsys: Said):
    scratch, both = write_legend("scratch"), write_legend(["scratch", "dust"])
    rows = [*GOOD, defects(4, "9", scratch), defects(5, '{"1": 4, "2": 5, "255": 3}', both)]
    say_classes(rows, ("dust", "scratch"), {})
    assert lines(capsys) == [
        "pictures by class: dust (1), scratch (2)",
        "1 pictures have regions that do not count",
    ]


def test_one_class_without_a_name_is_not_worth_a_line(capsys: Said):
    say_classes([*GOOD, defects(4, "9")], ("defect",), {})
    assert lines(capsys) == []


def test_a_class_map_that_names_what_is_not_there_is_told(capsys: Said):
    rows = [defects(4, "9", write_legend("scratch")), rejected(5, "Damaged.")._replace(legend='"dust"')]
    say_classes(rows, ("line",), {"scratch": "line", "dust": "ignore", "Dent": "dent"})
    assert lines(capsys) == [
        "pictures by class: line (1)",
        "class_map names what no mask has: Dent, dust; there is scratch",
    ]


@pytest.mark.parametrize(
    ("rois", "said"),
    [
        (["", "", ""], []),
        (["a", "a", "a"], ["all pictures have the same region of interest, which the endpoint will apply"]),
        (
            ["a", "b", "a"],
            ["regions of interest differ from picture to picture (2 in all): the endpoint will apply none"],
        ),
        (
            ["a", "", ""],
            [
                "regions of interest differ from picture to picture (1 in all; 2 pictures have none): "
                "the endpoint will apply none"
            ],
        ),
    ],
)
def test_whether_the_endpoint_applies_a_region_is_said(rois: list[str], said: list[str], capsys: Said):
    rows = [pair._replace(roi=roi) for pair, roi in zip(GOOD, rois, strict=True)]
    say_regions([*rows, rejected(9, "Damaged.")._replace(roi="z")])
    assert lines(capsys) == said


@pytest.mark.parametrize(
    ("areas", "said"),
    [
        (["9", "9"], []),
        (["9", ""], ["1 NG pictures have no mask: their label alone is learned"]),
        (["", ""], ["none of the 2 NG pictures has a mask: their label alone is learned"]),
    ],
)
def test_pictures_without_masks_are_counted(areas: list[str], said: list[str], capsys: Said):
    say_checked([*GOOD, *(accepted(4 + n, "NG")._replace(areas=one) for n, one in enumerate(areas))])
    assert lines(capsys) == said
