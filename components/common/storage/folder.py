"""A folder on this machine, or on a volume that is mounted here."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from defectline.components.common.errors import StoreError, Unreadable
from defectline.components.common.files import PARTIAL, replaced
from defectline.components.common.storage.base import (
    Object,
    Storage,
    check_key,
    conflict,
    hidden,
    hidden_name,
    local_file,
)

COPY_BYTES = 1 << 20
UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO)
"""What the operating system says of one file, while others may be read."""


class FolderStorage(Storage):
    """The files below the folder `root`; it is made by the first write."""

    def __init__(self, root: Path):
        self.root = Path(os.path.abspath(root))
        self.uri = self.root.as_uri()

    def list_all(self, prefix: str = "") -> Iterator[Object]:
        # Only the part of the tree that can hold the prefix is walked.
        folder, slash, _ = prefix.rpartition("/")
        start = self.root / folder
        with _explained(self.root, "read"):
            if not self.root.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(self.root))
            if any(map(hidden_name, folder.split("/"))) or not start.is_dir():
                return
            around = frozenset(
                _identity(path.stat()) for path in start.parents if path.is_relative_to(self.root)
            )
            found = list(_walk(start, folder + slash, prefix, around))
        yield from found

    def exists(self, key: str) -> bool:
        with _explained(self.root, "read"):
            if not self.root.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(self.root))
            return not hidden(key) and (self.root / check_key(key)).is_file()

    def url(self, key: str) -> str:
        return (self.root / key).as_uri()

    def read(self, key: str, version: str = "") -> bytes:
        with _explained(self.root, "read", key), (self.root / check_key(key)).open("rb") as file:
            data = file.read()
            # Afterwards: what is being written while it is read has another time or size by then.
            if version and version != _version(os.fstat(file.fileno())):
                raise KeyError(key)
            return data

    def write(self, key: str, data: bytes) -> None:
        with self._replaced(key) as path:
            path.write_bytes(data)

    def download(self, key: str, path: Path) -> None:
        with _explained(self.root, "read", key):
            source = (self.root / check_key(key)).open("rb")
        with source, local_file(path), path.open("wb") as target:
            shutil.copyfileobj(source, target, COPY_BYTES)

    def fetch(self, key: str, path: Path) -> Path:
        source = self.root / check_key(key)
        with _explained(self.root, "read", key), source.open("rb"):
            return source

    def upload(self, path: Path, key: str) -> None:
        with local_file(path):
            source = path.open("rb")
        with source, self._replaced(key) as partial, partial.open("wb") as target:
            shutil.copyfileobj(source, target, COPY_BYTES)

    def delete(self, key: str) -> None:
        with _explained(self.root, "write", key):
            (self.root / check_key(key)).unlink()

    def read_versioned(self, key: str) -> tuple[bytes, str] | None:
        try:
            data = self.read(key)
        except KeyError:
            return None
        return data, data.hex()

    def compare_and_swap(self, key: str, data: bytes, version: str | None) -> None:
        target = self.root / check_key(key)
        with _explained(self.root, "write", key):
            target.parent.mkdir(parents=True, exist_ok=True)
            # The kernel drops the lock with the process that held it.
            with FileLock(target.parent / f".{target.name}.lock"):
                current = self.read_versioned(key)
                if (current and current[1]) != version:
                    raise conflict(str(target))
                self.write(key, data)

    def incomplete_uploads(self) -> Iterator[Object]:
        with _explained(self.root, "read"):
            found = []
            for folder, folders, files in os.walk(self.root, onerror=_raise):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for path in (Path(folder, name) for name in files if PARTIAL.fullmatch(name)):
                    # A write that ends meanwhile takes its file away.
                    with suppress(FileNotFoundError):
                        about = path.stat()
                        key = path.relative_to(self.root).as_posix()
                        found.append(Object(key, about.st_size, _version(about), _modified(about)))
        yield from found

    def abort_upload(self, left: Object) -> None:
        with _explained(self.root, "write", left.key):
            (self.root / left.key).unlink(missing_ok=True)

    @contextmanager
    def _replaced(self, key: str) -> Iterator[Path]:
        """A temporary path that becomes `key` by one rename when the block ends well."""
        target = self.root / check_key(key)
        with _explained(self.root, "write", key):
            target.parent.mkdir(parents=True, exist_ok=True)
            with replaced(target) as path:
                yield path


def _walk(folder: Path, root: str, prefix: str, around: frozenset[tuple[int, int]]) -> Iterator[Object]:
    """The objects of a folder, whose keys start with `root`; `around` are the folders that it lies in."""
    around |= {_identity(folder.stat())}
    with os.scandir(folder) as entries:
        for entry in entries:
            key = root + entry.name
            if not key.startswith(prefix):
                continue
            if hidden_name(entry.name):
                yield Object(f"{key}/" if entry.is_dir(follow_symlinks=False) else key, 0, "")
            elif (about := _about(entry)) is None:
                continue
            elif stat.S_ISDIR(about.st_mode):
                # A link to a folder that it lies in would lead to the same files without end.
                if _identity(about) not in around:
                    yield from _walk(Path(entry.path), f"{key}/", prefix, around)
            # Opening a named pipe would wait without end.
            elif stat.S_ISREG(about.st_mode):
                yield Object(key, about.st_size, _version(about), _modified(about))


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def _about(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Of a file or folder, or of what a link leads to; None where it was deleted meanwhile."""
    try:
        return entry.stat()
    except OSError as error:
        if entry.is_symlink() and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise _dangling(Path(entry.path)) from None
        if isinstance(error, FileNotFoundError):
            return None
        raise


