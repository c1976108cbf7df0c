"""Keys, and a store in which signed versions follow one another."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from networks import Judged, judge_model, run_evaluate

from defectline.components.common.bundle import Bundle
from defectline.components.common.storage import Storage, checksums, open_storage
from defectline.components.common.trust.keys import SIGN_KEY_ENV, SigningKey, new_key
from defectline.components.deploy.step import deploy
from defectline.components.evaluate.sealing import sign_bundle


class Signed(NamedTuple):
    store: Storage
    folder: Path
    """Of everything, with plates.key and plates.pub in keys/."""
    key: SigningKey
    bundles: list[Bundle]
    """The first was deployed first; the last is the champion."""

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def public(self) -> Path:
        return self.keys / "plates.pub"

    @property
    def version(self) -> str:
        return self.bundles[-1].version

    def copied(self, folder: Path) -> "Signed":
        """The same in the new `folder`, to spoil."""
        shutil.copytree(self.folder, folder)
        return self._replace(folder=folder, store=open_storage(str(folder / "one" / "store")))


def write_keys(folder: Path, name: str) -> SigningKey:
    """A pair of keys as `keygen` leaves it."""
    folder.mkdir(exist_ok=True)
    key = new_key(name)
    (folder / f"{name}.key").write_bytes(key.pem)
    (folder / f"{name}.pub").write_bytes(key.public.pem)
    return key


def asking(folder: Path, target: Path, approval: str, key: SigningKey | None = None) -> Path:
    """A copy of a sealed bundle that asks for people to approve it, signed where there is a key."""
    left = shutil.ignore_patterns(checksums.PROVENANCE, checksums.SIGNATURE, "served.sig")
    shutil.copytree(folder, target, ignore=left)
    content = json.loads((target / "bundle.json").read_text())
    (target / "bundle.json").write_text(json.dumps(content | {"approval": approval}))
    checksums.seal(target)
    if key:
        sign_bundle(target, key)
    return target


def make_signed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, versions: int = 2, sign_with: str = ""
) -> Signed:
    """A store with so many versions that were signed and deployed one after the other; with plates.key, or
    as the environment variable would have it."""
    folder.mkdir(exist_ok=True)
    key = write_keys(folder / "keys", "plates")
    monkeypatch.setenv(SIGN_KEY_ENV, sign_with or str(folder / "keys" / "plates.key"))
    judged: Judged = judge_model(folder / "one")
    bundles = [judged.bundle]
    deploy(judged.folder, str(judged.store), {}, "one")
    for number in range(2, versions + 1):
        run, champion = f"run{number}", bundles[-1].version
        bundle, _ = run_evaluate(
            judged, folder / run, run, cut=40.0 + number, champion=champion, replace="not_worse"
        )
        deploy(folder / run / "bundle", str(judged.store), {}, run)
        bundles.append(bundle)
    return Signed(open_storage(str(judged.store)), folder, key, bundles)
