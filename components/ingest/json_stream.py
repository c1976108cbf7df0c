"""Large JSON files, an entry at a time.

All of one at once, as Python's objects, takes up to ten times the memory of the file.
"""

import json
from collections.abc import Collection, Iterator
from typing import Any

from defectline.components.common.errors import SourceError
from defectline.components.ingest.readers.base import Listing

SPACES = frozenset(" \t\r\n")


def read_members(listing: Listing, key: str, lists: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Names and values of a file's object; of the members in `lists` each entry of the list, an object.

    A file that is a list itself gives its entries under the name "". Raises SourceError.
    """
    try:
        yield from _scan(listing.read(key).decode("utf-8-sig"), lists)
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{key} is damaged, or not of the format that it looks like.",
            got=str(error),
            expected="a whole JSON file as the annotation tool exports it",
            fix="Export it again.",
        ) from error


class _Scanner:
    def __init__(self, text: str):
        self.text = text
        self.at = 0
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is not white space."""
        while (next_ := self.text[self.at : self.at + 1]) in SPACES:
            self.at += 1
        return next_

    def take(self, expected: str) -> str:
        """The next character, which is one of the expected ones."""
        if not (found := self.peek()) or found not in expected:
            raise json.JSONDecodeError(f"Expecting one of {expected}", self.text, self.at)
        self.at += 1
        return found

    def value(self) -> Any:
        self.peek()
        value, self.at = self._decode(self.text, self.at)
        return value

    def objects(self) -> Iterator[dict[str, Any]]:
        """The entries of a list of objects."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            if self.peek() != "{":
                raise json.JSONDecodeError("Expecting an object", self.text, self.at)
            yield self.value()
            if self.take(",]") == "]":
                return


def _scan(text: str, lists: Collection[str]) -> Iterator[tuple[str, Any]]:
    scanner = _Scanner(text)
    if scanner.peek() == "[":
        for each in scanner.objects():
            yield "", each
        return
    scanner.take("{")
    if scanner.peek() == "}":
        return
    while True:
        name = scanner.value()
        scanner.take(":")
        if name in lists:
            for each in scanner.objects():
                yield name, each
        else:
            yield name, scanner.value()
        if scanner.take(",}") == "}":
            return
