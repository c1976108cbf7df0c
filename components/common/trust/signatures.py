"""Signatures over a whole folder, in the form of OpenSSF's model-signing 1.0, which its own tool verifies:

    model_signing verify key FOLDER --signature FOLDER/model.sig --public_key plates.pub --ignore-paths …

model.sig is a Sigstore bundle with a DSSE envelope. It lists every file with its SHA-256.
"""

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from defectline.components.common.errors import BundleError
from defectline.components.common.files import replaced
from defectline.components.common.storage.checksums import ATTACHED, SIGNATURE
from defectline.components.common.trust.keys import PublicKey, SigningKey, read_trust

FIX = "Deploy a bundle that a trusted key signed, or trust the key that signed this one with --trust."


def sign(folder: Path, key: SigningKey) -> None:
    """Write model.sig over all files below `folder` but those that are attached to it."""
    from model_signing import signing

    with tempfile.TemporaryDirectory() as temporary:
        # The library takes files alone.
        file, signature = Path(temporary, "key"), Path(temporary, SIGNATURE)
        file.touch(0o600)
        file.write_bytes(key.pem)
        config = signing.Config().use_elliptic_key_signer(private_key=file)
        config.set_hashing_config(_hashing(folder)).sign(folder, signature)
        with replaced(folder / SIGNATURE) as partial:
            partial.write_bytes(signature.read_bytes())


def check_if_asked(folder: Path, places: Sequence[str] = (), origin: str = "") -> PublicKey | None:
    """The key that signed `folder`; None, unseen, where neither `places` nor the environment name keys.

    Raises SettingsError as `read_trust`, BundleError as `check_signature`.
    """
    trusted = read_trust(places)
    return check_signature(folder, trusted, origin) if trusted else None


def check_signature(folder: Path, trusted: Sequence[PublicKey], origin: str = "") -> PublicKey:
    """The key that signed `folder` as it is now.

    Raises BundleError where it is not signed, by none of the `trusted`, or holds other files than were
    signed; the error names `origin` where the folder was fetched from there.
    """
    from model_signing import verifying

    where, file = origin or str(folder), folder / SIGNATURE
    names = ", ".join(map(str, trusted))
    try:
        hint = _hint(file)
    except FileNotFoundError:
        raise BundleError(
            f"{where} is not signed.",
            got=f"no {SIGNATURE} in it",
            expected=f"a signature by {names}",
            fix=FIX,
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise _unlike(where, f"a {SIGNATURE} that is not a signature") from None
    key = next((one for one in trusted if one.fingerprint == hint), None)
    if key is None:
        raise BundleError(
            f"{where} is signed with a key that is not trusted.",
            got=f"the key {hint[:12]}…",
            expected=names,
            fix=FIX,
        )
    with tempfile.TemporaryDirectory() as temporary:
        public = Path(temporary, "key.pub")
        public.write_bytes(key.pem)
        config = verifying.Config().use_elliptic_key_verifier(public_key=public)
        try:
            config.set_hashing_config(_hashing(folder)).verify(folder, file)
        except Exception as error:  # whatever a forged file makes the library raise
            raise _unlike(where, _told(error)) from None
    return key


def signer_of(folder: Path) -> str:
    """The fingerprint of the key that `folder` says it was signed with, unchecked; "" where it says none."""
    try:
        return _hint(folder / SIGNATURE)
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _hint(file: Path) -> str:
    """The fingerprint of the key that a signature says it was made with."""
    hint = json.loads(file.read_bytes())["verificationMaterial"]["publicKey"]["hint"]
    if not isinstance(hint, str):
        raise TypeError
    return hint


def _hashing(folder: Path) -> Any:
    from model_signing import hashing

    ignored = [folder / name for name in ATTACHED]
    return hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


def _told(error: Exception) -> str:
    """What the library says, without the digests that it prints as bytes."""
    said = " ".join(str(error).split())
    found = re.findall(r"(Hash mismatch for '[^']*'|(?:Extra|Missing) files[^\]\"]*)", said)
    return "; ".join(found) or said[:300] or "a signature that the key did not make"


def _unlike(where: str, got: str) -> BundleError:
    return BundleError(
        f"{where} is not what was signed.",
        got=got,
        expected="the files that its signature lists, and no others",
        fix="Deploy it again from the run that made it; never edit it by hand.",
    )
