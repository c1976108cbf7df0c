"""One contract over folders, S3 and Google Cloud Storage, and the errors of each, against real servers."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from servers import GCSServer, S3Server, free_port

from defectline.components.common.errors import Conflict, Corrupt, SettingsError, SourceError, StoreError
from defectline.components.common.storage import Storage, open_storage
from defectline.components.common.storage.gcs import GCSStorage
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


@pytest.fixture(params=["folder", "s3", "gcs"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "folder":
        (tmp_path / "store").mkdir()
        return str(tmp_path / "store")
    server = request.getfixturevalue(f"{request.param}_server")
    set_env(monkeypatch, server)
    return f"{'s3' if request.param == 's3' else 'gs'}://{server.new_bucket()}/some/prefix"


@pytest.fixture
def store(uri: str) -> Storage:
    return open_storage(uri)


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty S3 bucket, with the environment set for it."""
    set_env(monkeypatch, s3_server)
    return f"s3://{s3_server.new_bucket()}"


@pytest.fixture
def gcs(gcs_server: GCSServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty GCS bucket, with the environment set for it."""
    set_env(monkeypatch, gcs_server)
    return f"gs://{gcs_server.new_bucket()}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a host after a fraction of a second."""
    for storage in (S3Storage, GCSStorage):
        monkeypatch.setattr(storage, "READ_SECONDS", 0.2)
    monkeypatch.setattr(S3Storage, "ATTEMPTS", 2)
    monkeypatch.setattr(S3Storage, "PAUSES", (0.0,) * 3)
    monkeypatch.setattr(GCSStorage, "RETRY_SECONDS", 0.5)
    monkeypatch.setattr(GCSStorage, "LATER_SECONDS", 0.5)


def set_env(monkeypatch: pytest.MonkeyPatch, server: S3Server | GCSServer) -> None:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)


def keys(store: Storage, prefix: str = "") -> list[str]:
    return sorted(found.key for found in store.list(prefix))


# The contract


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


def test_dotfiles_are_invisible(store: Storage):
    for key in (".DS_Store", "OK/.DS_Store", ".git/config", "OK/1.png"):
        store.write(key, b"x")
    assert keys(store) == ["OK/1.png"]
    assert keys(store, ".git/") == []


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
def test_swap_loses_to_whoever_was_faster(store: Storage):
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
def test_a_long_listing_is_complete(store: Storage):
    """More than a page of S3. Not on GCS, whose emulator knows no pages."""
    names = [f"OK/{n:04}.png" for n in range(1010)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: store.write(name, b""), names))
    assert keys(store) == names


# Locations


@pytest.mark.parametrize(
    "uri", ["", " ", "s3://", "gs:///key", "ftp://host/x", "file://host/x"], indirect=False
)
def test_a_location_that_names_nothing(uri: str):
    with pytest.raises(SettingsError):
        open_storage(uri)


def test_a_file_uri_with_odd_names(tmp_path: Path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "x").write_bytes(b"1")
    assert open_storage((tmp_path / "a b").as_uri()).read("x") == b"1"
    (tmp_path / "c#d").mkdir()
    (tmp_path / "c#d" / "x").write_bytes(b"2")
    assert open_storage(f"file://{tmp_path}/c#d").read("x") == b"2"


# Folders


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a/../../x", "a\\b", "a\nb"])
def test_a_key_cannot_leave_the_folder(tmp_path: Path, key: str):
    store = open_storage(str(tmp_path / "store"))
    with pytest.raises(SourceError):
        store.write(key, b"x")
    with pytest.raises(SourceError):
        store.read(key)


def test_a_folder_that_is_not_there_or_is_a_file(tmp_path: Path):
    with pytest.raises(StoreError, match="no such folder"):
        keys(open_storage(str(tmp_path / "absent")))
    (tmp_path / "file").write_bytes(b"")
    for place in ("file", "file/below"):
        store = open_storage(str(tmp_path / place))
        with pytest.raises(StoreError, match=place):
            keys(store)
        with pytest.raises(StoreError, match=place):
            store.write("key", b"x")
        with pytest.raises(StoreError, match=place):
            store.compare_and_swap("key", b"x", None)


def test_the_first_write_makes_the_folder(tmp_path: Path):
    store = open_storage(str(tmp_path / "new" / "store"))
    store.write("key", b"x")
    assert keys(store) == ["key"]


