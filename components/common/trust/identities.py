"""Who signs without a key file: an identity, as a certificate of Sigstore names it, and who vouches for it.

A file ADA.identity.json beside public keys says {"identity": "ada@example.com", "issuer": "https://…"}.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509

from defectline.components.common.errors import SettingsError

ENDING = ".identity.json"
ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
"""Fulcio's extension with the address of who issued the token."""
OTHER_NAME = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")


class Identity(NamedTuple):
    identity: str
    """An address of mail, or a URI of a workload."""
    issuer: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 of both in hex."""
        return hashlib.sha256(json.dumps([self.issuer, self.identity]).encode()).hexdigest()

    @property
    def told(self) -> str:
        return f"as {self}"

    def __str__(self) -> str:
        return f"{self.identity} of {self.issuer}"


def read_identity(file: Path) -> Identity:
    """Raises SettingsError for a file that does not say just an identity and its issuer."""
    try:
        content = json.loads(file.read_bytes())
        if {*content} != {"identity", "issuer"} or not all(_is_text(one) for one in content.values()):
            raise ValueError
        if "://" not in content["issuer"]:
            raise ValueError
    except (OSError, ValueError, TypeError, AttributeError):
        raise SettingsError(
            f"{file} does not say whom to trust.",
            got="no JSON with just an identity and an issuer" if file.exists() else "no such file",
            expected='{"identity": "ada@example.com", "issuer": "https://accounts.example.com"}',
            fix="Correct the file, or name another one.",
        ) from None
    return Identity(content["identity"], content["issuer"])


def identity_of(certificate: x509.Certificate) -> Identity:
    """Raises ValueError for a certificate that names none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        issuer = certificate.extensions.get_extension_for_oid(ISSUER).value
    except x509.ExtensionNotFound as error:
        raise ValueError(str(error)) from None
    found = [
        *names.get_values_for_type(x509.RFC822Name),
        *names.get_values_for_type(x509.UniformResourceIdentifier),
        *(
            one.value.decode()
            for one in names.get_values_for_type(x509.OtherName)
            if one.type_id == OTHER_NAME
        ),
    ]
    if len(found) != 1:
        raise ValueError(f"{len(found)} names")
    return Identity(found[0], issuer.value.decode())  # type: ignore[attr-defined]


def claimed(content: Any) -> Identity | None:
    """The identity that a Sigstore bundle says signed it, unchecked; None where it has no certificate, such
    as one that a key signed. Raises ValueError, KeyError or TypeError for a certificate that is none."""
    certificate = content["verificationMaterial"].get("certificate")
    if certificate is None:
        return None
    data = base64.b64decode(certificate["rawBytes"], validate=True)
    return identity_of(x509.load_der_x509_certificate(data))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()
