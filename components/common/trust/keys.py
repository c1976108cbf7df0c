"""Keys: who signs, and whose signatures count. ECDSA on P-256, P-384 or P-521, in PEM."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from defectline.components.common.errors import SettingsError
from defectline.components.common.trust.identities import ENDING, Identity, read_identity
from defectline.components.common.trust.keyless import WORD, Keyless

SIGN_KEY_ENV = "DEFECTLINE_SIGN_KEY"
"""A private key: its file, the PEM itself, or the word sigstore."""
PASSWORD_ENV = "DEFECTLINE_SIGN_KEY_PASSWORD"
TRUST_ENV = "DEFECTLINE_TRUST"
"""Files and folders of public keys and identities, with : between them."""
PUBLIC = (".pub", ".pem")
"""How files of public keys in a folder end."""
LONGEST_SHOWN = 100
"""Letters of the name of a private key's file that an error shows; a key itself is longer."""
CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
MAKE_ONE = "`defectline keygen FILE` makes a pair."


class PublicKey(NamedTuple):
    name: str
    """That of its file, without the ending."""
    pem: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the PEM in hex, which signatures name their key by."""
        return hashlib.sha256(self.pem).hexdigest()

    @property
    def crypto(self) -> ec.EllipticCurvePublicKey:
        key = serialization.load_pem_public_key(self.pem)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return key

    @property
    def told(self) -> str:
        return f"with the key {self}"

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint[:12]}…)"


class SigningKey(NamedTuple):
    name: str
    crypto: ec.EllipticCurvePrivateKey

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.name, _public_pem(self.crypto.public_key()))

    @property
    def pem(self) -> bytes:
        """Without a password: for nobody's eyes."""
        return self.crypto.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def __repr__(self) -> str:
        # Whatever prints a traceback or a log must not print the key.
        return f"SigningKey({self.public})"


Signer = SigningKey | Keyless
Trusted = PublicKey | Identity


def new_key(name: str) -> SigningKey:
    return SigningKey(name, ec.generate_private_key(ec.SECP256R1()))


def signing_key() -> Signer | None:
    """The key that the environment names, or None. Raises SettingsError as `read_signer`."""
    where = os.environ.get(SIGN_KEY_ENV, "")
    return read_signer(where) if where else None


def read_signer(where: str) -> Signer:
    """The private key as `read_signing_key` finds it, or for the word sigstore whom a token names. Raises
    SettingsError where either cannot be used now."""
    return Keyless() if where == WORD else read_signing_key(where)


def read_signing_key(where: str) -> SigningKey:
    """The private key in a file, or that `where` is itself; its password is in the environment, if it has
    one. Raises SettingsError where there is none, the password is wrong, or it is of another kind."""
    inline = where.lstrip().startswith("-----BEGIN")
    # An error shows neither the key nor what a wrong variable may hold: a key that lost its first line.
    shown = len(where) <= LONGEST_SHOWN and where.isprintable() and "PRIVATE" not in where
    origin = f"the environment variable {SIGN_KEY_ENV}" if inline else where if shown else "what was named"
    data = where.encode() if inline else _read(where, "private key", origin)
    password = os.environ.get(PASSWORD_ENV, "").encode() or None
    try:
        key = serialization.load_pem_private_key(data, password)
    except TypeError:
        raise SettingsError(
            f"The private key in {origin} cannot be opened.",
            got="a password, but the key has none" if password else "no password, but the key has one",
            expected=f"{PASSWORD_ENV} set just where the key has a password",
            fix=f"Unset {PASSWORD_ENV}." if password else f"Set {PASSWORD_ENV}.",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(
            f"The private key in {origin} cannot be opened.",
            got="a public key" if b"PUBLIC KEY" in data else "no private key in PEM, or another password",
            expected=f"a private key in PEM, on {_curves()}",
            fix=f"Correct it, or {PASSWORD_ENV}. {MAKE_ONE}",
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise _other_kind(origin)
    return SigningKey("" if inline else Path(where).stem, key)


def read_trust(places: Sequence[str] = ()) -> tuple[Trusted, ...]:
    """The public keys and identities in these files and folders, or else in those that the environment names.

    None where nothing is named: then no signature is asked for. Raises SettingsError where a place has no
    key, or no name, and for a file that is something else.
    """
    if not places and (named := os.environ.get(TRUST_ENV, "")):
        places = named.split(os.pathsep)
    if "" in places:
        # What two variables make that are not set would else turn every check off.
        raise SettingsError(
            "A place of public keys has no name.",
            got=f"{TRUST_ENV}={os.environ.get(TRUST_ENV, '')}",
            expected="files and folders of public keys, with : between them",
            fix=f"Correct {TRUST_ENV} or --trust; unset it where nothing need be signed.",
        )
    keys: dict[str, Trusted] = {}
    for place in places:
        folder = Path(place)
        files = (
            sorted(one for one in folder.glob("*") if one.name.endswith((*PUBLIC, ENDING)))
            if folder.is_dir()
            else []
        )
        if folder.is_dir() and not files:
            raise SettingsError(
                f"The folder {place} has no public key.",
                got="no file that ends with " + " or ".join((*PUBLIC, ENDING)),
                expected="the public keys of those who may sign",
                fix=f"Put them there, or name another folder. {MAKE_ONE}",
            )
        for file in files or [folder]:
            key = read_identity(file) if file.suffix == ".json" else _public_key(file)
            keys.setdefault(key.fingerprint, key)
    return tuple(keys.values())


def _public_key(file: Path) -> PublicKey:
    data = _read(str(file), "public key")
    if b"PRIVATE KEY" in data:
        raise SettingsError(
            f"{file} is a private key.",
            got="a key to sign with, which nobody else should have",
            expected="the public key that goes with it",
            fix="Name the .pub beside it; give the private key to nobody, or make another pair.",
        )
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(
            f"{file} is not a public key.",
            got=f"{len(data):,} bytes that are not a public key in PEM",
            expected=f"a public key in PEM, on {_curves()}",
            fix=f"Name another file. {MAKE_ONE}",
        ) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise _other_kind(str(file))
    return PublicKey(file.stem, _public_pem(key))


def _read(file: str, what: str, origin: str = "") -> bytes:
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"The {what} {origin or file} cannot be read.",
            got=getattr(error, "strerror", None) or "no name of a file",
            expected="a file in PEM" if what == "public key" else "a file in PEM, or the PEM itself",
            fix="Correct the name, or ask its owner for it."
            if what == "public key"
            else f"Correct the name. {MAKE_ONE}",
        ) from None


def _public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form)


def _curves() -> str:
    return ", ".join(CURVES.values())


def _other_kind(origin: str) -> SettingsError:
    return SettingsError(
        f"The key in {origin} is of a kind that cannot be used.",
        got="another kind, such as RSA or Ed25519",
        expected=f"an elliptic curve key on {_curves()}",
        fix=MAKE_ONE,
    )