def test_a_folder_in_place_of_a_key(tmp_path: Path):
    store = open_storage(str(tmp_path))
    store.write("a/b", b"x")
    for key in ("a", "a/b/c"):
        with pytest.raises(KeyError):
            store.read(key)
        with pytest.raises(StoreError):
            store.write(key, b"y")
    assert keys(store) == ["a/b"]
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b"]


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path):
    store = open_storage(str(tmp_path / "store"))
    store.write("pack", b"old")
    with pytest.raises(StoreError, match="directory"):
        store.upload(tmp_path, "pack")
    # A memory file that breaks off in the middle of the copy.
    with pytest.raises(StoreError):
        store.upload(Path("/proc/self/mem"), "pack")
    assert store.read("pack") == b"old"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["pack"]


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path):
    (tmp_path / "1.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(StoreError, match=r"1\.png"):
        keys(open_storage(str(tmp_path)))


# S3


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("AWS_SECRET_ACCESS_KEY", "hush", "SignatureDoesNotMatch"),
        ("AWS_ACCESS_KEY_ID", "AKIAWRONG", "InvalidAccessKeyId"),
    ],
)
def test_s3_keys_that_are_wrong(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, got: str
):
    monkeypatch.setenv(name, value)
    (tmp_path / "file").write_bytes(b"x")
    store = open_storage(s3)
    for action in (
        lambda: keys(store),
        lambda: store.read("key"),
        lambda: store.write("key", b"x"),
        lambda: store.upload(tmp_path / "file", "key"),
        lambda: store.download("key", tmp_path / "out"),
        lambda: store.compare_and_swap("key", b"x", None),
        lambda: store.delete("key"),
    ):
        with pytest.raises(StoreError, match=got) as caught:
            action()
        assert s3 in caught.value.what
        assert name in caught.value.fix
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("env", "got", "fix"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "credentials", "AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "credentials", "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_PROFILE": "nobody"}, "nobody", "AWS_PROFILE"),
        ({"AWS_ENDPOINT_URL": "localhost:9000"}, "localhost:9000", "AWS_ENDPOINT_URL"),
        ({"AWS_REGION": "no region"}, "no region", "AWS_"),
    ],
    ids=["no_credentials", "half_of_them", "profile", "endpoint", "region"],
)
def test_s3_settings_that_are_wrong(
    s3: str, monkeypatch: pytest.MonkeyPatch, env: dict[str, str | None], got: str, fix: str
):
    for name, value in env.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=s3) as caught:
        keys(open_storage(s3))
    assert got in caught.value.got
    assert fix in caught.value.fix


def test_s3_without_rights(s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.stranger_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.stranger_secret)
    store = open_storage(s3)
    for action in (
        lambda: keys(store),
        lambda: store.read("key"),
        lambda: store.download("key", tmp_path / "out"),
        lambda: store.write("key", b"x"),
    ):
        with pytest.raises(StoreError, match="AccessDenied") as caught:
            action()
        assert "rights" in caught.value.fix


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


def test_s3_puts_the_bucket_into_the_host_name_on_request(s3: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://nohost.invalid:{free_port()}")
    monkeypatch.setenv("DEFECTLINE_S3_PATH_STYLE", "0")
    bucket = urlsplit(s3).netloc
    with pytest.raises(StoreError, match=f"{bucket}.nohost.invalid"):
        keys(open_storage(s3))


def test_s3_skips_the_markers_that_consoles_leave_for_folders(s3: str, s3_server: S3Server):
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.url,
        region_name="us-east-1",
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
    )
    for key in ("lgp/", "lgp/OK/", "lgp/OK/1.png"):
        client.put_object(Bucket=urlsplit(s3).netloc, Key=key, Body=b"")
    assert keys(open_storage(f"{s3}/lgp")) == ["OK/1.png"]


# Hosts that do not do what they should


