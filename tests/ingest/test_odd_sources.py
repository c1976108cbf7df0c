"""Sources with files that are not data, and with files that cannot be read."""

import re
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from faults import Faults, Rule, answer, faults
from pictures import QUARANTINE, take
from servers import S3Server

from defectline.components.common.errors import StoreError, Unreadable
from defectline.components.common.snapshot import Pair, Snapshot, read_pairs
from defectline.components.common.storage import open_storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest import snapshotter
from defectline.components.ingest.reading import pictures
from defectline.components.ingest.step import ingest

JUNK = (
    *(
        "Thumbs.db",
        "OK/THUMBS.DB",
        "NG/Desktop.ini",
        "NG_MSK/Icon\r",
        "OK/sub_$folder$",
        "OK/._00000_OK_Image.png",
    ),
    *("NG/@eaDir/00000_NG_Image.png/SYNOPHOTO_THUMB_M.jpg", "#recycle/OK/old.png", "__MACOSX/NG/._1.png"),
    *("lost+found/1.png", ".Trashes/1.png", "OK/00009_OK_Image.png.part", "_SUCCESS", "NG/.@__thumb/1.png"),
)
SIDECARS = (
    *("README", "classes.txt", "NG/00000_NG_Image.json", "NG/00000_NG_Image.xml", "OK/notes.TXT"),
    *("OK_MSK/readme.md", "NG_MSK/00000_NG_Mask.xmp"),
)


def said_of_ignored(said: str) -> list[str]:
    return [line for line in said.splitlines() if "ignored" in line.lower()]


def test_a_folder_with_files_that_are_not_data(
    source: Path, store: FolderStorage, capsys: pytest.CaptureFixture[str]
):
    clean = take(source, FolderStorage(store.root / "clean"))
    picture = (source / "OK/00000_OK_Image.png").read_bytes()
    for key in JUNK + SIDECARS:
        (source / key).parent.mkdir(parents=True, exist_ok=True)
        # Thumbnails are pictures, and of a smaller size.
        (source / key).write_bytes(picture)
    capsys.readouterr()
    snapshot = take(source, store, max_rejected=0.0)
    assert (snapshot.fingerprint, snapshot.rejected) == (clean.fingerprint, 0)
    (line,) = said_of_ignored(capsys.readouterr().out)
    assert "@eaDir/" in line or "others" in line


@pytest.fixture
def proxy(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    with faults(s3_server.url) as proxy:
        yield proxy


@pytest.fixture
def uri(proxy: Faults, s3_server: S3Server, source: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The source in a bucket, asked through the proxy."""
    uri = f"s3://{s3_server.new_bucket()}/plates"
    open_storage(uri).upload_folder(source, "")
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    return uri


def taken(uri: str, store: FolderStorage) -> tuple[Snapshot, dict[str, Pair]]:
    found = snapshotter.take_snapshot(open_storage(uri), store, QUARANTINE).snapshot
    return found, {row.id: row for row in read_pairs(store, found.id) if row.status == "rejected"}


def test_a_bucket_with_files_that_are_not_data(uri: str, source: Path, store: FolderStorage):
    clean, _ = taken(uri, FolderStorage(store.root / "clean"))
    bucket = open_storage(uri)
    picture = (source / "OK/00000_OK_Image.png").read_bytes()
    for key in JUNK + SIDECARS:
        bucket.write(key, picture)
    snapshot, rejected = taken(uri, store)
    assert (snapshot.fingerprint, rejected) == (clean.fingerprint, {})


def test_a_key_with_an_empty_part_is_rejected(uri: str, source: Path, store: FolderStorage):
    open_storage(uri).write("NG//000.png", (source / "OK/00000_OK_Image.png").read_bytes())
    _, rejected = taken(uri, store)
    (row,) = rejected.values()
    assert row.image_key == "NG//000.png"
    assert "empty part" in row.reason


@pytest.mark.parametrize("key", ["NG/00000_NG_Image.png", "NG_MSK/00000_NG_Mask.png"])
def test_an_object_in_an_archive_rejects_its_pair(
    uri: str, proxy: Faults, s3_server: S3Server, source: Path, store: FolderStorage, key: str
):
    client = boto3.client("s3", endpoint_url=s3_server.url, region_name="us-east-1")
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    content = (source / key).read_bytes()
    client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=content, StorageClass="GLACIER")
    snapshot, rejected = taken(uri, store)
    assert snapshot.accepted == 15
    (row,) = rejected.values()
    assert "InvalidObjectState" in row.reason
    assert "Restore" in row.fix
    # When it was brought back, it is read without a change of its own.
    client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=content)
    assert taken(uri, store)[0].accepted == 16


@pytest.mark.parametrize(
    ("status", "code", "message", "fix"),
    [
        (403, "AccessDenied", "Access Denied", "rights"),
        (400, "InvalidRequest", "The object was stored using a form of Server Side Encryption.", "SSE-C"),
        (400, "KMS.DisabledException", "arn:aws:kms:x is disabled.", "KMS"),
    ],
)
def test_an_object_that_is_not_given_out_rejects_its_pair_and_is_on_the_page(
    uri: str,
    proxy: Faults,
    store: FolderStorage,
    tmp_path: Path,
    status: int,
    code: str,
    message: str,
    fix: str,
):
    proxy.rules = [Rule(answer(status, code, message), "GET", "NG/00003")]
    ingest(uri, str(store.root), settings={"max_rejected": 0.1})
    (table,) = Path(store.root).glob("runs/*/quarantine.csv")
    (line,) = (line for line in table.read_text().splitlines() if "rejected" in line)
    assert code in line
    assert fix in line
    assert re.search("NG/00003.*cannot be read", (table.parent / "pictures.html").read_text(), re.DOTALL)


def test_objects_that_all_cannot_be_read_stop_the_run_early(
    uri: str, proxy: Faults, store: FolderStorage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pictures, "ALIKE", 3)
    proxy.rules = [Rule(answer(403, "AccessDenied"), "GET", "png")]
    with pytest.raises(Unreadable, match="AccessDenied") as caught:
        taken(uri, store)
    assert "rights" in caught.value.fix
    assert "OK_MSK/00007" not in str(caught.value)


def test_keys_that_expire_meanwhile_stop_the_run(uri: str, proxy: Faults, store: FolderStorage):
    proxy.rules = [Rule(answer(400, "ExpiredToken"), "GET", "png", first=9)]
    with pytest.raises(StoreError, match="ExpiredToken") as caught:
        taken(uri, store)
    assert type(caught.value) is StoreError


def test_a_file_on_a_damaged_disk_rejects_its_pair(source: Path, store: FolderStorage):
    broken = source / "NG/00003_NG_Image.png"
    broken.unlink()
    # Its beginning can never be read: "Input/output error".
    broken.symlink_to("/proc/self/mem")
    rows = {row.id: row for row in read_pairs(store, take(source, store).id)}
    assert rows["NG/00003_NG"].status == "rejected"
    assert "Input/output error" in rows["NG/00003_NG"].reason


def test_a_link_in_a_circle_changes_nothing(source: Path, store: FolderStorage):
    clean = take(source, FolderStorage(store.root / "clean"))
    (source / "NG/again").symlink_to("..")
    (source / "loop").symlink_to(source)
    assert take(source, store, max_rejected=0.0).fingerprint == clean.fingerprint
