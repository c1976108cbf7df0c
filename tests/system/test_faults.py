"""Ingest from S3 while something goes wrong: the snapshot is the one of an undisturbed run.

The source is a real S3 server behind a proxy that damages what passes, and every result is compared, byte
for byte, with a run that met no fault.
"""

import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pyarrow.parquet as pq
import pytest
from botocore.config import Config
from faults import Fault, Faults, Rule, answer, call, cut, faults, flip, lose, other_etag, reset
from pictures import encode, mask, noise
from servers import S3Server

from defectline.components.common.errors import DefectlineError, StoreError
from defectline.components.common.snapshot import (
    Snapshot,
    pack_name,
    read_files,
    read_head,
    read_pairs,
    read_snapshot,
)
from defectline.components.common.storage import open_storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.common.storage.s3 import S3Storage
from defectline.components.ingest import packing
from defectline.components.ingest import snapshotter as taking
from defectline.components.ingest.settings import IngestSettings

SEED = 20
PAIRS = 24
OBJECTS = 2 * PAIRS
SMALL_PACK = 1500
"""Bytes: three or four pairs of the test's pictures."""
AT_ONCE = 32
"""More requests than this are never under way."""
QUARANTINE = "runs/manual/quarantine.csv"
RUN = """
import sys
from defectline.components.ingest import packing
from defectline.components.ingest.step import ingest
packing.PACK_BYTES = int(sys.argv[3])
ingest(sys.argv[1], sys.argv[2])
"""