def endpoint(monkeypatch: pytest.MonkeyPatch, scheme: str, url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL" if scheme == "s3" else "STORAGE_EMULATOR_HOST", url)


@pytest.fixture
def silent() -> Iterator[str]:
    """A host that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


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


def test_gcs_without_credentials(gcs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(StoreError, match="credentials") as caught:
        keys(open_storage(gcs))
    assert "gcloud auth" in caught.value.fix
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(StoreError, match=r"absent\.json"):
        keys(open_storage(gcs))


class Between(ThreadingHTTPServer):
    """Passes requests on to a real server, except where `faults` says otherwise.

    A fault is (method, what): a status to answer with, "page" for a page of HTML, "drop" to lose the real
    answer, "cut" to end it halfway, "flip" to turn its last bit. Each happens once, to the next request
    with that method.
    """

    daemon_threads = True

    def __init__(self, server: str):
        super().__init__(("127.0.0.1", 0), Relay)
        self.real = urlsplit(server)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.faults: list[tuple[str, int | str]] = []
        self.paths: list[str] = []
        self.signed: list[bool] = []

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is no news."""


class Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Between

    def relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.paths.append(self.path)
        self.server.signed.append("Authorization" in self.headers)
        fault: int | str = ""
        if self.server.faults and self.server.faults[0][0] == self.command:
            fault = self.server.faults.pop(0)[1]
        if isinstance(fault, int) or fault == "page":
            self.reply(fault if isinstance(fault, int) else 200, {}, b"<html><br></html>")
            return
        real = HTTPConnection(self.server.real.hostname or "", self.server.real.port, timeout=10)
        real.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                real.putheader(name, value)
        real.endheaders(body)
        answer = real.getresponse()
        content = answer.read()
        real.close()
        self.close_connection = True
        headers = dict(answer.getheaders())
        if fault == "flip":
            content = content[:-1] + bytes([content[-1] ^ 1])
            # Of the checksums only the ETag stays, as with older servers.
            headers = {name: value for name, value in headers.items() if "checksum" not in name.lower()}
        if fault != "drop":
            self.reply(answer.status, headers, content, cut=fault == "cut")

    def reply(self, status: int, headers: dict[str, str], content: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay


@pytest.fixture(params=["s3", "gcs"])
def between(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Between, Storage]]:
    """A storage that reaches its real server through a relay."""
    uri = request.getfixturevalue(request.param)
    relay = Between(request.getfixturevalue(f"{request.param}_server").url)
    endpoint(monkeypatch, request.param, relay.url)
    thread = threading.Thread(target=relay.serve_forever, args=(0.01,))
    thread.start()
    yield relay, open_storage(uri)
    relay.shutdown()
    thread.join()
    relay.server_close()


def write_method(store: Storage) -> str:
    return "PUT" if store.uri.startswith("s3") else "POST"


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
@pytest.mark.parametrize("between", ["s3"], indirect=True)
def test_content_that_does_not_fit_its_etag(
    between: tuple[Between, Storage], monkeypatch: pytest.MonkeyPatch
):
    relay, store = between
    store.write("key", b"content of some length")
    relay.faults = [("GET", "flip")]
    assert store.read("key") == b"content of some length"
    # More than it tries: on a slow machine a try may end by its time limit besides.
    relay.faults = [("GET", "flip")] * 12
    with pytest.raises(Corrupt, match="arrives damaged") as caught:
        store.read("key")
    assert "DEFECTLINE_S3_ETAG_MD5=0" in caught.value.fix
    monkeypatch.setenv("DEFECTLINE_S3_ETAG_MD5", "0")
    relay.faults = [("GET", "flip")]
    assert store.read("key") != b"content of some length"


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
    assert "key" in caught.value.fix or "role" in caught.value.fix


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


@pytest.mark.parametrize("between", ["gcs"], indirect=True)
def test_gcs_names_the_generation_that_it_reads(between: tuple[Between, Storage]):
    relay, store = between
    store.write("key", b"before")
    (listed,) = store.list()
    store.read("key", listed.version)
    assert f"generation={listed.version}" in relay.paths[-1]


@pytest.mark.parametrize("between", ["s3"], indirect=True)
def test_s3_signs_requests_unless_told_not_to(
    between: tuple[Between, Storage], monkeypatch: pytest.MonkeyPatch
):
    """The relay refuses in place of moto, which has no public buckets while it checks signatures."""
    relay, store = between
    keys(store)
    monkeypatch.setenv("DEFECTLINE_S3_ANONYMOUS", "1")
    relay.faults = [("GET", 403)]
    with pytest.raises(StoreError, match="403"):
        keys(open_storage(store.uri))
    assert relay.signed == [True, False]
