"""Statements in in-toto's form, in an envelope: signed, or with no signature where nobody has a key."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from defectline.components.common.errors import BundleError
from defectline.components.common.trust.envelopes import (
    STATEMENT_TYPE,
    is_signed_by,
    make_envelope,
    payload_of,
)
from defectline.components.common.trust.keys import PublicKey, SigningKey


class Subject(NamedTuple):
    """What a statement is about."""

    name: str
    sha256: str


class Opened(NamedTuple):
    subject: Subject
    predicate_type: str
    predicate: dict[str, Any]
    signer: PublicKey | None
    """None where nobody signed it, or nobody asked."""


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
    return json.dumps(
        make_envelope(json.dumps(statement, ensure_ascii=False).encode(), key), indent=2
    ).encode()


def open_statement(data: bytes, trusted: Sequence[PublicKey], where: str) -> Opened:
    """What an envelope says. `where` it lies is named in errors.

    Raises BundleError where it is not one, and where keys are `trusted` and none of them signed it.
    """
    try:
        envelope = json.loads(data)
        opened = _read(json.loads(payload_of(envelope)))
        signer = next((key for key in trusted if is_signed_by(envelope, key)), None)
        named = [str(one["keyid"]) for one in envelope["signatures"]]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise BundleError(
            f"{where} is not a statement.",
            got="something that cannot be read as one",
            expected="a DSSE envelope with an in-toto statement",
            fix="Bring it back from a backup.",
        ) from None
    names = ", ".join(map(str, trusted))
    if trusted and not named:
        raise BundleError(
            f"{where} is not signed.",
            got="an envelope without a signature",
            expected=f"a signature by {names}",
            fix="Make it again with a key.",
        )
    if trusted and signer is None:
        raise BundleError(
            f"{where} is not signed by anybody who is trusted, or was changed since.",
            got=f"a signature by {', '.join(f'{one[:12]}…' for one in named)}",
            expected=f"one by {names} over what it says now",
            fix="Trust the key that signed it with --trust; bring it back from a backup if it was changed.",
        )
    return opened._replace(signer=signer)


def _read(statement: Any) -> Opened:
    if statement["_type"] != STATEMENT_TYPE:
        raise ValueError(statement["_type"])
    (found,) = statement["subject"]
    subject = Subject(found["name"], found["digest"]["sha256"])
    return Opened(subject, statement["predicateType"], dict(statement["predicate"]), None)
