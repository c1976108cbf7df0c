"""What every storage can do."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from defectline.components.common.errors import Conflict, SourceError, StoreError


class Object(NamedTuple):
    """One stored object.

    `version` changes whenever the content does: an ETag (S3), a generation (GCS), or the times of the
    content and of the inode, and the size (folders).
    """

    key: str
    size: int
    version: str
    modified: str = ""
    """When it was written, in ISO 8601, UTC."""


class Storage(ABC):
    """Objects under one root URI, addressed by key: a relative path with forward slashes.

    Every method raises StoreError for what the user can fix: no such bucket, no rights, a host that
    does not answer, a full disk. `read`, `download` and `delete` raise KeyError for a missing key.
    """

    uri: str

    @abstractmethod
    def list_all(self, prefix: str = "") -> Iterator[Object]:
        """Every object whose key starts with `prefix`, in no given order.

        A folder on this machine whose name is `hidden` is not opened: it is one object with a slash at the
        end of its key. A missing folder or bucket raises StoreError; an empty one yields nothing.
        """

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Those of `list_all` that are not `hidden`."""
        return (found for found in self.list_all(prefix) if not hidden(found.key))

    @abstractmethod
    def read(self, key: str, version: str = "") -> bytes:
        """The content of an object, checked against length and checksum where the server states one.

        With the `version` of a listing: of that version alone; KeyError where the object has another one
        by now. Raises Corrupt where content and checksum do not fit.
        """

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Write an object whole or not at all."""

    @abstractmethod
    def download(self, key: str, path: Path) -> None: ...

    @abstractmethod
    def upload(self, path: Path, key: str) -> None:
        """Store the file `path` as `key`, whole or not at all."""

    @abstractmethod
    def delete(self, key: str) -> None: ...

    @abstractmethod
    def read_versioned(self, key: str) -> tuple[bytes, str] | None:
        """Content and version for `compare_and_swap`, or None where the key is missing."""

    @abstractmethod
    def compare_and_swap(self, key: str, data: bytes, version: str | None) -> None:
        """Write `key` if it still has `version` (None: if it does not exist).

        Raises Conflict where another process was faster; the object is then as that left it.
        """

    def incomplete_uploads(self) -> Iterator[Object]:
        """What writes that were cut off have left, for `abort_upload`; such objects are in no listing.

        Those of writes under way are among them: `modified` tells. Nothing where the server clears up itself.
        """
        return iter(())

    def abort_upload(self, left: Object) -> None:
        """Remove what `incomplete_uploads` found; nothing where it is gone already."""
        raise NotImplementedError

    def fetch(self, key: str, path: Path) -> Path:
        """The object as a file that is only read: where it lies on this machine, else downloaded to `path`.

        Raises KeyError for a missing key.
        """
        self.download(key, path)
        return path

    def url(self, key: str) -> str:
        """The full URI of a key."""
        return f"{self.uri.rstrip('/')}/{key}"

    def exists(self, key: str) -> bool:
        return any(found.key == key for found in self.list(key))

    def delete_below(self, prefix: str) -> None:
        """Delete all whose key begins so. What another process deletes meanwhile counts as done."""
        for found in [*self.list(prefix)]:
            with suppress(KeyError):
                self.delete(found.key)

    def upload_folder(self, folder: Path, prefix: str) -> None:
        """Store every file under `folder` below `prefix` ("": at the root), in sorted order."""
        root = as_folder(prefix)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            self.upload(path, root + path.relative_to(folder).as_posix())

    def download_folder(self, prefix: str, folder: Path) -> None:
        """Fetch every object below `prefix` ("": all) into `folder`."""
        root = as_folder(prefix)
        for found in self.list(root):
            target = folder / check_key(found.key.removeprefix(root))
            target.parent.mkdir(parents=True, exist_ok=True)
            self.download(found.key, target)


def as_folder(prefix: str) -> str:
    """The prefix with one slash at its end; empty for the root."""
    name = prefix.strip("/")
    return f"{name}/" if name else ""


SYSTEM_NAMES = (
    *("Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information"),
    *("Icon\r", "lost+found", "~snapshot"),
    *("@eaDir", "@tmp", "@Recycle", "@Recently-Snapshot", "#recycle", "#snapshot"),
)
"""What Windows, macOS, Linux and network drives put into folders. Some may not be opened, and the snapshots
of a drive hold copies of all that lies there."""
_SYSTEM = frozenset(name.lower() for name in SYSTEM_NAMES)


def hidden(key: str) -> bool:
    """Whether a key is never data.

    That is a dotfile such as `.DS_Store`, one of SYSTEM_NAMES in any case, anything in a folder with such a
    name, and the empty object with a slash at its end that web consoles put in place of a folder.
    """
    parts = key.split("/")
    return not parts[-1] or any(map(hidden_name, parts))


def hidden_name(name: str) -> bool:
    """Whether a file or folder of this name is `hidden`."""
    return (name[:1] == "." and name not in (".", "..")) or name.lower() in _SYSTEM


def conflict(uri: str) -> Conflict:
    """What `compare_and_swap` raises when it lost."""
    return Conflict(
        f"{uri} was changed by another process in the meantime.",
        got="other content than was read before",
        expected="no other process that writes it",
        fix="Look at what is there now, then start again.",
    )


_SECRET = r"(?i)\b([\w-]*(?:signature|token|secret|password|credential|accesskey|apikey|access_key)[\w-]*)"


def redact(text: object, secrets: Iterable[str] = ()) -> str:
    """The text of an error for people: one line, without keys, passwords, signatures and queries of URLs.

    `secrets` are left out wherever they stand.
    """
    line = str(text)
    for secret in filter(None, secrets):
        # Errors about bytes show them as Python would write them.
        for written in (secret, repr(secret)[1:-1]):
            line = line.replace(written, "…")
    line = " ".join(line.split())
    line = re.sub(r"://[^/\s]*@", "://", line)
    line = re.sub(r"(://[^\s?\"']*)\?[^\s\"':]*", r"\1", line)
    # Python and requests show the value of a header that they cannot send, such as a whole signature.
    line = re.sub(r"(?i)(header value)\b.*", r"\1 of a key or token", line)
    line = re.sub(r"(?i)(aws4-hmac-sha256|bearer)\s.*", r"\1 …", line)
    return re.sub(_SECRET + r"\s*=\s*[^\s&,;]+", r"\1=…", line)[:300]


@contextmanager
def local_file(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a file outside the storage into a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} on this machine cannot be used.",
            got=error.strerror or str(error),
            expected="a path that this user may use, on a disk with free space",
            fix="Check the path, its rights and the free space of its disk.",
        ) from error


ODD_KEY = re.compile(r"[\x00-\x1f\\]|(^|/)\.{0,2}(/|$)")
"""A control character, a backslash, or a part that is empty, `.` or `..`."""


def check_key(key: str) -> str:
    """The key itself, if it stays inside whatever folder it is put into; else SourceError."""
    if ODD_KEY.search(key):
        raise SourceError(
            "An object's key cannot be used as a file name.",
            got=repr(key),
            expected="a relative path without empty parts, . and .., backslashes or control characters",
            fix="Rename or remove the object.",
        )
    return key
