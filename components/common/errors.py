"""Errors that the user can fix.

    DefectlineError
    ├── SettingsError    a parameter or an environment variable
    ├── SourceError      the labelled images: where they lie, how they are laid out
    ├── StoreError       the place that the product owns
    │   ├── Conflict     another process changed the same object first
    │   ├── Corrupt      an object whose bytes do not fit its checksum, however often they are fetched
    │   └── Unreadable   an object that is not given out, such as an archived one, while others may be
    ├── BundleError      a model or bundle that is missing, changed or unreadable
    └── ServingError     the predictor, KServe or the cluster around it

Whatever else is raised is an internal error: the command line shows its traceback and exits with 1
instead of 2.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

E = TypeVar("E", bound="DefectlineError")


class DefectlineError(Exception):
    """What is wrong, what was found, what was expected and how to fix it, one sentence each."""

    def __init__(self, what: str, *, got: str, expected: str, fix: str):
        super().__init__(what)
        self.what, self.got, self.expected, self.fix = what, got, expected, fix

    def __str__(self) -> str:
        return f"{self.what}\n  got:      {self.got}\n  expected: {self.expected}\n  fix:      {self.fix}"

    @property
    def reason(self) -> str:
        """What is wrong, and what was found where that does not say it: for a line of a table."""
        if self.got.rstrip(".") in self.what:
            return self.what
        return f"{self.what} Got {self.got.rstrip('.')}{'' if self.got.endswith('…') else '.'}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle would call the class with `what` alone; errors of worker processes must come through whole.
        return _restored, (type(self), vars(self))

    def to_json(self) -> str:
        """The four sentences and the kind of error as a JSON object, the content of an `error.json`."""
        sentences = {"what": self.what, "got": self.got, "expected": self.expected, "fix": self.fix}
        return json.dumps({"kind": type(self).__name__, **sentences}, ensure_ascii=False, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The error that `to_json` wrote, of its kind where that is known here."""
        fields = json.loads(text)
        name = fields.pop("kind", "")
        return _restored(next((one for one in _kinds(cls) if one.__name__ == name), cls), fields)


def _kinds(kind: type[E]) -> Iterator[type[E]]:
    """The kind itself, and all below it."""
    yield kind
    for one in kind.__subclasses__():
        yield from _kinds(one)


def _restored(kind: type[E], fields: dict[str, Any]) -> E:
    error = kind.__new__(kind, fields["what"])
    vars(error).update(fields)
    return error


class SettingsError(DefectlineError):
    pass


class SourceError(DefectlineError):
    pass


class StoreError(DefectlineError):
    pass


class Conflict(StoreError):
    pass


class Corrupt(StoreError):
    pass


class Unreadable(StoreError):
    pass


class BundleError(DefectlineError):
    pass


class ServingError(DefectlineError):
    pass


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the process with status 2 and the error in its own words where the block raises one of these."""
    try:
        yield
    except DefectlineError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