class Lab:
    """A bucket with pairs, reached directly or through the proxy.

    Below `kept` lie the stores of runs that met no fault.
    """

    def __init__(
        self,
        server: S3Server,
        client: Any,
        bucket: str,
        proxy: Faults,
        folder: Path,
        kept: Path,
        monkeypatch: pytest.MonkeyPatch,
    ):
        self.server, self.client, self.bucket, self.proxy = server, client, bucket, proxy
        self.folder, self.kept, self.monkeypatch = folder, kept, monkeypatch
        self.source = f"s3://{bucket}/defects"
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)

    def put(self, key: str, data: bytes) -> None:
        """Those of NG get a checksum that boto3 knows; of the others the ETag alone tells the content."""
        checksum = {"ChecksumAlgorithm": "CRC32"} if key.startswith("NG") else {}
        self.client.put_object(Bucket=self.bucket, Key=f"defects/{key}", Body=data, **checksum)

    def put_parts(self, key: str, data: bytes) -> None:
        """As large files go up: the ETag is no MD5 of the content then."""
        names = {"Bucket": self.bucket, "Key": f"defects/{key}"}
        upload = self.client.create_multipart_upload(**names)["UploadId"]
        part = self.client.upload_part(**names, UploadId=upload, PartNumber=1, Body=data)
        parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
        self.client.complete_multipart_upload(**names, UploadId=upload, MultipartUpload={"Parts": parts})

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"defects/{key}")

    def put_pair(self, label: str, name: str, picture: int, size: int = 16) -> None:
        self.put(f"{label}/{name}.png", encode(noise(picture, size)))
        self.put(f"{label}_MSK/{name}.png", encode(mask(label == "NG", size)))

    def fill(self) -> None:
        """PAIRS pairs, of which one is a broken file, one a duplicate, and one went up in parts."""
        for number in range(PAIRS // 2):
            self.put_pair("OK", f"{number:02d}", number)
            self.put_pair("NG", f"{number:02d}", 100 + number)
        self.put("OK/05.png", encode(noise(5))[:-40])
        self.put("NG/08.png", encode(noise(107)))
        self.put_parts("OK/02.png", encode(noise(2)))

    def take(self, store: str | Path, url: str = "") -> Snapshot:
        """Ingest through the proxy, or from the server with this URL."""
        self.monkeypatch.setenv("AWS_ENDPOINT_URL", url or self.proxy.url)
        return taking.take_snapshot(
            open_storage(self.source), open_storage(str(store)), QUARANTINE, IngestSettings(max_rejected=0.5)
        ).snapshot

    def undisturbed(self, before: Path | None = None) -> Path:
        """The folder in which a run leaves its store that meets no fault."""
        store = self.kept / f"undisturbed-{packing.PACK_BYTES}"
        if not store.exists():
            if before:
                shutil.copytree(before, store)
            self.take(store, self.server.url)
        return store

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Everything in a bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        names = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return {
            key: timeless(key, self.client.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in names
        }


@pytest.fixture(scope="session")
def client(s3_server: S3Server) -> Any:
    """Speaks to the server itself."""
    return boto3.client(
        "s3",
        endpoint_url=s3_server.url,
        region_name="us-east-1",
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        config=Config(request_checksum_calculation="when_required"),
    )


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="session")
def shared_bucket(s3_server: S3Server) -> str:
    """Filled by the first who needs it."""
    return s3_server.new_bucket()


@pytest.fixture
def lab(
    s3_server: S3Server,
    client: Any,
    shared_bucket: str,
    tmp_path: Path,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Lab]:
    """With a source that many tests share, and none changes."""
    with faults(s3_server.url, SEED) as proxy:
        lab = Lab(s3_server, client, shared_bucket, proxy, tmp_path, kept, monkeypatch)
        if not client.list_objects_v2(Bucket=shared_bucket)["KeyCount"]:
            lab.fill()
        yield lab


@pytest.fixture
def own(s3_server: S3Server, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """With a source of its own, which may change."""
    with faults(s3_server.url, SEED) as proxy:
        own = Lab(s3_server, client, s3_server.new_bucket(), proxy, tmp_path, tmp_path / "kept", monkeypatch)
        own.fill()
        yield own


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PACK_BYTES", SMALL_PACK)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the long pauses between the attempts, and with fewer of these."""
    monkeypatch.setattr(S3Storage, "PAUSES", (0.05,) * 5)


def timeless(key: str, data: bytes) -> bytes:
    """The object, without the time of its run."""
    if not key.endswith("/snapshot.json"):
        return data
    return json.dumps({k: v for k, v in json.loads(data).items() if k != "created"}).encode()


def files(store: Path, killed: bool = False) -> dict[str, bytes]:
    """Every file in the store, half-written ones too; but for those where the run was killed."""
    found = {path.relative_to(store).as_posix(): path for path in store.rglob("*") if path.is_file()}
    # The lock of the head: nobody holds it any more.
    found.pop("snapshots/.head.json.lock", None)
    if killed:
        # Under a hidden name, which no reader takes for an object.
        found = {key: path for key, path in found.items() if not path.name.startswith(".")}
    return {key: timeless(key, path.read_bytes()) for key, path in found.items()}


def same(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """Assert byte for byte; names first, which tell more when they differ."""
    assert sorted(found) == sorted(expected)
    assert [key for key in expected if found[key] != expected[key]] == []


def whole(store: Path) -> None:
    """Assert that what a failed run left is complete in itself, and that nobody takes it for a snapshot."""
    assert read_head(FolderStorage(store)) is None
    for path in store.rglob("*"):
        assert not path.name.startswith("."), path
        if path.suffix == ".tar":
            assert pack_name(path) == path.stem
        if path.name == "index.parquet":
            assert pq.read_table(path).num_rows == PAIRS


# Faults that pass

PASSING = {
    "500": answer(500, "InternalError"),
    "503": answer(503, "ServiceUnavailable"),
    "503-slow-down": answer(503, "SlowDown"),
    "429": answer(429, "TooManyRequests"),
    "reset": reset,
    "lost": lose,
    "cut": cut(60),
    "cut-at-0": cut(0),
}
DAMAGED = {"flipped": flip(-20), "flipped-at-0": flip(0), "etag": other_etag}


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize("fault", [pytest.param(f, id=name) for name, f in (PASSING | DAMAGED).items()])
def test_a_fault_that_passes_leaves_no_trace(lab: Lab, fault: Fault):
    """The first request, or the first two, for a third of the objects."""
    rule = Rule(fault, per_key=2, share=0.3)
    lab.proxy.rules = [rule]
    lab.take(lab.folder / "store")
    assert rule.hits >= 10
    # A pair may be read again as a whole.
    assert lab.proxy.gets.total() <= OBJECTS + 2 * rule.hits
    same(files(lab.folder / "store"), files(lab.undisturbed()))


@pytest.mark.parametrize("fault", [pytest.param(f, id=name) for name, f in PASSING.items()])
def test_a_burst_of_faults(lab: Lab, fault: Fault):
    """A dozen requests on end, whatever they ask for."""
    rule = Rule(fault, key="", first=6, times=12)
    lab.proxy.rules = [rule]
    lab.take(lab.folder / "store")
    assert rule.hits == 12
    same(files(lab.folder / "store"), files(lab.undisturbed()))


@pytest.mark.parametrize("fault", [pytest.param(f, id=name) for name, f in PASSING.items()])
def test_a_listing_that_fails_is_repeated(lab: Lab, fault: Fault):
    rule = Rule(fault, key="^$", times=1)
    lab.proxy.rules = [rule]
    lab.take(lab.folder / "store")
    assert rule.hits == 1
    same(files(lab.folder / "store"), files(lab.undisturbed()))


def test_without_faults_every_object_is_read_once(lab: Lab):
    lab.take(lab.folder / "store")
    assert lab.proxy.gets.total() == len(lab.proxy.gets) == OBJECTS
    lab.proxy.requests.clear()
    lab.take(lab.folder / "store")
    assert lab.proxy.gets.total() == 0
    same(files(lab.folder / "store"), files(lab.undisturbed()))


@pytest.mark.usefixtures("small_packs")
def test_faults_while_a_second_snapshot_is_taken(own: Lab):
    before = own.folder / "before"
    own.take(before, own.server.url)
    for number in range(50, 58):
        own.put_pair("OK", f"{number:02d}", number)
    own.delete("NG/05.png")
    shutil.copytree(before, own.folder / "store")
    rules = [Rule(reset, share=0.3, per_key=2), Rule(flip(50), share=0.3, per_key=2)]
    own.proxy.rules = rules
    own.take(own.folder / "store")
    assert all(rule.hits for rule in rules)
    same(files(own.folder / "store"), files(own.undisturbed(before)))


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(answer(500, "InternalError"), id="500"),
        pytest.param(answer(503, "SlowDown"), id="503"),
        pytest.param(reset, id="reset"),
        pytest.param(lose, id="lost"),
    ],
)
def test_faults_while_the_store_is_written(lab: Lab, fault: Fault):
    """Of a store in S3, the first two writes of each object; reads go wrong as well."""
    store = lab.server.new_bucket()
    rules = [Rule(fault, "PUT|POST", share=0.6, per_key=2), Rule(fault, share=0.1, per_key=2)]
    lab.proxy.rules = rules
    lab.take(f"s3://{store}")
    assert all(rule.hits for rule in rules)
    same(lab.objects(store), files(lab.undisturbed()))


def test_faults_while_a_pack_goes_up_in_parts(own: Lab):
    for number in range(12):
        own.put_pair("OK", f"large-{number}", 500 + number, size=1000)
    store = own.server.new_bucket()
    rule = Rule(reset, "PUT", r"\.tar$", share=0.5, per_key=2)
    own.proxy.rules = [rule]
    own.take(f"s3://{store}")
    assert rule.hits
    same(own.objects(store), files(own.undisturbed()))
    assert "Uploads" not in own.client.list_multipart_uploads(Bucket=store)


# Faults that stay


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(answer(503, "SlowDown"), id="503"),
        pytest.param(cut(60), id="cut"),
    ],
)
def test_a_fault_that_stays_is_named(lab: Lab, fault: Fault):
    store = lab.folder / "store"
    lab.proxy.rules = [Rule(fault, key=r"OK/07\.png")]
    with pytest.raises(DefectlineError, match=r"OK/07\.png") as caught:
        lab.take(store)
    assert caught.value.fix
    assert 2 <= lab.proxy.gets["defects/OK/07.png"] <= 20
    whole(store)
    lab.proxy.rules = []
    lab.take(store)
    same(files(store), files(lab.undisturbed()))


