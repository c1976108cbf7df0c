"""When a request is sent again, with a clock that only the pauses move."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest

from defectline.client import ServingError, Unavailable
from defectline.client.retry import Attempt, Retry, attempts, parse_retry_after
from defectline.components.common.errors import SettingsError


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("defectline.client.retry.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def unavailable(retry_after_s: float = 0.0) -> Unavailable:
    error = Unavailable("gone", got="", expected="", fix="")
    error.retry_after_s = retry_after_s
    return error


def failed(clock: list[float], retry: Retry, retry_after_s: float = 0.0) -> list[Attempt]:
    """The attempts of a request of which each fails at once."""
    made = []
    with pytest.raises(Unavailable, match="gone"):  # noqa: PT012
        for attempt in attempts(retry):
            clock[0] += attempt.pause_s
            made.append(attempt)
            with attempt:
                raise unavailable(retry_after_s)
    return made


def test_the_first_that_succeeds_is_the_last():
    made = []
    for attempt in attempts(Retry(retries=7, timeout_s=1, deadline_s=1000)):
        with attempt:
            made.append(attempt)
            if len(made) < 3:
                raise unavailable()
    assert len(made) == 3
    assert made[0].pause_s == 0


def test_pauses_double_up_to_a_limit_and_vary(clock):
    rows = [failed(clock, Retry(retries=7, timeout_s=1, deadline_s=1000)) for _ in range(50)]
    assert {len(row) for row in rows} == {8}
    for number, longest in enumerate([0.2, 0.4, 0.8, 1.6, 3.2, 5, 5], start=1):
        pauses = [row[number].pause_s for row in rows]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest
        assert len(set(pauses)) > 40


def test_the_last_attempt_ends_with_the_deadline(clock):
    (only,) = failed(clock, Retry(retries=7, timeout_s=10, deadline_s=3), retry_after_s=3)
    assert 0 < only.timeout_s <= 3
    made = failed(clock, Retry(retries=100, timeout_s=10, deadline_s=60))
    assert [attempt.timeout_s for attempt in made[:3]] == [10, 10, 10]
    assert 0 < made[-1].timeout_s <= 10
    assert sum(attempt.pause_s for attempt in made) < 60


def test_the_server_says_how_long_to_wait(clock):
    made = failed(clock, Retry(retries=2, timeout_s=1, deadline_s=1000), retry_after_s=7)
    assert all(7 < attempt.pause_s <= 7.4 for attempt in made[1:])


@pytest.mark.parametrize("retries", [0, -1])
def test_without_retries_there_is_one_attempt(clock, retries):
    assert len(failed(clock, Retry(retries, timeout_s=1, deadline_s=1000))) == 1


@pytest.mark.parametrize("kind", [ServingError, SettingsError])
def test_other_errors_are_not_for_another_attempt(kind):
    with pytest.raises(kind, match="wrong"):  # noqa: PT012
        for attempt in attempts(Retry(retries=7, timeout_s=1, deadline_s=1000)):
            assert attempt.pause_s == 0
            with attempt:
                raise kind("wrong", got="", expected="", fix="")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", (0, 0)),
        ("7", (7, 7)),
        ("Wed, 21 Oct 2015 07:28:00", (0, 0)),
        ("soon", (0, 0)),
        ("-1", (0, 0)),
        ("", (0, 0)),
    ],
    ids=["now", "seconds", "no zone", "words", "negative", "empty"],
)
def test_retry_after(value, seconds):
    assert seconds[0] <= parse_retry_after({"Retry-After": value}) <= seconds[1]


@pytest.mark.parametrize(("hours", "seconds"), [(1, (3000, 3601)), (-1, (0, 0))], ids=["date", "past"])
def test_retry_after_a_date(hours, seconds):
    # Now, and not when the tests were collected, which may be long ago.
    date = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
    assert seconds[0] <= parse_retry_after({"Retry-After": date}) <= seconds[1]
