"""When a request is sent again: after pauses that double, up to a deadline.

>>> for attempt in attempts(retry):
...     time.sleep(attempt.pause_s)
...     with attempt:
...         answer = post(timeout_s=attempt.timeout_s)

The loop ends with the first attempt that raises nothing. Pauses vary by chance, so that many cameras do not
come back at once.
"""

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from types import TracebackType
from typing import NamedTuple, Self

from defectline.components.common.errors import ServingError

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0


class Unavailable(ServingError):
    """The endpoint does not answer, or is too busy; a moment later it may answer."""

    retry_after_s: float = 0.0
    """How long the server asks to wait."""


class Retry(NamedTuple):
    retries: int
    """After the first attempt."""
    timeout_s: float
    """For one attempt."""
    deadline_s: float
    """For all of them, pauses included."""


@dataclass
class Attempt:
    """As a context, it keeps an Unavailable for the loop to judge; other errors pass."""

    pause_s: float
    """How long to wait before it."""
    timeout_s: float
    failure: Unavailable | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Unavailable):
            self.failure = error
        return self.failure is not None


def attempts(retry: Retry) -> Iterator[Attempt]:
    """The attempts of one request. Raises the last Unavailable where no retry is left, or where the next
    one would begin after the deadline."""
    end = time.monotonic() + retry.deadline_s
    pause_s, longest_s = 0.0, FIRST_PAUSE_S
    for number in count():
        remaining_s = end - time.monotonic() - pause_s
        attempt = Attempt(pause_s, timeout_s=max(min(retry.timeout_s, remaining_s), 0.001))
        yield attempt
        if attempt.failure is None:
            return
        pause_s = longest_s * random.uniform(0.5, 1) + attempt.failure.retry_after_s
        longest_s = min(2 * longest_s, LONGEST_PAUSE_S)
        if number >= retry.retries or time.monotonic() + pause_s >= end:
            raise attempt.failure


def parse_retry_after(headers: Mapping[str, str]) -> float:
    """The seconds of Retry-After, which may be a number or a date; 0 where it is neither."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0