@pytest.mark.parametrize("fault", [pytest.param(f, id=name) for name, f in DAMAGED.items()])
def test_damage_that_stays_costs_one_pair(lab: Lab, fault: Fault):
    """It is in the table with its reason, and in the next snapshot if it has been fixed."""
    store = lab.folder / "store"
    lab.proxy.rules = [Rule(fault, key=r"OK/07\.png")]
    found = lab.take(store)
    damaged = next(row for row in read_pairs(FolderStorage(store), found.id) if row.id == "OK/07")
    assert damaged.status == "rejected"
    assert "arrives damaged" in damaged.reason
    assert "again" in damaged.fix
    lab.proxy.rules = []
    assert lab.take(store).fingerprint == read_fingerprint(lab.undisturbed())


def read_fingerprint(store: Path) -> str:
    storage = FolderStorage(store)
    return read_snapshot(storage, read_head(storage) or "").fingerprint


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize("moment", [1, 10, OBJECTS - 3])
def test_credentials_that_expire_on_the_way(lab: Lab, moment: int):
    store = lab.folder / "store"
    lab.proxy.rules = [Rule(answer(403, "ExpiredToken"), ".*", "", first=moment)]
    with pytest.raises(StoreError, match="session token") as caught:
        lab.take(store)
    assert "Sign in again" in caught.value.fix
    # Nothing gets better by asking again: only requests that were under way follow the first refusal.
    assert len(lab.proxy.requests) <= moment + 2 * AT_ONCE
    whole(store)
    lab.proxy.rules = []
    lab.take(store)
    same(files(store), files(lab.undisturbed()))


