"""Google Cloud Storage."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Blob, Bucket, Client
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import exceptions as http
from requests.adapters import HTTPAdapter

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

THREADS = 32
CHUNK_BYTES = 8 << 20
BYTES = "application/octet-stream"
WRITER = "defectline-writer"

# Else the library asks about each bucket in a thread of its own, for traces that are not wanted here. Against
# a host that is gone it goes on for minutes, drawing its pauses from the `random` that seeds a network.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


class GCSStorage(Storage):
    """Objects of one bucket below `prefix`; safe to use from up to 32 threads at once.

    Credentials are Google's application default ones: GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth
    application-default login`, or the identity of the machine or pod. DEFECTLINE_GCS_ANONYMOUS=1 sends none,
    for public buckets. DEFECTLINE_GCS_USER_PROJECT names the project that pays where the requester pays.
    STORAGE_EMULATOR_HOST (`http://host:port`) names another server, without credentials.

    A host that does not answer is given up after about 30 seconds. Once it has answered, and in the steps of
    a run on a cluster, which nothing else tries again, a fault may last a minute at least.
    """

    CONNECT_SECONDS = 5.0
    READ_SECONDS = 15.0
    SEND_SECONDS = 30.0
    """For 8 MiB, the largest piece that is sent at once: urllib3 sends it under the connect timeout."""
    RETRY_SECONDS = 15.0
    LATER_SECONDS = 120.0
    """For the repetitions of one request, before and after the server has answered for the first time."""

    def __init__(self, bucket: str, prefix: str):
        self.bucket = bucket
        self.root = as_folder(prefix)
        self.uri = f"gs://{bucket}/{self.root}".rstrip("/")
        self._lock = threading.Lock()
        self._made: Client | None = None
        self._answered = RUN_ENV in os.environ

    def list_all(self, prefix: str = "") -> Iterator[Object]:
        with self._explained("listed"):
            fields = "items(name,size,generation,updated),nextPageToken"
            for blob in self._client.list_blobs(
                self._bucket, prefix=self.root + prefix, fields=fields, **self._patience
            ):
                self._answered = True
                key = blob.name.removeprefix(self.root)
                # The property would parse every date of a listing.
                yield Object(key, blob.size, str(blob.generation), blob._properties["updated"])

    def read(self, key: str, version: str = "") -> bytes:
        with self._explained("read", key):
            return self._blob(key, int(version) if version else None).download_as_bytes(**self._patience)

    def write(self, key: str, data: bytes) -> None:
        with self._explained("written", key):
            self._blob(key).upload_from_string(data, BYTES, **self._sending)

    def download(self, key: str, path: Path) -> None:
        with local_file(path), self._explained("read", key):
            self._blob(key).download_to_filename(str(path), **self._patience)

    def upload(self, path: Path, key: str) -> None:
        with local_file(path), path.open("rb") as file, self._explained("written", key):
            size = path.stat().st_size
            self._blob(key).upload_from_file(file, size=size, content_type=BYTES, **self._sending)

    def delete(self, key: str) -> None:
        with self._explained("deleted", key):
            self._blob(key).delete(**self._patience)

    def read_versioned(self, key: str) -> tuple[bytes, str] | None:
        try:
            with self._explained("read", key):
                blob = self._blob(key)
                blob.reload(**self._patience)
                generation = blob.generation
        except KeyError:
            return None
        try:
            with self._explained("read", key):
                data = self._blob(key, generation).download_as_bytes(**self._patience)
        except KeyError:
            # Another process replaced or deleted that generation in between.
            return self.read_versioned(key)
        return data, str(generation)

    def compare_and_swap(self, key: str, data: bytes, version: str | None) -> None:
        with self._explained("written", key):
            blob, writer = self._blob(key), uuid4().hex
            blob.metadata = {WRITER: writer}
            try:
                blob.upload_from_string(data, BYTES, if_generation_match=int(version or 0), **self._sending)
            except api.PreconditionFailed as error:
                # After a lost answer the library tries again, and then meets what its first attempt wrote.
                if not self._wrote(key, writer):
                    raise conflict(self.url(key)) from error

    def _wrote(self, key: str, writer: str) -> bool:
        blob = self._bucket.get_blob(self.root + key, **self._patience)
        return blob is not None and (blob.metadata or {}).get(WRITER) == writer

    def _blob(self, key: str, generation: int | None = None) -> Blob:
        return self._bucket.blob(self.root + key, generation=generation)

    @property
    def _patience(self) -> dict[str, Any]:
        """How long a request waits (connect, read; seconds), and how it is tried again."""
        seconds = self.LATER_SECONDS if self._answered else self.RETRY_SECONDS
        retry = DEFAULT_RETRY.with_delay(initial=0.5, maximum=4.0).with_timeout(seconds)
        return {"timeout": (self.CONNECT_SECONDS, self.READ_SECONDS), "retry": retry}

    @property
    def _sending(self) -> dict[str, Any]:
        return self._patience | {"timeout": (self.SEND_SECONDS, self.READ_SECONDS)}

    @property
    def _bucket(self) -> Bucket:
        try:
            payer = os.environ.get("DEFECTLINE_GCS_USER_PROJECT", "").strip() or None
            return self._client.bucket(self.bucket, user_project=payer)
        except ValueError as error:
            raise StoreError(
                f"{self.uri} cannot be reached.",
                got=f"the bucket's name {self.bucket}",
                expected=str(error),
                fix="Correct the bucket's name.",
            ) from error

    @property
    def _client(self) -> Client:
        with self._lock:
            if self._made is None:
                self._made = self._connect()
            return self._made

    def _connect(self) -> Client:
        anonymous = flag("DEFECTLINE_GCS_ANONYMOUS")
        # Reading and writing objects needs no project; without one the library would search for it.
        client = Client(project=None, credentials=AnonymousCredentials() if anonymous else None)
        # The library has no setting for the size of its connection pool.
        client._http.mount(client.api_endpoint, HTTPAdapter(pool_maxsize=THREADS))
        return client

    @contextmanager
    def _explained(self, verb: str, key: str = "") -> Iterator[None]:
        """Turn what the library says into a StoreError, and a missing key into KeyError."""
        try:
            yield
            self._answered = True
        except FAILURES as error:
            if isinstance(error, api.NotFound) and verb in ("read", "deleted"):
                # The answer does not say whether the object or its bucket is missing. Listing does.
                next(self.list(key), None)
                raise KeyError(key) from error
            cause = error.cause if isinstance(error, api.RetryError) and error.cause else error
            expected, fix = _remedy(cause)
            endpoint = self._made.api_endpoint if self._made else "no connection yet"
            withheld = (
                verb == "read"
                and key
                and (isinstance(cause, api.Forbidden) or CUSTOMER_KEY.search(str(cause)))
            )
            kind = Corrupt if isinstance(cause, DataCorruption) else Unreadable if withheld else StoreError
            raise kind(
                f"{self.url(key) if key else self.uri} cannot be {verb}.",
                got=f"{redact(_reason(cause))} ({redact(endpoint)})",
                expected=expected,
                fix=fix,
            ) from error


FAILURES = (
    api.GoogleAPIError,
    auth.GoogleAuthError,
    DataCorruption,
    http.RequestException,
    ConnectionError,
    TimeoutError,
)
CREDENTIALS = (
    "Google credentials that are valid",
    "Set GOOGLE_APPLICATION_CREDENTIALS to a key file, run `gcloud auth application-default login`, or set "
    "DEFECTLINE_GCS_ANONYMOUS=1 for a public bucket.",
)
BUSY = ("an answer without an error of the server", "Try again later.")
HOST = (
    "an answer of Google Cloud Storage",
    "Check the network, the proxy and STORAGE_EMULATOR_HOST (http://host:port).",
)
CUSTOMER_KEY = re.compile(
    r"customer.supplied.encryption|customerEncryption|encrypted with a customer", re.IGNORECASE
)
BY_MESSAGE = [
    (
        re.compile("requester pays|UserProjectMissing", re.IGNORECASE),
        ("a project that pays for the requests", "Set DEFECTLINE_GCS_USER_PROJECT to a project of yours."),
    ),
    (
        CUSTOMER_KEY,
        (
            "an object that the server can decrypt by itself",
            "Store the object again without an encryption key of your own.",
        ),
    ),
    (
        re.compile("KMS"),
        (
            "a Cloud KMS key that is enabled, and that the service agent of Cloud Storage may use",
            "Enable the key, give the agent the role CryptoKey Encrypter/Decrypter, or store the objects "
            "again under another key.",
        ),
    ),
]
REMEDIES: list[tuple[type[Exception], tuple[str, str]]] = [
    (auth.TransportError, HOST),
    (auth.GoogleAuthError, CREDENTIALS),
    (api.Unauthorized, CREDENTIALS),
    (
        api.Forbidden,
        (
            "an account that may list, read, write and delete here",
            "Give it the role Storage Object Admin on the bucket, or use another account.",
        ),
    ),
    (api.NotFound, ("a bucket that exists", "Check the bucket's name, or create the bucket.")),
    (api.TooManyRequests, BUSY),
    (api.ServerError, BUSY),
    (DataCorruption, ("content that fits its checksum", "Try again; if it lasts, store the object again.")),
    (
        http.SSLError,
        ("a certificate that this machine trusts", "Set REQUESTS_CA_BUNDLE to the server's CA file."),
    ),
]


def _reason(error: Exception) -> object:
    """What lies behind the wrapping of requests and urllib3: refused, name not known, certificate."""
    return getattr(error.args[0], "reason", error) if error.args else error


def _remedy(error: Exception) -> tuple[str, str]:
    """What was expected, and how to fix it."""
    by_message = next((remedy for pattern, remedy in BY_MESSAGE if pattern.search(str(error))), None)
    if by_message and isinstance(error, api.ClientError):
        return by_message
    return next((remedy for kind, remedy in REMEDIES if isinstance(error, kind)), HOST)