def _version(found: os.stat_result) -> str:
    # Pictures of one camera all have one size, and unpacked archives one time: the inode's own time tells
    # when one was renamed over another.
    return f"{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_size}"


def _modified(found: os.stat_result) -> str:
    return datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="milliseconds")


def _dangling(link: Path) -> StoreError:
    return StoreError(
        f"{link} cannot be read.",
        got=f"a link to {os.readlink(link)}, which leads to no file",
        expected="a file",
        fix="Remove the link, or put the file in place.",
    )


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def _explained(root: Path, verb: str, key: str = "") -> Iterator[None]:
    """Turn what the operating system says into a StoreError, and a missing file into KeyError."""
    try:
        yield
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        # A folder in place of the key, or a file in place of one of its folders: no object of that name.
        shadowed = verb == "read" and isinstance(error, IsADirectoryError | NotADirectoryError)
        if key and (gone or (shadowed and root.is_dir())):
            raise KeyError(key) from error
        # Reading from an open file names none.
        path = Path(error.filename) if error.filename else root / key
        if not root.is_dir():
            where = "it is a file" if root.exists() else "no such folder"
            raise StoreError(
                f"{root} cannot be {'read' if verb == 'read' else 'written'}.",
                got=where if verb == "read" else f"{where} ({error.strerror})",
                expected="a folder" if verb == "read" else "a folder that this user may write to",
                fix="Check the path for a typing error, or choose another folder.",
            ) from error
        fixes = {
            errno.ENOSPC: "Free some space, or choose a folder on another disk.",
            errno.EDQUOT: "Free some space, or ask for a larger quota.",
        }
        if verb == "read" and key and error.errno in UNREADABLE:
            raise Unreadable(
                f"{path} cannot be read.",
                got=error.strerror or str(error),
                expected="a file that this user may read, on a disk that is whole",
                fix="Change the rights of the file and of its folder, or copy it here again.",
            ) from error
        raise StoreError(
            f"{path} cannot be {'read' if verb == 'read' else 'written'}.",
            got=error.strerror or str(error),
            expected="room on the disk" if error.errno in fixes else f"a folder that this user may {verb}",
            fix=fixes.get(error.errno or 0, f"Change the rights of {path.parent}, or choose another folder."),
        ) from error