@pytest.mark.usefixtures("small_packs")
def test_credentials_that_expire_while_a_store_in_s3_is_written(lab: Lab):
    store = lab.server.new_bucket()
    lab.proxy.rules = [Rule(answer(403, "ExpiredToken"), "PUT", r"\.tar|index", first=2)]
    with pytest.raises(StoreError, match="session token"):
        lab.take(f"s3://{store}")
    assert "snapshots/head.json" not in lab.objects(store)
    lab.proxy.rules = []
    lab.take(f"s3://{store}")
    same(lab.objects(store), files(lab.undisturbed()))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function that mounts an empty disk of some KB, or gives the mounted one another size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def resize(kilobytes: int) -> Path:
        options = f"size={kilobytes}k" + (",remount" if folder.is_mount() else "")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.decode().strip()}")
        return folder

    yield resize
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize("kilobytes", [8, 24, 36, 48])
def test_a_disk_that_is_full(lab: Lab, disk: Callable[[int], Path], kilobytes: int):
    store = disk(kilobytes) / "store"
    with pytest.raises(StoreError, match="No space left") as caught:
        lab.take(store)
    assert "space" in caught.value.fix
    whole(store)
    disk(10_000)
    lab.take(store)
    same(files(store), files(lab.undisturbed()))


# The source changes on the way


def replace(lab: Lab, key: str) -> None:
    # Another file of the same mask, so that the pair stays good.
    lab.put(key, encode(mask(False), compress_level=0) if "MSK" in key else encode(noise(777)))


CHANGES = {"replaced": replace, "deleted": Lab.delete}
UNREAD = {
    # What is changed, and which request shows that it is time.
    "image": ("OK/04.png", r"OK/04\.png"),
    "mask": ("OK_MSK/04.png", r"OK/04\.png"),
}
READ = {
    "just-now": ("OK/04.png", r"OK_MSK/04\.png"),
    "long-ago": ("NG/00.png", r"OK_MSK/11\.png"),
}


@pytest.mark.parametrize("moment", UNREAD)
@pytest.mark.parametrize("change", CHANGES)
def test_an_object_that_changes_before_it_is_read(own: Lab, change: str, moment: str):
    """The snapshot is that of the source as it is afterwards."""
    key, trigger = UNREAD[moment]
    rule = Rule(call(lambda: CHANGES[change](own, key)), key=trigger, times=1)
    own.proxy.rules = [rule]
    own.take(own.folder / "store")
    assert rule.hits == 1
    same(files(own.folder / "store"), files(own.undisturbed()))


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize("moment", READ)
@pytest.mark.parametrize("change", CHANGES)
def test_an_object_that_changes_after_it_was_read(own: Lab, change: str, moment: str):
    """The snapshot is that of the source as it was listed; the next one has the change."""
    before = own.undisturbed()
    key, trigger = READ[moment]
    rule = Rule(call(lambda: CHANGES[change](own, key)), key=trigger, times=1)
    own.proxy.rules = [rule]
    own.take(own.folder / "store")
    assert rule.hits == 1
    same(files(own.folder / "store"), files(before))
    found = own.take(own.folder / "store")
    store = FolderStorage(own.folder / "store")
    name = key.removesuffix(".png")
    row = next(row for row in read_pairs(store, found.id) if row.id == name and row.status != "absent")
    if change == "deleted":
        assert (row.status, row.reason) == ("rejected", "No image of that name.")
    else:
        ((_, image, _),) = read_files(store, [row])
        assert image == encode(noise(777))


