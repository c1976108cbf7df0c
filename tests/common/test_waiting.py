"""Waiting ends with the first success, with an error that does not pass, or with the deadline."""

from collections.abc import Callable

import pytest

from defectline.components.common import waiting
from defectline.components.common.errors import ServingError
from defectline.components.common.waiting import Retry, poll


class Clock:
    """Time that passes only in `sleep`, in seconds."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    return clock


def error(kind: type[ServingError], got: str) -> ServingError:
    return kind("It is not there.", got=got, expected="something", fix="Wait.")


def raising(*results: Exception | str) -> Callable[[], str]:
    """A look that gives or raises one result after the other, and the last one from then on."""
    left = list(results)

    def look() -> str:
        result = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(result, Exception):
            raise result
        return result

    return look


def test_the_first_success_ends_the_waiting(clock: Clock) -> None:
    assert poll(raising(error(Retry, "1"), error(Retry, "2"), "there"), deadline_s=10, every_s=3) == "there"
    assert clock.now == 106


def test_success_at_once_waits_for_nothing(clock: Clock) -> None:
    assert poll(raising("there"), deadline_s=0, every_s=3) == "there"
    assert clock.now == 100


def test_after_the_deadline_the_last_error_is_raised(clock: Clock) -> None:
    with pytest.raises(Retry) as caught:
        poll(raising(error(Retry, "1"), error(Retry, "2"), error(Retry, "3")), deadline_s=5, every_s=3)
    assert caught.value.got == "3"
    assert clock.now == 106


def test_without_time_there_is_one_look(clock: Clock) -> None:
    with pytest.raises(Retry) as caught:
        poll(raising(error(Retry, "1"), "there"), deadline_s=0, every_s=3)
    assert caught.value.got == "1"
    assert clock.now == 100


def test_another_error_is_raised_at_once(clock: Clock) -> None:
    with pytest.raises(ServingError, match="It is not there"):
        poll(raising(error(ServingError, "1"), "there"), deadline_s=10, every_s=3)
    assert clock.now == 100


def test_the_error_that_passes_can_be_named(clock: Clock) -> None:
    assert poll(raising(KeyError("x"), "there"), deadline_s=10, every_s=3, retry=KeyError) == "there"
    assert clock.now == 103
