"""Where bundles come from: a folder, or the champion of a store."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from defectline.components.common.bundle import read_bundle
from defectline.components.common.errors import BundleError, SettingsError
from defectline.components.common.layout import model_folder
from defectline.components.common.records import read_champion, read_gate
from defectline.components.common.storage import checksums, open_storage
from defectline.components.common.storage.folder import FolderStorage


class Source(Protocol):
    """Where bundles come from."""

    def state(self) -> str:
        """Changes when there may be another bundle; cheap."""
        ...

    def fetch(self) -> Path:
        """The folder of the bundle that should be served. Raises DefectlineError."""
        ...


class Folder:
    """A `Source`: the bundle in one folder, whichever is there when asked."""

    def __init__(self, folder: Path):
        self.folder = folder

    def state(self) -> str:
        try:
            return hashlib.sha256((self.folder / checksums.NAME).read_bytes()).hexdigest()
        except OSError:
            return ""

    def fetch(self) -> Path:
        return self.folder


def fetch_champion(store: str, name: str) -> tuple[Path, str]:
    """Folder and version of the champion's bundle, checked; fetched first where the store is remote, into
    the user's cache folder.

    Raises SettingsError where there is no champion yet, BundleError where it is not what was sealed.
    """
    storage = open_storage(store)
    current = read_champion(storage, name)
    if current is None:
        refused = read_gate(storage, name)
        raise SettingsError(
            f"There is no model {name} to serve.",
            got=f"no champion in {storage.uri}"
            + (f"; the gate refused the model of run {refused.run}" if refused else ""),
            expected="a model that passed the gate",
            fix="`defectline report` says why it was refused and what helps."
            if refused
            else "Run the pipeline first with `defectline run`, or correct --store and --name.",
        )
    prefix = model_folder(name, current.version)
    if isinstance(storage, FolderStorage):
        folder = storage.root / prefix
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "defectline")
        cache.mkdir(parents=True, exist_ok=True)
        folder = cache / current.version
        with FileLock(cache / f".{current.version}.lock"):
            if not _whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                storage.download_folder(prefix, folder)
    read_bundle(folder)
    return folder, current.version


class Champion:
    """A `Source`: the champion `name` of `store`, whichever it is when asked."""

    def __init__(self, store: str, name: str):
        self.store, self.name = store, name

    def state(self) -> str:
        """The champion's version. Raises StoreError."""
        current = read_champion(open_storage(self.store), self.name)
        return current.version if current else ""

    def fetch(self) -> Path:
        """Its bundle, as `fetch_champion` does."""
        return fetch_champion(self.store, self.name)[0]


def _whole(folder: Path) -> bool:
    try:
        read_bundle(folder)
    except BundleError:
        return False
    return True
