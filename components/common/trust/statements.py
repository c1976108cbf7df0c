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
from defectline.components.common.trust.identities import claimed
from defectline.components.common.trust.keyless import Keyless, prove
from defectline.components.common.trust.keys import PublicKey, Signer, Trusted


class Subject(NamedTuple):
    """What a statement is about."""

    name: str
    sha256: str


class Opened(NamedTuple):
    subject: Subject
    predicate_type: str
    predicate: dict[str, Any]
    signer: Trusted | None
    """None where nobody signed it, or nobody asked."""


def make_statement(
    subject: Subject, predicate_type: str, predicate: dict[str, Any], key: Signer | None
) -> bytes:
    """The envelope as JSON; in a Sigstore bundle where an identity signed it."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": subject.name, "digest": {"sha256": subject.sha256}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    payload = json.dumps(statement, ensure_ascii=False).encode()
    if isinstance(key, Keyless):
        return key.sign(payload)
    return json.dumps(make_envelope(payload, key), indent=2).encode()


def open_statement(data: bytes, trusted: Sequence[Trusted], where: str) -> Opened:
    """What an envelope says. `where` it lies is named in errors.

    Raises BundleError where it is not one, and where keys are `trusted` and none of them signed it.
    """
    try:
        content = json.loads(data)
        identity = claimed(content) if "dsseEnvelope" in content else None
        envelope = content["dsseEnvelope"] if identity else content
        opened = _read(json.loads(payload_of(envelope)))
        signer: Trusted | None = None
        if identity:
            named = [str(identity)]
            if identity in trusted:
                # What was proved is read, and not what another reader of JSON may find in it.
                opened, signer = _read(json.loads(prove(data, identity, where))), identity
        else:
            keys = [one for one in trusted if isinstance(one, PublicKey)]
            signer = next((key for key in keys if is_signed_by(envelope, key)), None)
            named = [f"{str(one['keyid'])[:12]}…" for one in envelope["signatures"]]
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
            got=f"a signature by {', '.join(named)}",
            expected=f"one by {names} over what it says now",
            fix="Trust who signed it with --trust; bring it back from a backup if it was changed.",
        )
    return opened._replace(signer=signer)


def _read(statement: Any) -> Opened:
    if statement["_type"] != STATEMENT_TYPE:
        raise ValueError(statement["_type"])
    (found,) = statement["subject"]
    subject = Subject(found["name"], found["digest"]["sha256"])
    return Opened(subject, statement["predicateType"], dict(statement["predicate"]), None)
