"""Wait for what another process does."""

import time
from collections.abc import Callable
from typing import TypeVar

from defectline.components.common.errors import ServingError

T = TypeVar("T")


class Retry(ServingError):
    """What may be right a moment later."""


def poll(look: Callable[[], T], deadline_s: float, every_s: float, retry: type[Exception] = Retry) -> T:
    """The result of the first `look` that does not raise `retry`.

    After `deadline_s` the last error is raised; each other error at once. `look` is called at least once.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            return look()
        except retry:
            if time.monotonic() >= deadline:
                raise
        time.sleep(every_s)
