"""Statements in in-toto's form, in a DSSE envelope: signed, or with no signature where nobody has a key."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from defectline.components.common.errors import BundleError
from defectline.components.common.trust.keys import PublicKey, SigningKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"


class Subject(NamedTuple):
    """What a statement is about."""

    name: str
    sha256: str


class Opened(NamedTuple):
    subject: Subject
    predicate_type: str
    predicate: dict[str, Any]
    signer: PublicKey | None
    """None where nobody signed it."""


def make_statement(
    subject: Subject, predicate_type: str, predicate: dict[str, Any], key: SigningKey | None
) -> bytes:
    """The envelope as JSON."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": subject.name, "digest": {"sha256": subject.sha256}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    envelope = Envelope(json.dumps(statement, ensure_ascii=False).encode(), PAYLOAD_TYPE, {})
    if key:
        envelope.sign(CryptoSigner(key.crypto, _sslib(key.public)))
    return json.dumps(envelope.to_dict(), indent=2).encode()


def open_statement(data: bytes, trusted: Sequence[PublicKey], where: str) -> Opened:
    """What an envelope says. `where` it lies is named in errors.

    Raises BundleError where it is not one, and where keys are `trusted` and none of them signed it.
    """
    try:
        envelope = Envelope.from_dict(json.loads(data))
        statement = json.loads(envelope.payload)
        subject = Subject(statement["subject"][0]["name"], statement["subject"][0]["digest"]["sha256"])
        opened = Opened(subject, statement["predicateType"], dict(statement["predicate"]), None)
        if envelope.payload_type != PAYLOAD_TYPE or statement["_type"] != STATEMENT_TYPE:
            raise ValueError(envelope.payload_type)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise BundleError(
            f"{where} is not a statement.",
            got="something that cannot be read as one",
            expected="a DSSE envelope with an in-toto statement",
            fix="Bring it back from a backup.",
        ) from None
    if not trusted:
        return opened
    names = ", ".join(map(str, trusted))
    if not envelope.signatures:
        raise BundleError(
            f"{where} is not signed.",
            got="an envelope without a signature",
            expected=f"a signature by {names}",
            fix="Make it again with a key.",
        )
    try:
        accepted = envelope.verify([_sslib(key) for key in trusted], 1)
    except VerificationError:
        raise BundleError(
            f"{where} is not signed by anybody who is trusted, or was changed since.",
            got=f"a signature by {', '.join(f'{one[:12]}…' for one in envelope.signatures)}",
            expected=f"one by {names} over what it says now",
            fix="Trust the key that signed it with --trust; bring it back from a backup if it was changed.",
        ) from None
    return opened._replace(signer=next(key for key in trusted if key.fingerprint in accepted))


def _sslib(key: PublicKey) -> SSlibKey:
    return SSlibKey.from_crypto(key.crypto, keyid=key.fingerprint)
