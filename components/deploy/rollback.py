"""Serve an earlier version again, by the same way and with the same checks as a new one."""

import tempfile
from pathlib import Path

from defectline.components.common import checksums, layout
from defectline.components.common.bundle import Bundle, read_bundle
from defectline.components.common.errors import BundleError, ServingError
from defectline.components.common.records import read_champion
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage, open_storage
from defectline.components.deploy.local import deploy_local

RUN = "rollback"
"""Stands where the champion's run does."""


def roll_back(store: str, name: str, namespace: str = "", to: str = "", poll_s: float = 2.0) -> str:
    """Serve the version `to`, or with "" the one before the champion; return the version that serves then.

    Without a namespace this is the champion of this machine. The gate is not asked again. Going back twice
    leads to where one was. Raises DefectlineError, with the champion still serving, where there is no such
    version, its bundle is gone or changed, or it does not answer as sealed.
    """
    storage = open_storage(store)
    if namespace:
        from defectline.components.deploy.kserve.rollout import deploy_kserve, settings_of

        settings, version = settings_of(storage, name, namespace, to)
        with tempfile.TemporaryDirectory() as temporary:
            bundle = _fetch(storage, name, version, Path(temporary))
            deploy_kserve(Path(temporary), bundle, storage, name, settings, poll_s)
        return version
    version = to or _before(storage, name)
    with tempfile.TemporaryDirectory() as temporary:
        bundle = _fetch(storage, name, version, Path(temporary))
        deploy_local(Path(temporary), bundle, storage, name, RUN)
    say(f"{name}: {version} is the champion")
    return version


def _before(storage: Storage, name: str) -> str:
    current = read_champion(storage, name)
    if current is None or not current.previous:
        raise ServingError(
            f"{name} has no version to go back to.",
            got=f"nothing before {current.version}" if current else "no champion",
            expected="two versions that were deployed",
            fix="Name one with --to; `defectline models` lists them."
            if current
            else "Correct --store or --name.",
        )
    return current.previous


def _fetch(storage: Storage, name: str, version: str, folder: Path) -> Bundle:
    """Fetch the bundle of `version` into the empty `folder`, checked."""
    prefix = layout.model_folder(name, version)
    if not storage.exists(f"{prefix}/{checksums.NAME}"):
        there = sorted(
            found.key.split("/")[2]
            for found in storage.list(f"{layout.MODELS}{name}/")
            if found.key.endswith(f"/{checksums.NAME}")
        )
        raise BundleError(
            f"There is no bundle {version} of {name}.",
            got=f"nothing whole in {storage.url(prefix)}",
            expected=f"one of {', '.join(there)}" if there else "bundles of that name in the store",
            fix="Name one with --to, or correct --store or --name.",
        )
    storage.download_folder(prefix, folder)
    return read_bundle(folder)