def test_a_source_that_never_rests_is_given_up(own: Lab):
    """Replaced before each time that it is read."""
    pictures = iter(range(1000, 2000))
    own.proxy.rules = [
        Rule(call(lambda: own.put("OK/04.png", encode(noise(next(pictures))))), key=r"OK/04\.png")
    ]
    with pytest.raises(DefectlineError) as caught:
        own.take(own.folder / "store")
    assert caught.value.fix
    whole(own.folder / "store")


# Killed


def keys_in(packs: list[Path], members: dict[str, str]) -> set[str]:
    return {members[name] for pack in packs for name in tarfile.open(pack).getnames()}


def killed(lab: Lab, store: str | Path, rule: Rule, once: Callable[[], bool] = lambda: True) -> None:
    """Ingest in a process of its own, which is killed by the request that the rule names.

    That request is held up until `once` holds, for half a minute at most.
    """
    lab.monkeypatch.setenv("AWS_ENDPOINT_URL", lab.proxy.url)
    command = [sys.executable, "-c", RUN, lab.source, store, str(SMALL_PACK)]
    lab.proxy.rules = [rule]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL) as process:

        def kill() -> None:
            for _ in range(300):
                if once():
                    break
                time.sleep(0.1)
            process.kill()

        rule.fault = call(kill)
    assert process.returncode == -9
    lab.proxy.rules = []


@pytest.mark.slow
@pytest.mark.usefixtures("small_packs")
def test_an_ingest_killed_at_ten_moments(lab: Lab):
    """kill -9, then a normal run: the same store, and what was in a pack by then is not read again."""
    undisturbed = lab.undisturbed()
    rows = read_pairs(FolderStorage(undisturbed), read_head(FolderStorage(undisturbed)) or "")
    members = {
        row.member(kind): f"defects/{key}"
        for row in rows
        for kind, key in (("image", row.image_key), ("mask", row.mask_key))
    }
    expected = files(undisturbed)
    for moment in [*random.Random(SEED).sample(range(2, OBJECTS), 9), OBJECTS + 1]:
        store = lab.folder / str(moment)
        lab.proxy.requests.clear()
        # By the last request there is something to go on from.
        least = 2 if moment > OBJECTS else 0
        rule = Rule(call(lambda: None), ".*", "", first=moment, times=1)
        killed(lab, store, rule, lambda: len(list(store.rglob("packs/[!.]*.tar"))) >= least)  # noqa: B023
        packs = sorted(store.rglob("packs/*.tar"), key=lambda path: path.stat().st_mtime_ns)
        # Of the newest, the journal may not know yet.
        packed = keys_in(packs[:-1], members)
        first = lab.proxy.gets.total()
        lab.proxy.requests.clear()
        lab.take(store)
        same(files(store, killed=True), expected)
        assert not packed & set(lab.proxy.gets), moment
        assert first + lab.proxy.gets.total() <= moment + AT_ONCE + OBJECTS - len(packed)
        assert len(packed) >= least


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize("moment", [2, 4, 6])
def test_an_ingest_into_s3_killed_while_it_writes(lab: Lab, moment: int):
    store = lab.server.new_bucket()
    killed(lab, f"s3://{store}", Rule(call(lambda: None), "PUT", "", first=moment, times=1))
    lab.take(f"s3://{store}")
    same(lab.objects(store), files(lab.undisturbed()))


# Names


