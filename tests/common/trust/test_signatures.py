"""Signatures over folders: by our own check, and by OpenSSF's tool."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import make_bundle
from signed import write_keys

from defectline.components.common.errors import BundleError
from defectline.components.common.storage import checksums
from defectline.components.common.trust.keys import new_key
from defectline.components.common.trust.signatures import check_if_asked, check_signature, sign, signer_of


@pytest.fixture
def key(tmp_path):
    return write_keys(tmp_path / "keys", "plates")


@pytest.fixture
def folder(tmp_path, key) -> Path:
    make_bundle(tmp_path / "bundle")
    sign(tmp_path / "bundle", key)
    return tmp_path / "bundle"


def test_who_signed_it(folder, key):
    other = new_key("other").public
    assert check_signature(folder, [other, key.public]) == key.public
    assert signer_of(folder) == key.public.fingerprint
    # The seal does not mind.
    checksums.verify(folder)


def test_the_tool_of_openssf_verifies_it(folder, tmp_path):
    (folder / checksums.PROVENANCE).write_text("{}")
    tool = [str(Path(sys.executable).with_name("model_signing")), "verify", "key", str(folder)]
    tool += ["--signature", str(folder / "model.sig"), "--public_key", str(tmp_path / "keys" / "plates.pub")]
    tool += ["--ignore-paths", str(folder / checksums.PROVENANCE)]
    done = subprocess.run(tool, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "bundle.json").write_text("{}")
    assert subprocess.run(tool, capture_output=True, timeout=120, check=False).returncode != 0


def test_nobody_asks_where_no_key_is_named(tmp_path):
    make_bundle(tmp_path / "bundle")
    assert check_if_asked(tmp_path / "bundle") is None


def _spoil(folder: Path, how: str) -> None:
    file = folder / "openvino/model.bin"
    if how == "changed":
        file.write_bytes(file.read_bytes() + b"x")
    elif how == "resealed":
        file.write_bytes(file.read_bytes() + b"x")
        checksums.seal(folder)
    elif how == "gone":
        file.unlink()
    elif how == "more":
        (folder / "more.txt").write_text("x")
    elif how == "link":
        outside = folder.parent / "model.bin"
        shutil.move(file, outside)
        file.symlink_to(outside)
    elif how == "cut":
        content = (folder / "model.sig").read_bytes()
        (folder / "model.sig").write_bytes(content[: len(content) // 2])
    elif how == "emptied":
        content = json.loads((folder / "model.sig").read_text())
        content["dsseEnvelope"]["signatures"] = []
        (folder / "model.sig").write_text(json.dumps(content))
    elif how == "rewritten":
        content = json.loads((folder / "model.sig").read_text())
        content["dsseEnvelope"]["payload"] = "e30="
        (folder / "model.sig").write_text(json.dumps(content))
    elif how == "hint":
        (folder / "model.sig").write_text('{"verificationMaterial": {"publicKey": {"hint": 3}}}')
    elif how == "list":
        (folder / "model.sig").write_text("[]")


@pytest.mark.parametrize(
    "how",
    ["changed", "resealed", "gone", "more", "link", "cut", "emptied", "rewritten", "hint", "list"],
)
def test_whatever_is_spoilt_is_found(folder, key, how):
    _spoil(folder, how)
    with pytest.raises(BundleError, match="is not what was signed"):
        check_signature(folder, [key.public])


def test_which_file_is_named(folder, key):
    _spoil(folder, "changed")
    with pytest.raises(BundleError) as caught:
        check_signature(folder, [key.public], "s3://bucket/bundle")
    assert caught.value.got == "another openvino/model.bin"
    assert caught.value.what.startswith("s3://bucket/bundle ")


def test_no_signature_and_one_of_somebody_else(folder, key):
    with pytest.raises(BundleError, match="signed with a key that is not trusted"):
        check_signature(folder, [new_key("other").public])
    (folder / "model.sig").unlink()
    with pytest.raises(BundleError, match="is not signed"):
        check_signature(folder, [key.public])
    assert signer_of(folder) == ""


def test_the_signature_of_another_folder(folder, key, tmp_path):
    make_bundle(tmp_path / "other", seed=1)
    shutil.copyfile(folder / "model.sig", tmp_path / "other" / "model.sig")
    with pytest.raises(BundleError, match="is not what was signed"):
        check_signature(tmp_path / "other", [key.public])


def test_a_signature_claims_a_key_that_did_not_make_it(folder, key):
    """The hint says who is meant; the key decides."""
    other = new_key("other")
    content = json.loads((folder / "model.sig").read_text())
    content["verificationMaterial"]["publicKey"]["hint"] = other.public.fingerprint
    (folder / "model.sig").write_text(json.dumps(content))
    with pytest.raises(BundleError, match="is not what was signed"):
        check_signature(folder, [other.public, key.public])
