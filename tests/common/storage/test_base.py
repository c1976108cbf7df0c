"""One contract over folders, S3 and Google Cloud Storage, and the errors of each, against real servers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from buckets import Between, endpoint, keys, write_method
from servers import free_port

from defectline.components.common.errors import Conflict, SettingsError, StoreError
from defectline.components.common.storage import Storage, open_storage
from defectline.components.common.storage.base import redact
from defectline.components.common.storage.s3 import S3Storage

ODD_KEYS = [
    "a b/c d.txt",
    "hash#1",
    "ask?x=1&y=2",
    "half%20",
    "50%",
    "plus+",
    "Prüfling/划痕.png",
    "semi;,=@",
]


def test_what_was_written_can_be_read_and_listed(store: Storage):
    data = bytes(range(256)) * 3 + b"\r\n--boundary\n"
    store.write("runs/one/outcome.json", data)
    assert store.read("runs/one/outcome.json") == data
    (found,) = store.list()
    assert (found.key, found.size) == ("runs/one/outcome.json", len(data))


def test_an_empty_object_is_an_object(store: Storage):
    store.write("empty", b"")
    assert store.read("empty") == b""
    assert keys(store) == ["empty"]


def test_a_listing_tells_when_an_object_was_written(store: Storage):
    before = datetime.now(UTC)
    store.write("a", b"1")
    (found,) = store.list()
    written = datetime.fromisoformat(found.modified)
    assert written.tzinfo is not None
    assert abs(written - before) < timedelta(minutes=5)


def test_an_empty_place_lists_nothing(store: Storage):
    assert keys(store) == []


def test_writing_again_replaces_content_and_version(store: Storage):
    store.write("key", b"one")
    (before,) = store.list()
    store.write("key", b"three")
    (after,) = store.list()
    assert store.read("key") == b"three"
    assert before.version != after.version


def test_a_version_that_is_gone_is_not_read(store: Storage):
    store.write("key", b"before")
    (listed,) = store.list()
    assert store.read("key", listed.version) == b"before"
    # GCS: below, for its emulator ignores generations.
    if not store.uri.startswith("gs"):
        store.write("key", b"afterwards")
        with pytest.raises(KeyError):
            store.read("key", listed.version)
    store.delete("key")
    with pytest.raises(KeyError):
        store.read("key", listed.version)


def test_a_prefix_is_a_string_and_a_root_is_a_folder(store: Storage, uri: str):
    for key in ("a/b", "a/bc", "a/b/c", "ab"):
        if not (key == "a/b" and store.uri.startswith("file:")):  # a folder cannot hold a/b and a/b/c
            store.write(key, b"x")
    assert keys(store, "a/bc") == ["a/bc"]
    assert set(keys(store, "a/b")) >= {"a/bc", "a/b/c"}
    assert keys(store, "a/b/") == ["a/b/c"]
    assert keys(open_storage(f"{uri}/a/b")) == ["c"]
    assert keys(store, "z") == []


def test_odd_keys(store: Storage, tmp_path: Path):
    for key in ODD_KEYS:
        store.write(key, key.encode())
    assert keys(store) == sorted(ODD_KEYS)
    for key in ODD_KEYS:
        assert keys(store, key) == [key]
        assert store.read(key) == key.encode()
        store.download(key, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == key.encode()
        store.delete(key)
        assert not store.exists(key)


def test_the_url_of_a_key_opens_what_lies_below_it(store: Storage):
    store.write("a b#1/50%25?/c", b"x")
    assert keys(open_storage(store.url("a b#1/50%25?"))) == ["c"]


def test_what_systems_leave_is_invisible(store: Storage):
    for key in (".DS_Store", "OK/.DS_Store", ".git/config", "OK/THUMBS.db", "@eaDir/OK/1.png", "OK/1.png"):
        store.write(key, b"x")
    assert keys(store) == ["OK/1.png"]
    assert keys(store, ".git/") == []
    assert {found.key for found in store.list_all()} > {
        ".DS_Store",
        "OK/.DS_Store",
        "OK/THUMBS.db",
        "OK/1.png",
    }


def test_a_missing_key(store: Storage, tmp_path: Path):
    store.write("other", b"x")
    for action in (store.read, store.delete, lambda key: store.download(key, tmp_path / "out")):
        with pytest.raises(KeyError, match="no/such"):
            action("no/such")
    assert not (tmp_path / "out").exists()
    assert not store.exists("no/such")
    assert not store.exists("othe")
    assert store.read_versioned("no/such") is None


def test_delete(store: Storage):
    store.write("a", b"x")
    store.write("b", b"x")
    store.delete("a")
    assert keys(store) == ["b"]
    assert not store.exists("a")


def test_delete_below(store: Storage):
    for key in ("runs/a/1", "runs/a/2", "runs/ab", "run"):
        store.write(key, b"x")
    store.delete_below("runs/a/")
    assert keys(store) == ["run", "runs/ab"]
    store.delete_below("runs/a/")
    store.delete_below("run")
    assert keys(store) == []


@pytest.mark.parametrize("size", [0, 100, 9 << 20], ids=["empty", "small", "several_parts"])
def test_files_go_up_and_down(store: Storage, tmp_path: Path, size: int):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes((bytes(range(251)) * (size // 251 + 1))[:size])
    store.upload(source, "folder/pack.tar")
    store.download("folder/pack.tar", target)
    assert target.read_bytes() == source.read_bytes()
    (found,) = store.list()
    assert found.size == size


@pytest.mark.parametrize("prefix", ["models/v1", "models/v1/", ""])
def test_folders_go_up_and_down(store: Storage, tmp_path: Path, prefix: str):
    files = {"bundle.json": b"{}", "openvino/model.bin": b"\0\1", "golden/a b.png": b"png"}
    for name, data in files.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    store.upload_folder(tmp_path / "in", prefix)
    root = "models/v1/" if prefix else ""
    assert keys(store) == sorted(root + name for name in files)
    store.download_folder(prefix, tmp_path / "out")
    out = {
        p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*.*")
    }
    assert out == files


def test_a_file_that_cannot_be_used_on_this_machine(store: Storage, tmp_path: Path):
    store.write("key", b"x")
    with pytest.raises(StoreError, match="nowhere") as caught:
        store.download("key", tmp_path / "nowhere" / "out")
    assert "on this machine" in caught.value.what
    with pytest.raises(StoreError, match="absent"):
        store.upload(tmp_path / "absent", "other")
    assert keys(store) == ["key"]


def test_swap(store: Storage):
    store.compare_and_swap("current.json", b"one", None)
    data, version = store.read_versioned("current.json") or pytest.fail("nothing there")
    assert data == b"one"
    store.compare_and_swap("current.json", b"two", version)
    data, newer = store.read_versioned("current.json") or pytest.fail("nothing there")
    assert data == b"two"
    assert newer != version


@pytest.mark.parametrize("uri", ["folder", "s3"], indirect=True)
def test_swap_loses_to_the_process_that_was_faster(store: Storage):
    """Not on GCS, whose emulator takes every write: its precondition is tested below."""
    store.compare_and_swap("current.json", b"one", None)
    _, version = store.read_versioned("current.json") or pytest.fail("nothing there")
    store.write("current.json", b"theirs")
    for stale in (version, None):
        with pytest.raises(Conflict, match=r"current\.json was changed"):
            store.compare_and_swap("current.json", b"mine", stale)
    assert store.read("current.json") == b"theirs"
    store.delete("current.json")
    with pytest.raises(Conflict):
        store.compare_and_swap("current.json", b"mine", version)
    assert not store.exists("current.json")


@pytest.mark.parametrize("uri", ["folder"], indirect=True)
def test_of_many_swaps_at_once_one_wins(store: Storage):
    """Only on folders: moto looks first and writes then, so two can win there."""
    wins = []

    def deploy(number: int) -> None:
        try:
            store.compare_and_swap("current.json", b"%d" % number, None)
            wins.append(b"%d" % number)
        except Conflict:
            return

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(deploy, range(32)))
    assert wins == [store.read("current.json")]


def test_a_request_starts_no_thread(uri: str, monkeypatch: pytest.MonkeyPatch):
    """Threads that outlive it would take random numbers from training, and connections from readers."""
    store = open_storage(uri)
    started: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread))
    store.write("key", b"data")
    assert store.read("key") == b"data"
    assert [found.key for found in store.list()] == ["key"]
    assert not started


def test_many_threads_share_one_storage(uri: str, caplog: pytest.LogCaptureFixture):
    store = open_storage(uri)
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda n: store.write(f"{n:03}", b"%d" % n), range(64)))
        read = list(pool.map(lambda n: store.read(f"{n:03}"), range(64)))
    assert read == [b"%d" % n for n in range(64)]
    assert "pool is full" not in caplog.text


@pytest.mark.parametrize("uri", ["folder", "s3"], indirect=True)
def test_a_long_listing_is_complete(store: Storage, monkeypatch: pytest.MonkeyPatch):
    """More than a page of S3. Not on GCS, whose emulator knows no pages."""
    monkeypatch.setattr(S3Storage, "PAGE_KEYS", 20)
    names = [f"OK/{n:04}.png" for n in range(101)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: store.write(name, b""), names))
    assert keys(store) == names


@pytest.mark.parametrize(
    "uri", ["", " ", "s3://", "gs:///key", "ftp://host/x", "file://host/x"], indirect=False
)
def test_a_location_that_names_nothing(uri: str):
    with pytest.raises(SettingsError):
        open_storage(uri)


@pytest.mark.parametrize("scheme", ["s3", "gcs"])
def test_a_bucket_that_is_not_there(request: pytest.FixtureRequest, tmp_path: Path, scheme: str):
    uri = request.getfixturevalue(scheme) + "-absent"
    store = open_storage(uri)
    (tmp_path / "file").write_bytes(b"x")
    for action in (
        lambda: keys(store),
        lambda: store.read("key"),
        lambda: store.read_versioned("key"),
        lambda: store.download("key", tmp_path / "out"),
        lambda: store.write("key", b"x"),
        lambda: store.upload(tmp_path / "file", "key"),
        lambda: store.delete("key"),
        lambda: store.compare_and_swap("key", b"x", None),
    ):
        with pytest.raises(StoreError, match="create the bucket") as caught:
            action()
        assert type(caught.value) is StoreError
        assert uri in caught.value.what


@pytest.mark.parametrize("uri", ["s3://UPPER_case!", "gs://-x-"])
def test_a_bucket_name_that_cannot_be(uri: str, request: pytest.FixtureRequest):
    request.getfixturevalue("s3" if uri.startswith("s3") else "gcs")
    with pytest.raises(StoreError, match="Correct the bucket"):
        keys(open_storage(uri))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("scheme", ["s3", "gcs"])
@pytest.mark.parametrize("host", ["closed", "silent", "unknown", "plain_http"])
def test_a_host_that_does_not_answer(request: pytest.FixtureRequest, monkeypatch, silent, scheme, host):
    uri = request.getfixturevalue(scheme)
    plain = request.getfixturevalue(f"{scheme}_server").url
    url = {
        "closed": f"http://127.0.0.1:{free_port()}",
        "silent": silent,
        "unknown": "http://user:hush@nohost.invalid",
        "plain_http": plain.replace("http://", "https://"),
    }[host]
    endpoint(monkeypatch, scheme, url)
    for action in (keys, lambda store: store.write("key", b"x")):
        with pytest.raises(StoreError) as caught:
            action(open_storage(uri))
        assert uri in caught.value.what
        assert urlsplit(url).hostname in caught.value.got
        assert not any(part in str(caught.value) for part in ("hush", "prettyPrint", "list-type"))


def test_a_fault_that_passes_is_not_noticed(between: tuple[Between, Storage], tmp_path: Path):
    relay, store = between
    store.write("key", b"content of some length")
    for fault in (503, "drop", "cut"):
        relay.faults = [("GET", fault)]
        assert store.read("key") == b"content of some length"
        relay.faults = [("GET", fault)]
        store.download("key", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == b"content of some length"
    for fault in (503, "drop"):
        relay.faults = [(write_method(store), fault)]
        store.write("other", b"x")
    assert relay.faults == []
    assert keys(store) == ["key", "other"]


@pytest.mark.usefixtures("impatient")
def test_a_server_that_keeps_failing(between: tuple[Between, Storage]):
    relay, store = between
    relay.faults = [("GET", 503)] * 20
    with pytest.raises(StoreError, match="503"):
        store.read("key")
    relay.faults = [(write_method(store), 500)] * 20
    with pytest.raises(StoreError, match="500"):
        store.write("key", b"x")
    relay.faults = [("GET", 403)]
    with pytest.raises(StoreError, match="403") as caught:
        keys(store)
    # S3 says what is wrong in its own words: this is a page of something else.
    assert "NO_PROXY" in caught.value.fix or "role" in caught.value.fix


@pytest.mark.usefixtures("impatient")
def test_a_server_that_speaks_something_else(between: tuple[Between, Storage]):
    relay, store = between
    relay.faults = [("GET", "page")] * 20
    with pytest.raises(StoreError, match=relay.url):
        keys(store)


def test_a_swap_whose_answer_is_lost_is_still_a_swap(between: tuple[Between, Storage]):
    """On GCS the relay says what the emulator does not: 412 to the second attempt."""
    relay, store = between
    method = write_method(store)
    relay.faults = [(method, "drop")] + ([(method, 412)] if method == "POST" else [])
    store.compare_and_swap("current.json", b"mine", None)
    assert relay.faults == []
    assert store.read("current.json") == b"mine"


def test_a_swap_states_its_condition_and_believes_the_answer(between: tuple[Between, Storage]):
    """The emulator of GCS ignores conditions, so the relay answers in its place."""
    relay, store = between
    store.write("current.json", b"theirs")
    _, version = store.read_versioned("current.json") or pytest.fail("nothing there")
    for expected in (None, version):
        for status in (412, 409) if store.uri.startswith("s3") else (412,):
            relay.faults = [(write_method(store), status)]
            with pytest.raises(Conflict):
                store.compare_and_swap("current.json", b"mine", expected)
            if store.uri.startswith("gs"):
                path = [path for path in relay.paths if "upload" in path][-1]
                assert f"ifGenerationMatch={expected or 0}" in path
    assert store.read("current.json") == b"theirs"


HEADER = "AWS4-HMAC-SHA256 Credential=AKIA1/20261128/us-east-1/s3/aws4_request, Signature=hush"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("GET http://user:hu@hush@host:9000/b?X-Amz-Signature=hush&x=1: 403", "GET http://host:9000/b: 403"),
        (f"Invalid header value b'{HEADER}\\n'", "Invalid header value of a key or token"),
        (
            "Invalid return character(s) in header value: 'Bearer hush\\n'",
            "in header value of a key or token",
        ),
        (f"could not send {HEADER}", "could not send AWS4-HMAC-SHA256 …"),
        ("authorization: Bearer hush", "authorization: Bearer …"),
        (
            "x-amz-security-token=hush, aws_secret_access_key = hush",
            "x-amz-security-token=…, aws_secret_access",
        ),
        ("the token of\nmine is hush", "the token of mine is …"),
        ("b'hush\\n'", "b'…\\n'"),
        ("no signature was expected, and no secret", "no signature was expected, and no secret"),
    ],
)
def test_what_is_secret_is_left_out_of_a_text(text: str, told: str):
    assert told in redact(text, ["hush"])
    assert "hush" not in redact(text, ["hush"])
