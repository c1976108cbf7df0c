"""Signatures over a whole folder, in the form of OpenSSF's model-signing 1.0, whose own tool verifies them:

    model_signing verify key FOLDER --signature FOLDER/model.sig --public_key plates.pub --ignore-paths …

model.sig is a Sigstore bundle with a DSSE envelope, which lists every file with its SHA-256. It is made by
that library, and checked by the lines below: an endpoint need not hold the library and what it brings along.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from defectline.components.common.errors import BundleError
from defectline.components.common.files import replaced
from defectline.components.common.storage.checksums import ATTACHED, SIGNATURE, digests
from defectline.components.common.trust.envelopes import is_signed_by, payload_of
from defectline.components.common.trust.identities import Identity, claimed
from defectline.components.common.trust.keyless import Keyless, prove
from defectline.components.common.trust.keys import Signer, Trusted, new_key, read_trust

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
FIX = "Deploy a bundle that a trusted key signed, or trust who signed this one with --trust."


def sign(folder: Path, key: Signer) -> None:
    """Write model.sig over all files below `folder` but those that are attached to it."""
    # Imports slowly, and few have a key.
    from model_signing import hashing, signing

    # The library's own way to Sigstore asks for a certificate each time: it lists the files for a key that
    # is thrown away, and the list is then signed.
    listing = new_key("listing") if isinstance(key, Keyless) else key
    ignored = [folder / name for name in ATTACHED]
    with tempfile.TemporaryDirectory() as temporary:
        # The library takes files alone.
        file, signature = Path(temporary, "key"), Path(temporary, SIGNATURE)
        file.touch(0o600)
        file.write_bytes(listing.pem)
        config = signing.Config().use_elliptic_key_signer(private_key=file)
        config.set_hashing_config(hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False))
        config.sign(folder, signature)
        with replaced(folder / SIGNATURE) as partial:
            data = signature.read_bytes()
            if isinstance(key, Keyless):
                data = key.sign(payload_of(json.loads(data)["dsseEnvelope"]))
            partial.write_bytes(data)


def check_if_asked(folder: Path, places: Sequence[str] = (), origin: str = "") -> Trusted | None:
    """Who signed `folder`; None, unseen, where neither `places` nor the environment name anybody.

    Raises SettingsError as `read_trust`, BundleError as `check_signature`.
    """
    trusted = read_trust(places)
    return check_signature(folder, trusted, origin) if trusted else None


def check_signature(
    folder: Path, trusted: Sequence[Trusted], origin: str = "", found: Mapping[str, str] | None = None
) -> Trusted:
    """The key or identity that signed `folder` as it is now, or as its `digests` were that were `found`.

    Raises BundleError where it is not signed, by none of the `trusted`, or holds other files than were
    signed; the error names `origin` where the folder was fetched from there.
    """
    where = origin or str(folder)
    names = ", ".join(map(str, trusted))
    try:
        data = (folder / SIGNATURE).read_bytes()
        content = json.loads(data)
        hint, envelope = _hint(content), content["dsseEnvelope"]
        key = next((one for one in trusted if one.fingerprint == hint), None)
        payload, genuine = payload_of(envelope), False
        if isinstance(key, Identity):
            # What was proved is read, and not what another reader of JSON may find in it.
            payload, genuine = prove(data, key, where), True
        elif key:
            genuine = is_signed_by(envelope, key)
        listed, identity = _listed(json.loads(payload)), claimed(content)
    except FileNotFoundError:
        raise BundleError(
            f"{where} is not signed.",
            got=f"no {SIGNATURE} in it",
            expected=f"a signature by {names}",
            fix=FIX,
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise _unlike(where, f"a {SIGNATURE} that cannot be read as one") from None
    if key is None:
        raise BundleError(
            f"{where} is signed {'by an identity' if identity else 'with a key'} that is not trusted.",
            got=str(identity or f"the key {hint[:12]}…"),
            expected=names,
            fix=FIX,
        )
    if not genuine:
        raise _unlike(where, f"a {SIGNATURE} that the key {key} did not make")
    if wrong := _differs(folder, listed, digests(folder) if found is None else found):
        raise _unlike(where, wrong)
    return key


def signer_of(folder: Path) -> str:
    """The fingerprint of who signed `folder`, as it says, unchecked; "" where it says nobody."""
    try:
        return _hint(json.loads((folder / SIGNATURE).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def _hint(content: Any) -> str:
    """The fingerprint of who a signature says made it."""
    if identity := claimed(content):
        return identity.fingerprint
    hint = content["verificationMaterial"]["publicKey"]["hint"]
    if not isinstance(hint, str):
        raise TypeError
    return hint


def _listed(statement: Any) -> dict[str, str]:
    """The files that a signature lists, with their SHA-256."""
    found = statement["predicate"]["resources"]
    listed = {one["name"]: one["digest"] for one in found if one["algorithm"] == "sha256"}
    if statement["predicateType"] != PREDICATE_TYPE or len(listed) != len(found):
        raise ValueError
    return listed


def _differs(folder: Path, listed: Mapping[str, str], found: Mapping[str, str]) -> str:
    """The first file that is not what was signed, or ""."""
    for name in sorted(found.keys() | listed.keys()):
        if name not in listed:
            return f"{name}, which was not signed"
        # A link may lead anywhere, and elsewhere later.
        if name not in found or (folder / name).is_symlink():
            return f"no file {name}"
        if found[name] != listed[name]:
            return f"another {name}"
    return ""


def _unlike(where: str, got: str) -> BundleError:
    return BundleError(
        f"{where} is not what was signed.",
        got=got,
        expected="the files that its signature lists, and no others",
        fix="Deploy it again from the run that made it; never edit it by hand.",
    )
