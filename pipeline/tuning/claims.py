"""Who works on which trial, said in the store: so that workers on any machine share a study.

tuning/<study>/claims/00007.json    {"host", "pid", "token", "beats"}

Written by compare-and-swap alone, so that of two workers one gets it. While a worker lives, it writes its
claim again every BEAT_S. One that stays as it was for STALE_S, by the clock of the one who looks, or whose
process has gone from the same machine, is taken over.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from defectline.components.common.errors import Conflict, DefectlineError
from defectline.components.common.layout import tuning_key
from defectline.components.common.storage import Storage

BEAT_S = 20.0
STALE_S = 120.0
TOKEN = secrets.token_hex(8)
"""Of this process: a container that starts again has the same host and number."""


class Claim(BaseModel):
    host: str
    pid: int
    token: str
    beats: int = 0

    @property
    def is_gone(self) -> bool:
        """Whether its process is known to have ended."""
        if self.host != socket.gethostname() or self.token == TOKEN:
            return False
        if self.pid == os.getpid():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


class _Seen(NamedTuple):
    version: str
    at: float


class Claims:
    """Of one study; each worker has its own."""

    def __init__(self, store: Storage, study: str):
        self.store, self.study = store, study
        self._seen: dict[int, _Seen] = {}

    def key(self, number: int) -> str:
        return tuning_key(self.study, f"claims/{number:05}.json")

    def take(self, number: int) -> bool:
        """Whether the trial is this worker's now."""
        found = self.store.read_versioned(self.key(number))
        if found and not self._is_abandoned(number, *found):
            return False
        mine = Claim(host=socket.gethostname(), pid=os.getpid(), token=TOKEN)
        try:
            self._write(number, mine, found[1] if found else None)
        except Conflict:
            return False
        return True

    def _is_abandoned(self, number: int, data: bytes, version: str) -> bool:
        try:
            claim = Claim.model_validate_json(data)
        except ValidationError:
            return True
        now = time.monotonic()
        before = self._seen.get(number)
        if before is None or before.version != version:
            self._seen[number] = _Seen(version, now)
            return claim.is_gone
        return claim.is_gone or now - before.at >= STALE_S

    @contextmanager
    def kept(self, number: int) -> Iterator[threading.Event]:
        """Keep a claim that was taken alive; the event is set where another worker took it over.

        At the end it is removed: a trial that ended has its own file, and another one is free again.
        """
        ended, lost = threading.Event(), threading.Event()
        beating = threading.Thread(target=self._beat, args=(number, ended, lost), daemon=True)
        beating.start()
        try:
            yield lost
        finally:
            ended.set()
            beating.join()
            if not lost.is_set():
                with suppress(KeyError, DefectlineError):
                    self.store.delete(self.key(number))

    def _beat(self, number: int, ended: threading.Event, lost: threading.Event) -> None:
        beats = 0
        while not ended.wait(BEAT_S):
            # A store that is away for a while takes nothing from us: others cannot write there either.
            with suppress(DefectlineError):
                found = self.store.read_versioned(self.key(number))
                if not found or Claim.model_validate_json(found[0]).token != TOKEN:
                    lost.set()
                    return
                beats += 1
                claim = Claim(host=socket.gethostname(), pid=os.getpid(), token=TOKEN, beats=beats)
                self._write(number, claim, found[1])

    def _write(self, number: int, claim: Claim, version: str | None) -> None:
        self.store.compare_and_swap(self.key(number), claim.model_dump_json().encode(), version)
