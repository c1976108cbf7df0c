"""A store that is away for a while: on a cluster nothing else tries again what a step could not do."""

from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from buckets import set_env
from faults import Faults, Rule, answer, call, faults, lose, reset
from servers import S3Server

from defectline.components.common.errors import Conflict, StoreError
from defectline.components.common.reporting.pod import RUN_ENV
from defectline.components.common.storage import Storage, open_storage
from defectline.components.common.storage.gcs import GCSStorage
from defectline.components.common.storage.s3 import S3Storage

OUTAGE_S = 60


@pytest.fixture
def proxy(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """In front of S3. Each attempt is one request, and the pauses are short."""
    set_env(monkeypatch, s3_server)
    monkeypatch.setattr(S3Storage, "ATTEMPTS", 1)
    monkeypatch.setattr(S3Storage, "PAUSES", (0.001,) * len(S3Storage.PAUSES))
    with faults(s3_server.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def store(proxy: Faults, s3_server: S3Server) -> Storage:
    """With the object `key`; it has answered once."""
    store = open_storage(f"s3://{s3_server.new_bucket()}")
    store.write("key", b"content")
    return store


ACTIONS: dict[str, Callable[[Storage, Path], object]] = {
    "list": lambda store, path: list(store.list()),
    "read": lambda store, path: store.read("key"),
    "read_versioned": lambda store, path: store.read_versioned("key"),
    "write": lambda store, path: store.write("other", b"x"),
    "download": lambda store, path: store.download("key", path),
    "upload": lambda store, path: store.upload(Path(__file__), "other"),
    "delete": lambda store, path: store.delete("key"),
    "swap": lambda store, path: store.compare_and_swap("other", b"x", None),
    "incomplete_uploads": lambda store, path: list(store.incomplete_uploads()),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("fault", [reset, answer(503, "SlowDown")], ids=["reset", "503"])
def test_each_request_waits_until_the_store_is_back(
    proxy: Faults, store: Storage, tmp_path: Path, action: str, fault
):
    rule = Rule(fault, ".*", "", times=len(S3Storage.PAUSES))
    proxy.rules = [rule]
    ACTIONS[action](store, tmp_path / "out")
    assert rule.hits == len(S3Storage.PAUSES)


def test_what_a_cut_off_upload_left_is_removed_when_the_store_is_back(
    proxy: Faults, store: Storage, s3_server: S3Server
):
    client = boto3.client("s3", endpoint_url=s3_server.url, region_name="us-east-1")
    client.create_multipart_upload(Bucket=store.uri.removeprefix("s3://"), Key="large")
    (left,) = store.incomplete_uploads()
    proxy.rules = [Rule(reset, "DELETE", times=3)]
    store.abort_upload(left)
    assert list(store.incomplete_uploads()) == []


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchBucket")])
def test_what_the_user_must_fix_is_asked_for_once(
    proxy: Faults, store: Storage, tmp_path: Path, status: int, code: str
):
    for action in ACTIONS.values():
        rule = Rule(answer(status, code), ".*", "")
        proxy.rules = [rule]
        with pytest.raises(StoreError, match=code):
            action(store, tmp_path / "out")
        # A transfer begins with HEAD, whose answer does not say what is wrong.
        assert rule.hits <= 2


def test_an_outage_that_does_not_end(proxy: Faults, store: Storage, monkeypatch: pytest.MonkeyPatch):
    rule = Rule(reset, ".*")
    proxy.rules = [rule]
    with pytest.raises(StoreError, match="cannot be read"):
        store.read("key")
    assert rule.hits == len(S3Storage.PAUSES) + 1
    monkeypatch.setattr(S3Storage, "OUTAGE_SECONDS", 0.0)
    with pytest.raises(StoreError, match="cannot be read"):
        store.read("key")
    assert rule.hits == len(S3Storage.PAUSES) + 2


def test_a_store_that_never_answered_is_waited_for_on_a_cluster_alone(
    proxy: Faults, store: Storage, monkeypatch: pytest.MonkeyPatch
):
    proxy.rules = [Rule(reset, ".*", times=2)]
    with pytest.raises(StoreError):
        open_storage(store.uri).read("key")
    monkeypatch.setenv(RUN_ENV, "run-1")
    proxy.rules = [Rule(reset, ".*", times=2)]
    assert open_storage(store.uri).read("key") == b"content"


def test_a_minute_is_waited_at_least():
    assert sum(S3Storage.PAUSES) / 2 >= OUTAGE_S
    assert S3Storage.OUTAGE_SECONDS >= OUTAGE_S
    assert GCSStorage.LATER_SECONDS >= OUTAGE_S


def test_google_is_given_as_long_on_a_cluster_from_the_first_request_on(monkeypatch: pytest.MonkeyPatch):
    assert GCSStorage("bucket", "")._patience["retry"].timeout == GCSStorage.RETRY_SECONDS
    monkeypatch.setenv(RUN_ENV, "run-1")
    assert GCSStorage("bucket", "")._patience["retry"].timeout == GCSStorage.LATER_SECONDS


@pytest.mark.parametrize(
    "first",
    [
        lambda store: store.write("key", b"x"),
        lambda store: store.read("key"),
        lambda store: list(store.list()),
    ],
    ids=["write", "read", "list"],
)
def test_google_is_given_longer_once_it_has_answered_whatever_it_was_asked(gcs: str, first):
    open_storage(gcs).write("key", b"content")
    store = open_storage(gcs)
    assert isinstance(store, GCSStorage)
    assert store._patience["retry"].timeout == GCSStorage.RETRY_SECONDS
    first(store)
    assert store._patience["retry"].timeout == GCSStorage.LATER_SECONDS


# A swap whose answer was lost


def test_a_swap_that_was_done_though_its_answers_were_lost(proxy: Faults, store: Storage):
    proxy.rules = [Rule(lose, "PUT", times=3)]
    store.compare_and_swap("current", b"mine", None)
    data, version = store.read_versioned("current") or pytest.fail("nothing there")
    assert data == b"mine"
    proxy.rules = [Rule(lose, "PUT", times=1)]
    store.compare_and_swap("current", b"next", version)
    assert store.read("current") == b"next"


@pytest.mark.parametrize("theirs", [b"theirs", b"mine"], ids=["other_content", "the_same_content"])
def test_a_swap_that_another_process_won_meanwhile(
    proxy: Faults, store: Storage, s3_server: S3Server, theirs: bytes
):
    other = boto3.client("s3", endpoint_url=s3_server.url, region_name="us-east-1")
    bucket = store.uri.removeprefix("s3://")
    put = call(lambda: other.put_object(Bucket=bucket, Key="current", Body=theirs))
    proxy.rules = [Rule(reset, "PUT", times=1), Rule(put, "PUT", first=1, times=1)]
    with pytest.raises(Conflict):
        store.compare_and_swap("current", b"mine", None)
    assert store.read("current") == theirs
