"""Schedules of several products, spread over the night: what begins at one time waits for the same nodes."""

import hashlib

DAY_MIN = 24 * 60


def offset_min(name: str, window_min: int) -> int:
    """Minutes within the window, which follow from the product's name alone: others do not move it."""
    if window_min <= 0:
        return 0
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % window_min


def spread_cron(cron: str, name: str, window_min: int) -> tuple[str, str]:
    """The cron of a product, later by its offset, and a sentence that says so. Pure.

    `cron` has five or six fields. One that names days stays on its day. Where minute and hour are not a
    number each, it is left as it is.
    """
    *second, minute, hour, day, month, weekday = cron.split()
    if not (minute.isdecimal() and hour.isdecimal()):
        return cron, f"{name}: {cron} is not spread, since its minute and hour are not one number each"
    start = int(hour) * 60 + int(minute)
    daily = all(field in ("*", "?") for field in (day, month, weekday))
    window = window_min if daily else min(window_min, DAY_MIN - start)
    offset = offset_min(name, window)
    hour, minute = map(str, divmod((start + offset) % DAY_MIN, 60))
    spread = " ".join((*second, minute, hour, day, month, weekday))
    return spread, f"{name}: {offset} minutes after {cron}, one of {window} by its name"
