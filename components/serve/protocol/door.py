"""Who may ask: bearer tokens (RFC 6750) of a file, and how often each client may."""

import hashlib
import hmac
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from defectline.components.common.errors import SettingsError
from defectline.components.common.files import read_file
from defectline.components.serve.monitoring.logs import log
from defectline.components.serve.protocol.errors import ApiError
from defectline.components.serve.settings import Guarded

Right = Literal["all", "metrics"]
LEAST = 16
"""Characters of a token: shorter ones can be guessed."""
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
LOOK_EVERY_S = 1.0
"""How often the file is looked at."""
CLIENTS = 10_000
"""Whose rates are remembered."""
FILE = (
    "a token a line, of at least 16 letters and digits; after it, where it is to read metrics alone, metrics"
)


class Token(NamedTuple):
    digest: bytes
    """SHA-256: what is kept in memory opens nothing, and all are of one length to compare."""
    right: Right


class Tokens:
    """The tokens of a file, which is read again when it changes; safe to use from several threads.

    Raises SettingsError where it cannot be read, or says something else; no error and no line of the log
    contains a token.
    """

    def __init__(self, file: Path):
        self._file = file
        self._state = self._look()
        self._tokens = read_tokens(file)
        self._looked = time.monotonic()
        self._lock = threading.Lock()

    def check(self, authorization: str | None, right: Right = "all") -> str:
        """A name for the client, which tells nothing of its token. Raises ApiError where `authorization`, the
        value of that header, has no token of the file, or one that may not do this."""
        kind, _, given = (authorization or "").strip().partition(" ")
        if kind.lower() != "bearer" or not given.strip():
            raise ApiError("unauthenticated", "Send a token as the header Authorization: Bearer TOKEN.")
        digest = _digest(given.strip())
        # All are compared, so that the time tells nothing.
        found = [token for token in self._read_again() if hmac.compare_digest(token.digest, digest)]
        if not found:
            raise ApiError("unauthenticated", "The token is not one of this server's.")
        if all(token.right not in ("all", right) for token in found):
            raise ApiError("forbidden", f"The token is for {found[0].right} alone.")
        return digest.hex()[:16]

    def _read_again(self) -> tuple[Token, ...]:
        with self._lock:
            now = time.monotonic()
            if now - self._looked < LOOK_EVERY_S:
                return self._tokens
            self._looked = now
            state = self._look()
            if state == self._state:
                return self._tokens
            self._state = state
            try:
                self._tokens = read_tokens(self._file)
                log("tokens were read again", tokens=len(self._tokens))
            except SettingsError as error:
                log("tokens cannot be read again; the present ones stay", 40, **vars(error))
            return self._tokens

    def _look(self) -> tuple[int, ...]:
        """Changes with the file, also where it is a link that leads elsewhere, as in a pod."""
        try:
            found = self._file.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size


def read_tokens(file: Path) -> tuple[Token, ...]:
    """Raises SettingsError."""
    found: dict[bytes, Token] = {}
    for number, line in enumerate(_text(file).splitlines(), 1):
        token, *right = line.split("#")[0].split()[:3] or [""]
        if not token:
            continue
        if len(right) > 1 or (right and right[0] not in get_args(Right)):
            raise _unusable(file, f"line {number} has something else after its token")
        if len(token) < LEAST or not TOKEN.fullmatch(token):
            others = "" if TOKEN.fullmatch(token) else ", of which some are none of a token's"
            raise _unusable(file, f"line {number} has {len(token)} characters{others}")
        name: Right = "metrics" if right == ["metrics"] else "all"
        found[_digest(token)] = Token(_digest(token), name)
    if not found:
        raise _unusable(file, "no token")
    return tuple(found.values())


def _text(file: Path) -> str:
    try:
        return read_file(file, FILE).decode()
    except UnicodeDecodeError:
        raise _unusable(file, "bytes that are not text") from None


def _unusable(file: Path, got: str) -> SettingsError:
    return SettingsError(
        f"The tokens in {file} cannot be used.",
        got=got,
        expected=FILE,
        fix="Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Rates:
    """Lets each client ask `per_s` times a second, and so many at once after a pause. For one event loop."""

    def __init__(self, per_s: float):
        self._per_s, self._most = per_s, max(1.0, per_s)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, client: str, now: float | None = None) -> None:
        """Raise ApiError where it asks too often."""
        now = time.monotonic() if now is None else now
        left, at = self._left.pop(client, (self._most, now))
        left = min(self._most, left + (now - at) * self._per_s)
        allowed = left >= 1
        self._left[client] = (left - 1 if allowed else left, now)
        if len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        if not allowed:
            raise ApiError("too_many_requests", f"This client may ask {self._per_s:g} times a second.")


class Door(NamedTuple):
    """What a server lets clients in by."""

    tokens: Tokens | None = None
    """None: everybody may ask."""
    rates: Rates | None = None
    guarded: Collection[Guarded] = ()
    """What needs a token besides."""

    def let_in(
        self, authorization: str | None, address: str, kind: Guarded | None, asks: bool = False
    ) -> None:
        """Raise ApiError where a client at `address` may not have what it wants: something of this `kind`, or
        any other. `asks` says whether it sends pictures, which the rates count."""
        client = address
        if self.tokens and (kind is None or kind in self.guarded):
            client = self.tokens.check(authorization, "metrics" if kind == "metrics" else "all")
        if self.rates and asks:
            self.rates.check(client)


OPEN = Door()
"""For everybody."""
