"""Cron as Kubeflow Pipelines reads it: six fields, seconds first."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from croniter import CroniterError, croniter

from defectline.components.common.errors import SettingsError

CRON_EXAMPLE = "0 2 * * 1-5"

CRON_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of the week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
CRON_TERM = re.compile(r"(?:\*|(?P<first>\d+|[a-z]{3})(?:-(?P<last>\d+|[a-z]{3}))?)(?:/(?P<step>\d+))?", re.A)


def normalise_cron(text: str) -> str:
    """Six cron fields, seconds first, as KFP wants them; five fields get second 0.

    KFP takes five fields too, but reads them shifted by one (`10 10 * * *` then runs every hour), so
    this is never left to it. Only what KFP's parser and cron agree on is accepted: numbers, names,
    `*`, ranges, lists and steps, Sunday as 0.

    Raises SettingsError for anything else, and for times that never come (30 February).
    """
    fields = text.split()
    if len(fields) == 5:
        fields.insert(0, "0")
    if len(fields) != 6:
        raise _bad_cron(text, f"{len(fields)} fields")
    for field, (what, low, high, names) in zip(fields, CRON_FIELDS, strict=True):
        if field == "?" and what.startswith("day"):
            continue
        for term in field.lower().split(","):
            if not _is_cron_term(term, low, high, names):
                raise _bad_cron(text, f"{term!r} as {what}, which goes from {low} to {high}")
    cron = " ".join(fields)
    try:
        next(times(cron, after=datetime(2024, 1, 1, tzinfo=UTC)))
    except CroniterError:
        raise _bad_cron(text, "times that never come") from None
    return cron


def read_as_kfp(text: str) -> tuple[str, bool]:
    """A schedule's cron, which anything may have made, and whether `times` can tell when KFP starts it. Pure.

    Of five fields KFP takes the first for the second, and adds a last one. What it reads by rules of its own,
    such as `@every 1h`, is returned as it is.
    """
    fields = text.split()
    six = " ".join([*fields, "*"] if len(fields) == 5 else fields)
    try:
        return (normalise_cron(six), True) if len(six.split()) == 6 else (text, False)
    except SettingsError:
        return text, False


def _is_cron_term(term: str, low: int, high: int, names: tuple[str, ...]) -> bool:
    match = CRON_TERM.fullmatch(term)
    if match is None:
        return False
    numbers = {name: number for number, name in enumerate(names, low)}
    ends = [end for end in (match["first"], match["last"]) if end is not None]
    if not all(end.isdigit() or end in numbers for end in ends):
        return False
    values = [numbers[end] if end in numbers else int(end) for end in ends]
    # A range from a value to itself or backwards means one thing to KFP and another to croniter.
    rising = len(values) < 2 or values[0] < values[1]
    step = int(match["step"] or 1)
    return rising and all(low <= value <= high for value in values) and 1 <= step <= high


def _bad_cron(text: str, got: str) -> SettingsError:
    return SettingsError(
        f"The cron expression {text!r} cannot be used.",
        got=got,
        expected="minute, hour, day of the month, month, day of the week, and optionally the second before",
        fix=f"Write for instance '{CRON_EXAMPLE}' for 02:00 on working days.",
    )


def times(cron: str, after: datetime) -> Iterator[datetime]:
    # implement_cron_bug: like KFP's parser, `*/2` in one of the two day fields restricts the other.
    times = croniter(cron, after, second_at_beginning=True, implement_cron_bug=True)
    while True:
        yield times.get_next(datetime)
