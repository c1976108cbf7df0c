"""Who works on which trial."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.tuning import claims
from defectline.pipeline.tuning.claims import TOKEN, Claim, Claims


@pytest.fixture
def store(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path)


def other(store: FolderStorage, number: int, **changes: object) -> None:
    """A claim of another process."""
    found = Claim(host="elsewhere", pid=7, token="theirs").model_copy(update=changes)
    store.write(Claims(store, "s").key(number), found.model_dump_json().encode())


def test_one_worker_gets_it_until_it_has_ended(store):
    first, second = Claims(store, "s"), Claims(store, "s")
    assert first.take(4)
    assert not second.take(4)
    assert second.take(5)
    with first.kept(4) as lost:
        assert not lost.is_set()
    assert second.take(4)


def test_a_claim_that_nobody_renews_is_taken_over(store, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    mine = Claims(store, "s")
    other(store, 0)
    assert not mine.take(0)
    now[0] += claims.STALE_S / 2
    other(store, 0, beats=1)
    assert not mine.take(0)
    now[0] += claims.STALE_S - 1
    assert not mine.take(0)
    now[0] += 1
    assert mine.take(0)
    assert Claim.model_validate_json(store.read(mine.key(0))).token == TOKEN


def test_the_claim_of_a_process_that_is_gone_is_taken_over_at_once(store):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    other(store, 0, host=socket.gethostname(), pid=gone.pid)
    assert Claims(store, "s").take(0)
    # A container that starts again has the number that it had.
    other(store, 1, host=socket.gethostname(), pid=os.getpid())
    assert Claims(store, "s").take(1)
    other(store, 2, host=socket.gethostname(), pid=os.getppid())
    assert not Claims(store, "s").take(2)
    store.write(Claims(store, "s").key(3), b"cut o")
    assert Claims(store, "s").take(3)


def test_a_claim_is_renewed_and_a_lost_one_is_told(store, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_S", 0.01)
    mine = Claims(store, "s")
    assert mine.take(0)
    with mine.kept(0) as lost:
        while Claim.model_validate_json(store.read(mine.key(0))).beats < 2:
            pass
        other(store, 0)
        assert lost.wait(timeout=30)
    # It is not ours to remove.
    assert Claim.model_validate_json(store.read(mine.key(0))).token == "theirs"
