"""Where bundles come from: a folder, or the champion of a store."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from defectline.components.common.bundle import Bundle, read_bundle, read_description
from defectline.components.common.errors import BundleError, SettingsError
from defectline.components.common.layout import AUDIT, model_folder
from defectline.components.common.records import ChampionRecord, read_champion, read_gate, read_waiting
from defectline.components.common.reporting.audit import last_deployed
from defectline.components.common.storage import Storage, checksums, open_storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.common.trust.approvals import check_approved, how_to_approve
from defectline.components.common.trust.keys import read_trust
from defectline.components.common.trust.signatures import check_if_asked


class Source(Protocol):
    """Where bundles come from."""

    def state(self) -> str:
        """Changes when there may be another bundle; cheap."""
        ...

    def fetch(self) -> Path:
        """The folder of the bundle that should be served. Raises DefectlineError."""
        ...

    def trusts(self, signer: str) -> bool:
        """Whether a bundle that this key signed, by its fingerprint, may be served."""
        ...


def seal_of(folder: Path) -> str:
    """SHA-256 of the list of files of the bundle in `folder`; "" where there is none."""
    try:
        return hashlib.sha256((folder / checksums.NAME).read_bytes()).hexdigest()
    except OSError:
        return ""


def _whom(places: Sequence[str]) -> str:
    """Changes with the keys that are trusted, and where they cannot be read; "" where nobody asks."""
    try:
        keys = read_trust(places)
    except SettingsError as error:
        return f" {error.what}"
    return "".join(f" {one}" for one in sorted(key.fingerprint for key in keys))


def _is_trusted(signer: str, places: Sequence[str]) -> bool:
    """Also where nobody asks, and where the keys cannot be read: then nobody took this one away."""
    try:
        keys = read_trust(places)
    except SettingsError:
        return True
    return not keys or signer in {key.fingerprint for key in keys}


class Folder:
    """A `Source`: the bundle in one folder, whichever is there when asked.

    `trust` are files and folders of public keys, one of which must have signed it; read again each time, so
    that keys can be changed. `version` is the only one that may be there, "" for any.
    """

    def __init__(self, folder: Path, trust: Sequence[str] = (), version: str = ""):
        self.folder, self.trust, self.version = folder, trust, version

    def state(self) -> str:
        return seal_of(self.folder) + _whom(self.trust)

    def trusts(self, signer: str) -> bool:
        return _is_trusted(signer, self.trust)

    def fetch(self) -> Path:
        check_if_asked(self.folder, self.trust)
        if self.version and (found := read_description(self.folder).version) != self.version:
            raise BundleError(
                f"{self.folder} holds another version than is to be served.",
                got=found,
                expected=self.version,
                fix="Find out who put it there; then deploy the version again.",
            )
        return self.folder


def fetch_champion(store: str, name: str, trust: Sequence[str] = ()) -> tuple[Path, str]:
    """Folder and version of the champion's bundle, checked; fetched first where the store is remote, into
    the user's cache folder.

    Raises SettingsError where there is no champion yet, BundleError where it is not what was sealed. Where
    `trust`, or else the environment, names public keys, also where none of them signed it, where it is a
    model of another name, where the store's log does not say that this version was deployed last, and where
    people had to approve it and did not.
    """
    storage = open_storage(store)
    current = read_champion(storage, name)
    if current is None:
        if waiting := read_waiting(storage, name):
            command = how_to_approve(storage.uri, name, waiting.version, bool(read_trust(trust)))
            raise SettingsError(
                f"There is no model {name} to serve.",
                got=f"no champion in {storage.uri}; {waiting.version} waits for approval",
                expected="a model that passed the gate and was approved",
                fix=f"Look at `defectline report`, then `{command}`.",
            )
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
    bundle = read_bundle(folder)
    if check_if_asked(folder, trust, storage.url(prefix)):
        _check_put_there(storage, name, current, bundle)
        check_approved(storage, name, folder, bundle, read_trust(trust))
    return folder, current.version


def _check_put_there(storage: Storage, name: str, current: ChampionRecord, bundle: Bundle) -> None:
    """Raise BundleError where a signed bundle is not the one that was deployed last: an old one put back."""
    said = last_deployed(storage, name)
    if (bundle.name, bundle.version, said) == (name, current.version, current.version):
        return
    raise BundleError(
        f"The champion of {name} is not the version that was deployed last.",
        got=f"{bundle.name} {bundle.version}",
        expected=f"{name} {said}, the last that {storage.url(AUDIT)} tells of"
        if said
        else f"a line about it in {storage.url(AUDIT)}",
        fix="Find out who changed it; `defectline rollback --to VERSION` says what shall serve.",
    )


class Champion:
    """A `Source`: the champion `name` of `store`, whichever it is when asked; `trust` as for a Folder."""

    def __init__(self, store: str, name: str, trust: Sequence[str] = ()):
        self.store, self.name, self.trust = store, name, trust

    def state(self) -> str:
        """The champion's version, and who is trusted. Raises StoreError."""
        current = read_champion(open_storage(self.store), self.name)
        return (current.version if current else "") + _whom(self.trust)

    def trusts(self, signer: str) -> bool:
        return _is_trusted(signer, self.trust)

    def fetch(self) -> Path:
        """Its bundle, as `fetch_champion` does."""
        return fetch_champion(self.store, self.name, self.trust)[0]


def _whole(folder: Path) -> bool:
    try:
        read_bundle(folder)
    except BundleError:
        return False
    return True
