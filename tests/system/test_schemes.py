"""The same pictures are the same data, wherever they lie; and bad starts of ingest, wherever they point."""

import json
import os
import shutil
from pathlib import Path

import pytest
from paths import SHARED
from pictures import write_pair, write_source
from servers import GCSServer, S3Server, free_port

from defectline.components.common.images.sample import generate_samples
from defectline.components.common.records import GateRecord, write_gate
from defectline.components.common.snapshot import (
    Snapshot,
    fingerprint,
    read_files,
    read_head,
    read_pairs,
    read_snapshot,
)
from defectline.components.common.storage import open_storage
from defectline.components.common.storage.gcs import GCSStorage
from defectline.components.common.storage.s3 import S3Storage
from defectline.components.ingest.snapshotter import take_snapshot
from defectline.components.ingest.step import ingest
from defectline.components.preprocess.step import preprocess

LGP = SHARED / "data/lgp"
with_lgp = pytest.mark.skipif(not LGP.is_dir(), reason=f"no {LGP}")


@pytest.fixture
def servers(s3_server: S3Server, gcs_server: GCSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (s3_server.env | gcs_server.env).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def new_place(servers, s3_server: S3Server, gcs_server: GCSServer, tmp_path: Path):
    """A function from a kind of storage to the URI of an empty place there."""

    def new(kind: str) -> str:
        if kind == "s3":
            return f"s3://{s3_server.new_bucket()}/labelled pictures"
        if kind == "gs":
            return f"gs://{gcs_server.new_bucket()}/labelled pictures"
        folder = tmp_path / f"{kind} {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return folder.as_uri() if kind == "file" else str(folder)

    return new


def taken(source: str, store: str) -> Snapshot:
    return read_snapshot(open_storage(store), ingest(source, store))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "pairs"
    generate_samples(folder, pairs=24, size=64)
    return folder


@pytest.mark.parametrize(
    ("pictures", "kind", "store_kind"),
    [
        ("drawn", "file", "s3"),
        ("drawn", "s3", "folder"),
        ("drawn", "gs", "folder"),
        pytest.param("lgp", "s3", "gs", marks=with_lgp),
        pytest.param("lgp", "gs", "s3", marks=with_lgp),
    ],
)
def test_every_scheme_gives_the_same_snapshot(
    new_place, drawn: Path, pictures: str, kind: str, store_kind: str, tmp_path: Path
):
    folder = drawn if pictures == "drawn" else LGP
    expected = taken(str(folder), str(tmp_path / "plain store"))
    source, store = new_place(kind), new_place(store_kind)
    for name in ("OK", "OK_MSK", "NG", "NG_MSK"):
        open_storage(source).upload_folder(folder / name, name)
    found = taken(source, store)
    assert (found.fingerprint, found.id) == (expected.fingerprint, expected.id)
    assert found.source == open_storage(source).uri
    place = open_storage(store)
    rows = read_pairs(place, found.id)
    assert fingerprint(rows) == expected.fingerprint
    for row, image, truth in read_files(place, rows):
        assert image == (folder / row.image_key).read_bytes()
        assert truth == (folder / row.mask_key).read_bytes()
    for name, settings in (("here", {"image_size": 32}), ("there", {"image_size": 32})):
        where = store if name == "there" else str(tmp_path / "plain store")
        preprocess(where, found.id, tmp_path / name, settings)
    for file in ("images.npy", "masks.npy", "dataset.json"):
        assert (tmp_path / "here" / file).read_bytes() == (tmp_path / "there" / file).read_bytes()


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_a_bucket_grows_by_what_is_new(new_place, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, source, store = write_source(tmp_path / "pairs", range(6)), new_place(kind), new_place(kind)
    storage, target = open_storage(source), open_storage(store)
    storage.upload_folder(folder, "")
    first = taken(source, store)
    write_gate(target, "defects", GateRecord(run="earlier", snapshot=first.id, settings_key=""))
    reader = type(storage)
    read, keys = reader.read, []

    def reading(self, key: str, version: str = "") -> bytes:
        if self.uri == storage.uri:
            keys.append(key)
        return read(self, key, version)

    monkeypatch.setattr(reader, "read", reading)
    assert ingest(source, store) == ""
    assert keys == []
    image = write_pair(tmp_path / "more", "NG", 70)
    storage.upload_folder(tmp_path / "more", "")
    # The step would read some pictures again, to show them.
    second = take_snapshot(storage, target, "runs/manual/quarantine.csv").snapshot
    assert sorted(keys) == [f"NG/{image.name}", "NG_MSK/00070_NG_Mask.png"]
    assert (second.accepted, read_head(target)) == (13, second.id)
    before = {row.pixel_sha256: row.split for row in read_pairs(target, first.id)}
    after = {row.pixel_sha256: row.split for row in read_pairs(target, second.id)}
    assert before.items() <= after.items()


def test_moving_the_pictures_into_a_bucket_changes_nothing(new_place, tmp_path: Path):
    folder, bucket, store = write_source(tmp_path / "pairs", range(6)), new_place("s3"), new_place("gs")
    first = taken(str(folder), store)
    packs = {found.key for found in open_storage(store).list("snapshots/packs/")}
    open_storage(bucket).upload_folder(folder, "")
    assert taken(bucket, store).id == first.id
    assert {found.key for found in open_storage(store).list("snapshots/packs/")} == packs


# Bad starts


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "reports"
    folder.mkdir()
    monkeypatch.setenv("DEFECTLINE_REPORTS", str(folder))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store that already holds a snapshot of other pictures."""
    folder = tmp_path / "store"
    ingest(str(write_source(tmp_path / "other pictures", range(6))), str(folder), run="earlier")
    return str(folder)


@pytest.fixture
def refused(reports: Path, capsys: pytest.CaptureFixture[str]):
    """A function that ingests, asserts that this failed as it must, and returns error.json."""

    def failing(source: str, store: str) -> dict[str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            ingest(source, store)
        assert caught.value.code == 2
        printed = "".join(capsys.readouterr())
        assert "Traceback" not in printed
        error = json.loads((reports / "error.json").read_text())
        assert set(error) == {"kind", "what", "got", "expected", "fix"}
        assert all(error.values())
        assert error["what"] in printed
        assert error["fix"] in printed
        return error

    return failing


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a host after a fraction of a second."""
    monkeypatch.setattr(S3Storage, "ATTEMPTS", 1)
    monkeypatch.setattr(GCSStorage, "RETRY_SECONDS", 0.3)


def contents(folder: str) -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def nothing(folder: Path) -> None:
    """A missing folder."""


def empty(folder: Path) -> None:
    folder.mkdir()


def other_layout(folder: Path) -> None:
    """Pictures of which nothing says what they show."""
    write_source(folder, range(8))
    shutil.rmtree(folder / "OK_MSK")
    shutil.rmtree(folder / "NG_MSK")
    (folder / "OK").rename(folder / "day-1")
    (folder / "NG").rename(folder / "day-2")


def no_defects(folder: Path) -> None:
    for number in range(8):
        write_pair(folder, "OK", number)


def no_masks(folder: Path) -> None:
    write_source(folder, range(8))
    shutil.rmtree(folder / "NG_MSK")


def malformed_splits(folder: Path) -> None:
    write_source(folder, range(8))
    (folder / "splits.csv").write_text("picture\n")


def too_few(folder: Path) -> None:
    write_source(folder, range(6))
    for name in ("OK", "OK_MSK"):
        min((folder / name).iterdir()).unlink()


def all_broken(folder: Path) -> None:
    write_source(folder, range(8))
    for path in (folder / "NG").iterdir():
        path.write_bytes(b"broken")


def a_file(folder: Path) -> None:
    folder.write_text("")


@pytest.mark.parametrize(
    ("prepare", "what", "got"),
    [
        (nothing, "cannot be read", "no such folder"),
        (empty, "The source is empty.", "no file"),
        (other_layout, "another layout", "16 files"),
        (no_defects, "No defective picture of the source is left.", "where the snapshot before has 6"),
        (no_masks, "No NG picture has a mask.", "8 NG pictures, and 8 files that seem to be masks"),
        (malformed_splits, "splits.csv cannot be read", "the first line 'picture'"),
        (too_few, "too few usable OK pairs", "5"),
        (all_broken, "8 of 16 pairs are unusable", "NG/00000_NG: Image: The file is not a picture"),
        (a_file, "cannot be read", "it is a file"),
    ],
)
def test_a_folder_that_is_no_source(refused, store: str, tmp_path: Path, prepare, what: str, got: str):
    before = contents(store)
    prepare(tmp_path / "source")
    source = str(tmp_path / "source")
    error = refused(source, store)
    assert what in error["what"]
    assert got in error["got"]
    assert source in error["what"] + error["got"]
    # Before its snapshot a run leaves the table of rejected pairs, and what spares the next one some reading.
    after = contents(store)
    told = f"{store}/runs/manual/"
    assert {k: v for k, v in before.items() if not k.startswith(told)}.items() <= after.items()
    new = {key.removeprefix(f"{store}/").rpartition("/")[0] for key in after.keys() - before.keys()}
    assert all(folder.startswith(("runs/manual", "snapshots/packs", "snapshots/journal")) for folder in new)


@pytest.mark.parametrize(
    ("source", "what", "got"),
    [
        ("ftp://host/pictures", "scheme of ftp://host/pictures is unknown", "ftp://"),
        ("s3://", "names no bucket", "s3://"),
        ("gs:///prefix", "names no bucket", "gs:///prefix"),
        ("", "empty", "''"),
        ("file://host/folder", "names a host", "host"),
    ],
)
@pytest.mark.parametrize("as_store", [False, True])
def test_a_uri_that_nobody_understands(
    refused, store: str, tmp_path: Path, source: str, what: str, got: str, as_store: bool
):
    before = contents(store)
    error = refused(str(tmp_path / "other pictures"), source) if as_store else refused(source, store)
    assert what in error["what"]
    assert got in error["got"]
    assert contents(store) == before


@pytest.mark.parametrize("kind", ["s3", "gs"])
@pytest.mark.parametrize("as_store", [False, True])
def test_a_bucket_that_is_missing(servers, refused, store: str, tmp_path: Path, kind: str, as_store: bool):
    before = contents(store)
    uri = f"{kind}://no-such-bucket/pictures"
    error = refused(str(tmp_path / "other pictures"), uri) if as_store else refused(uri, store)
    assert "no-such-bucket" in error["what"]
    assert "bucket" in error["expected"]
    assert contents(store) == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "secret key"),
        ({"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN"}, "access key"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "an access key and its secret key"),
        ("stranger", "may list, read, write and delete"),
    ],
)
@pytest.mark.parametrize("as_store", [False, True])
def test_credentials_that_are_wrong(
    new_place,
    refused,
    s3_server: S3Server,
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes,
    expected: str,
    as_store: bool,
):
    uri, before = new_place("s3"), contents(store)
    open_storage(uri).upload_folder(tmp_path / "other pictures", "")
    if changes == "stranger":
        changes = {
            "AWS_ACCESS_KEY_ID": s3_server.stranger_key,
            "AWS_SECRET_ACCESS_KEY": s3_server.stranger_secret,
        }
    for name, value in changes.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    error = refused(str(tmp_path / "other pictures"), uri) if as_store else refused(uri, store)
    assert expected in error["expected"]
    assert contents(store) == before
    assert s3_server.secret_key not in json.dumps(error)


@pytest.mark.parametrize("kind", ["s3", "gs"])
@pytest.mark.parametrize("as_store", [False, True])
def test_a_host_that_refuses_the_connection(
    servers,
    refused,
    impatient,
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    as_store: bool,
):
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL" if kind == "s3" else "STORAGE_EMULATOR_HOST", url)
    before = contents(store)
    uri = f"{kind}://bucket/pictures"
    error = refused(str(tmp_path / "other pictures"), uri) if as_store else refused(uri, store)
    assert url in error["got"]
    assert contents(store) == before


def test_a_store_that_cannot_be_written(refused, store: str, tmp_path: Path):
    (tmp_path / "file").write_text("")
    error = refused(str(tmp_path / "other pictures"), f"{tmp_path}/file/store")
    assert "cannot be" in error["what"]
    if os.geteuid() != 0:  # root may write anywhere
        for path in (Path(store), *Path(store).rglob("*")):
            path.chmod(0o500 if path.is_dir() else 0o400)
        before = contents(store)
        assert "denied" in refused(str(tmp_path / "other pictures"), store)["got"]
        assert contents(store) == before
