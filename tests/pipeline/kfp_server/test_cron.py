"""Cron expressions as Kubeflow Pipelines reads them."""

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_pipeline import assert_helps

from defectline.components.common.errors import SettingsError
from defectline.pipeline.kfp_server.cron import normalise_cron, read_as_kfp, times


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    """A cron field: star, numbers, rising ranges, steps and lists of them."""
    number = st.integers(low, high)
    ends = st.tuples(number, number).filter(lambda pair: pair[0] < pair[1])
    plain = st.one_of(st.just("*"), number.map(str), ends.map(lambda pair: f"{pair[0]}-{pair[1]}"))
    stepped = st.tuples(plain, st.integers(1, max(high, 1))).map(lambda pair: f"{pair[0]}/{pair[1]}")
    return st.lists(st.one_of(plain, stepped), min_size=1, max_size=3).map(",".join)


# Days up to 28, which every month has.
five_fields = st.tuples(numbers(0, 59), numbers(0, 23), numbers(1, 28), numbers(1, 12), numbers(0, 6))


@settings(deadline=None, max_examples=50)
@given(fields=five_fields, gap=st.sampled_from([" ", "  ", "\t"]))
def test_five_fields_start_at_second_0(fields, gap):
    assert normalise_cron(gap.join(fields)) == "0 " + " ".join(fields)


@settings(deadline=None, max_examples=50)
@given(second=numbers(0, 59), fields=five_fields)
def test_six_fields_are_taken_as_they_are(second, fields):
    cron = " ".join([second, *fields])

    assert normalise_cron(cron) == cron
    assert normalise_cron(normalise_cron(cron)) == cron


@settings(deadline=None, max_examples=50)
@given(st.one_of(st.text(), st.text(alphabet="0123456789*/-,? LW#@monjan", max_size=20)))
def test_any_other_text_is_refused_or_has_six_fields(text):
    try:
        cron = normalise_cron(text)
    except SettingsError:
        return
    assert len(cron.split(" ")) == 6
    assert normalise_cron(cron) == cron


@pytest.mark.parametrize(
    "text",
    [
        "0 2 * *",
        "0 0 2 * * * 2026",
        "@daily",
        "60 * * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 7",
        "0 0 * * 5-1",
        "0 0 * * 3-3",
        "0 0 L * *",
        "0 0 * * 1#2",
        "0 0 15W * *",
        "H * * * *",
        "? * * * *",
        "*/0 * * * *",
        "1,,2 * * * *",
        "٣ * * * *",
        "0 0 30 feb *",
    ],
)
def test_what_kfp_and_cron_read_differently_is_refused(text):
    with pytest.raises(SettingsError) as caught:
        normalise_cron(text)

    assert_helps(caught.value, "0 2 * * 1-5")


@pytest.mark.parametrize("text", ["0 0 ? * MON-FRI", "0 0 29 2 *", "0 0 1 jan,jul ?", "5/15 * * * sun"])
def test_names_and_question_marks_are_accepted(text):
    assert normalise_cron(text) == f"0 {text}"


def test_the_clock_change_moves_a_time_in_utc_only():
    zone = ZoneInfo("Europe/Berlin")
    starts = list(islice(times("0 0 5 * * *", datetime(2026, 3, 28, tzinfo=zone)), 3))
    assert [(one.hour, one.astimezone(UTC).hour) for one in starts] == [(5, 4), (5, 3), (5, 3)]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("0 0 2 * * 1-5", ("0 0 2 * * 1-5", True)),
        ("10 10 * * *", ("10 10 * * * *", True)),
        ("@every 1h", ("@every 1h", False)),
        ("@daily", ("@daily", False)),
        ("0 0 0 L * *", ("0 0 0 L * *", False)),
        ("0 2 * *", ("0 2 * *", False)),
        ("", ("", False)),
    ],
)
def test_what_was_made_by_hand_is_read_as_kfp_reads_it(text, read):
    assert read_as_kfp(text) == read
