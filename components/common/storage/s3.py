"""S3, and every server that speaks its protocol: MinIO, Ceph, Swift and others."""

import hashlib
import io
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from botocore import exceptions as boto

from defectline.components.common.errors import Corrupt, StoreError, Unreadable
from defectline.components.common.reporting.pod import RUN_ENV
from defectline.components.common.storage.base import (
    Object,
    Storage,
    as_folder,
    conflict,
    local_file,
    redact,
)
from defectline.components.common.storage.flags import flag
from defectline.components.common.storage.s3_client import S3Client, odd_variables
from defectline.components.common.storage.s3_errors import (
    ENDPOINT,
    FAILURES,
    answered_by,
    code,
    passes,
    remedy,
    status,
    withheld,
)
from defectline.components.common.storage.s3_listing import list_pages

THREADS = 32
PART_BYTES = 8 << 20
"""Larger files go up and down in parts, several at once."""
WRITER = "defectline-writer"
MD5 = re.compile("[0-9a-f]{32}(-1)?")

T = TypeVar("T")


class S3Storage(Storage):
    """Objects of one bucket, or access point, below `prefix`; safe to use from up to 32 threads at once.

    The environment holds the settings. botocore reads its own, among them AWS_ENDPOINT_URL_S3 or
    AWS_ENDPOINT_URL for a server other than Amazon's, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    AWS_SESSION_TOKEN, AWS_PROFILE, AWS_CA_BUNDLE, and AWS_REQUEST_CHECKSUM_CALCULATION=when_required for
    servers that do not know the newer checksums. In addition:

    - AWS_REGION: the region; without it AWS_DEFAULT_REGION, the profile's, or us-east-1.
    - DEFECTLINE_S3_PATH_STYLE: 1 puts the bucket into the path, 0 into the host name. Without it, into the
      path whenever an endpoint URL is set.
    - DEFECTLINE_S3_ANONYMOUS: 1 sends no credentials, for public buckets.
    - DEFECTLINE_S3_REQUESTER_PAYS: 1 agrees to pay for requests, where the bucket asks that of its users.
    - DEFECTLINE_S3_ETAG_MD5: 0 where ETags look like MD5 checksums and are not.

    A host that takes no connection is given up after about 20 seconds, one that does not answer after about
    50. Once it has answered, and in the steps of a run on a cluster, which nothing else tries again, a fault
    may last a minute at least. `compare_and_swap` needs a server that knows conditional writes.
    """

    CONNECT_SECONDS = 5.0
    READ_SECONDS = 15.0
    ATTEMPTS = 3
    """In quick succession, by botocore."""
    PAUSES = (0.2, 1.0, 3.0, 8.0, 15.0, 30.0, 35.0, 40.0)
    """Seconds between further rounds of attempts, each of them shortened by up to a half."""
    OUTAGE_SECONDS = 120.0
    """After these there is no further round."""
    PAGE_KEYS = 1000
    """Of a listing, at once: no server gives more."""

    def __init__(self, bucket: str, prefix: str):
        self.bucket = bucket
        self.root = as_folder(prefix)
        self.uri = f"s3://{bucket}/{self.root}".rstrip("/")
        self._lock = threading.Lock()
        self._made: S3Client | None = None
        self._answered = RUN_ENV in os.environ
        # Not the generator that seeds a network.
        self._random = random.Random()

    def list_all(self, prefix: str = "") -> Iterator[Object]:
        with self._explained("listed"):
            for page in list_pages(self._list_page, self.root + prefix):
                for found in page:
                    key = found["Key"].removeprefix(self.root)
                    yield Object(key, found["Size"], found["ETag"].strip('"'), found["LastModified"])

    def _list_page(self, prefix: str, **more: str) -> dict[str, Any]:
        return self._patiently(partial(self._list_page_once, prefix, **more))

    def _list_page_once(self, prefix: str, **more: str) -> dict[str, Any]:
        page = self._client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=self.PAGE_KEYS, **more)
        self._answered = True
        if "IsTruncated" not in page:
            # botocore takes an answer without any content for an empty listing.
            raise boto.IncompleteReadError(actual_bytes=0, expected_bytes=1)
        return page

    def read(self, key: str, version: str = "") -> bytes:
        return self._get(key, version)[0]

    def write(self, key: str, data: bytes) -> None:
        with self._explained("written", key):
            self._patiently(lambda: self._put(key, data))

    def download(self, key: str, path: Path) -> None:
        def fetch() -> None:
            try:
                self._transfer("download", self.root + key, path)
            except boto.ClientError as error:
                if not code(error).isdigit():
                    raise
                # The transfer begins with HEAD, whose answer has no body that says what is wrong.
                self._client.get_object(Bucket=self.bucket, Key=self.root + key)["Body"].close()
                raise

        with local_file(path), self._explained("read", key):
            self._patiently(fetch)

    def upload(self, path: Path, key: str) -> None:
        def send() -> None:
            if path.stat().st_size > PART_BYTES:
                self._transfer("upload", self.root + key, path)
            else:
                with path.open("rb") as file:
                    self._client.put_object(Bucket=self.bucket, Key=self.root + key, Body=file)

        with local_file(path), self._explained("written", key):
            self._patiently(send)

    def _transfer(self, which: str, key: str, path: Path) -> None:
        """Upload or download a file in parts; what it says at its end is one of boto's own errors."""
        # Importing it takes a tenth of a second, and many steps move no large file.
        from s3transfer.exceptions import RetriesExceededError
        from s3transfer.manager import TransferConfig, TransferManager

        try:
            with TransferManager(self._client, TransferConfig(max_request_concurrency=4)) as manager:
                if which == "upload":
                    manager.upload(str(path), self.bucket, key).result()
                else:
                    manager.download(self.bucket, key, str(path)).result()
        except RetriesExceededError as error:
            raise error.last_exception from error

    def delete(self, key: str) -> None:
        # S3 itself says nothing when the key is missing.
        if not self.exists(key):
            raise KeyError(key)
        with self._explained("deleted", key):
            self._patiently(partial(self._client.delete_object, Bucket=self.bucket, Key=self.root + key))

    def read_versioned(self, key: str) -> tuple[bytes, str] | None:
        try:
            return self._get(key)
        except KeyError:
            return None

    def compare_and_swap(self, key: str, data: bytes, version: str | None) -> None:
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": f'"{version}"'}
        writer = uuid4().hex
        with self._explained("written", key):
            try:
                self._patiently(lambda: self._put(key, data, Metadata={WRITER: writer}, **condition))
            except boto.ClientError as error:
                if status(error) not in (409, 412) and code(error) != "NoSuchKey":
                    raise
                # After a lost answer the next attempt meets what the one before it wrote.
                if self._patiently(partial(self._written_by, key)) != writer:
                    raise conflict(self.url(key)) from error

    def _written_by(self, key: str) -> str:
        """Which `compare_and_swap` wrote an object; empty where none did, or it is missing."""
        try:
            found = self._client.head_object(Bucket=self.bucket, Key=self.root + key)
        except boto.ClientError as error:
            if status(error) != 404:
                raise
            return ""
        return found["Metadata"].get(WRITER, "")

    def incomplete_uploads(self) -> Iterator[Object]:
        after: dict[str, str] = {}
        more = True
        while more:
            with self._explained("listed"):
                page = self._patiently(partial(self._uploads_page, after))
            for found in page.get("Uploads", []):
                key = found["Key"].removeprefix(self.root)
                yield Object(key, 0, found["UploadId"], found["Initiated"])
            more = page.get("IsTruncated", False)
            after = {
                "KeyMarker": page.get("NextKeyMarker", ""),
                "UploadIdMarker": page.get("NextUploadIdMarker", ""),
            }

    def _uploads_page(self, after: dict[str, str]) -> dict[str, Any]:
        return self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.root, **after)

    def abort_upload(self, left: Object) -> None:
        with self._explained("deleted", left.key):
            try:
                names = {"Bucket": self.bucket, "Key": self.root + left.key, "UploadId": left.version}
                self._patiently(partial(self._client.abort_multipart_upload, **names))
            except boto.ClientError as error:
                if code(error) != "NoSuchUpload":
                    raise

    def _put(self, key: str, data: bytes, **more: Any) -> None:
        # A stream is sent in small blocks, each with its own time limit; bytes would share a single one.
        self._client.put_object(Bucket=self.bucket, Key=self.root + key, Body=io.BytesIO(data), **more)

    def _get(self, key: str, version: str = "") -> tuple[bytes, str]:
        """Content and ETag."""
        with self._explained("read", key):
            data, etag = self._patiently(lambda: self._get_once(key))
        # Compared here, and not by If-Match, which not every server heeds.
        if version and etag != version:
            raise KeyError(key)
        return data, etag

    def _get_once(self, key: str) -> tuple[bytes, str]:
        answer = self._client.get_object(Bucket=self.bucket, Key=self.root + key)
        self._answered = True
        try:
            with closing(answer["Body"]) as body:
                data = body.read()
        except boto.FlexibleChecksumError as error:
            raise self._corrupt(key, "the checksum that the server states") from error
        etag = answer["ETag"].strip('"')
        if _is_md5(etag, answer) and _md5(data, etag) != etag:
            raise self._corrupt(key, f"its ETag, the MD5 checksum {etag}")
        return data, etag

    def _corrupt(self, key: str, checksum: str) -> Corrupt:
        return Corrupt(
            f"{self.url(key)} arrives damaged.",
            got="bytes with another checksum",
            expected=checksum,
            fix="Store the object again. If no object fits its ETag, set DEFECTLINE_S3_ETAG_MD5=0: the "
            "server's ETags are not checksums then.",
        )

    def _patiently(self, request: Callable[[], T]) -> T:
        """The request's answer. botocore repeats what fails at once; this bridges what lasts longer.

        It also repeats a body that breaks off, which botocore does not. A server that has never answered is
        not waited for: that is rather a wrong address.
        """
        deadline = time.monotonic() + self.OUTAGE_SECONDS
        for pause in self.PAUSES:
            try:
                done = request()
                self._answered = True
                return done
            except (boto.ClientError, boto.BotoCoreError, Corrupt) as error:
                waits = self._answered or isinstance(error, boto.ClientError)
                if not (waits and passes(error)) or time.monotonic() >= deadline:
                    raise
                time.sleep(pause * self._random.uniform(0.5, 1))
        return request()

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._connect()
            return self._made.boto

    def _connect(self) -> S3Client:
        try:
            return S3Client(self.CONNECT_SECONDS, self.READ_SECONDS, self.ATTEMPTS, THREADS)
        except ValueError as error:
            raise StoreError(
                f"{self.uri} cannot be reached.",
                got=redact(error),
                expected=ENDPOINT[0],
                fix=" ".join([*odd_variables(), ENDPOINT[1]]),
            ) from error

    @contextmanager
    def _explained(self, verb: str, key: str = "") -> Iterator[None]:
        """Turn what botocore says into a StoreError, and a missing key into KeyError."""
        try:
            yield
        except FAILURES as error:
            if isinstance(error, boto.ClientError) and code(error) == "NoSuchKey":
                raise KeyError(key) from error
            expected, fix = remedy(error)
            endpoint = self._made.endpoint if self._made else "no connection yet"
            odd = odd_variables() + (self._made.oddities() if self._made else [])
            kind = Unreadable if verb == "read" and key and withheld(error) else StoreError
            raise kind(
                f"{self.url(key) if key else self.uri} cannot be {verb}.",
                got=f"{redact(error, self._made.secrets() if self._made else ())} "
                f"({redact(endpoint)}{answered_by(error)})",
                expected=expected,
                fix=" ".join([*odd, fix]) if not passes(error) else fix,
            ) from error


def _is_md5(etag: str, answer: dict[str, Any]) -> bool:
    """Whether an ETag can be computed from the content.

    Not for uploads in several parts, whose size is not known, nor under keys of a KMS or customer.
    """
    encrypted = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    told_otherwise = flag("DEFECTLINE_S3_ETAG_MD5") is False
    return not (encrypted or told_otherwise) and MD5.fullmatch(etag) is not None


def _md5(data: bytes, etag: str) -> str:
    """What the ETag of this content is, of the same kind as `etag`: whole, or uploaded as a single part."""
    digest = hashlib.md5(data, usedforsecurity=False)
    if not etag.endswith("-1"):
        return digest.hexdigest()
    return hashlib.md5(digest.digest(), usedforsecurity=False).hexdigest() + "-1"