def test_keys_that_no_file_can_have(own: Lab):
    """They are rejected by name, or belong to no class; of twins that differ in case both are kept."""
    odd = ["OK/../escape.png", "OK/a\x01.png", "OK/tab\tstop.png", "OK/back\\slash.png"]
    elsewhere = ["/OK/absolute.png", "../OK/up.png"]
    for key in odd + elsewhere:
        own.put(key, encode(noise(900)))
    own.put_pair("OK", "/etc/passwd", 901)
    odd.append("OK//etc/passwd.png")
    own.put_pair("OK", "part", 902)
    own.put_pair("OK", "PART", 903)
    own.proxy.rules = [Rule(reset, share=0.3, per_key=2)]
    store = own.folder / "deep/er/store"
    snapshot = own.take(store)
    rows = {row.id: row for row in read_pairs(FolderStorage(store), snapshot.id)}
    assert {rows[key].status for key in odd} == {"rejected"}
    assert all(rows[key].fix for key in odd)
    assert not any("absolute" in key or "up.png" in key for key in rows)
    assert (rows["OK/part"].status, rows["OK/PART"].status) == ("accepted", "accepted")
    assert "empty part" in rows["OK//etc/passwd.png"].reason
    assert {path.name for path in own.folder.rglob("*.*")} >= {"head.json"}
    assert not [path for path in own.folder.rglob("*") if path.is_file() and store not in path.parents]
    same(files(store), files(own.undisturbed()))


# Many keys

MANY = 100_000
LIST = """
import re, sys
from pathlib import Path
from defectline.components.common.storage import open_storage
from defectline.components.ingest.labels.records import find_labels
from defectline.components.ingest.readers.base import Listing
from defectline.components.ingest.roi import part_regions
from defectline.components.ingest.settings import IngestSettings

def anonymous_mb(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000

source = open_storage(sys.argv[1])
next(source.list())  # boto3 and its tables are not what is measured
before = anonymous_mb("RssAnon")
regions, objects = part_regions(source.list_all())
found = find_labels(Listing(source, objects), IngestSettings(), regions).layout
print(len(found.records), len(found.rejected), anonymous_mb("RssAnon") - before)
"""


KEYS = [
    f"{folder}/camera-1/2024-05-01/{number:06d}_{folder[:2]}.png"
    for folder in ("NG", "NG_MSK", "OK", "OK_MSK")
    for number in range(MANY // 4)
]


class Listing(BaseHTTPRequestHandler):
    """ListObjectsV2 over MANY keys that exist in name only, a thousand a page."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        query = {name: value for name, [value] in parse_qs(urlsplit(self.path).query).items()}
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        after = query.get("continuation-token") or query.get("start-after", "")
        keys = (key for key in KEYS[bisect_right(KEYS, after) :] if key.startswith(prefix))
        out = io.StringIO()
        out.write("<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>")
        if delimiter:
            folders = {key[: key.find(delimiter, len(prefix)) + 1] for key in keys}
            more, page = False, []
            for name in sorted(folders):
                out.write(f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>")
        else:
            page = list(islice(keys, 1000))
            more = next(keys, None) is not None
        out.write(f"<IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{len(page)}</KeyCount>")
        if more:
            out.write(f"<NextContinuationToken>{page[-1]}</NextContinuationToken>")
        for key in page:
            etag = f"{zlib.crc32(key.encode()):032x}"
            out.write(f"<Contents><Key>{key}</Key><Size>50000</Size><ETag>&quot;{etag}&quot;</ETag>")
            out.write("<LastModified>2024-05-01T00:00:00.000Z</LastModified></Contents>")
        out.write("</ListBucketResult>")
        body = out.getvalue().encode()
        self.send_response_only(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def listing() -> Iterator[str]:
    """URL of a server with MANY keys."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listing)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_many_keys_are_paired_in_little_memory(listing: str, s3_server: S3Server):
    """A listing that fails at times, of 100,000 keys: a kilobyte and a half for each at most."""
    with faults(listing, SEED) as proxy:
        rule = Rule(answer(503, "SlowDown"), key="", first=20, times=2)
        proxy.rules = [rule]
        env = os.environ | s3_server.env | {"AWS_ENDPOINT_URL": proxy.url}
        done = subprocess.run(
            [sys.executable, "-c", LIST, "s3://many"], capture_output=True, text=True, env=env, timeout=300
        )
    assert done.returncode == 0, done.stderr
    pairs, rejected, megabytes = done.stdout.split()
    assert (int(pairs), int(rejected), rule.hits) == (MANY // 2, 0, 2)
    assert float(megabytes) < 150
