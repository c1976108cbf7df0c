"""DSSE envelopes, version 1, over `cryptography` alone.

The libraries that have them import boto3 for signers of clouds, which takes longer than to verify ten
bundles, and an endpoint should hold as few packages as it can.
"""

import base64
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from defectline.components.common.trust.keys import PublicKey, SigningKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"


def make_envelope(payload: bytes, key: SigningKey | None) -> dict[str, Any]:
    """Around an in-toto statement; with no signature where there is no key."""
    signatures = []
    if key:
        signature = key.crypto.sign(_encoded(payload), _algorithm(key.crypto.curve))
        signatures.append({"keyid": key.public.fingerprint, "sig": _b64(signature)})
    return {"payload": _b64(payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures}


def payload_of(envelope: Any) -> bytes:
    """The statement in an envelope, unchecked. Raises ValueError, KeyError or TypeError for none."""
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(envelope["payloadType"])
    return base64.b64decode(envelope["payload"], validate=True)


def is_signed_by(envelope: Any, key: PublicKey) -> bool:
    """Whether the key made a signature over what is in it now. Raises as `payload_of`."""
    encoded = _encoded(payload_of(envelope))
    for one in envelope["signatures"]:
        try:
            signature = base64.b64decode(one["sig"], validate=True)
            key.crypto.verify(signature, encoded, _algorithm(key.crypto.curve))
        except InvalidSignature:
            continue
        return True
    return False


def _encoded(payload: bytes) -> bytes:
    """What is signed: the pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _algorithm(curve: ec.EllipticCurve) -> ec.ECDSA:
    """The hash as long as the curve, as Sigstore has it."""
    return ec.ECDSA({256: hashes.SHA256(), 384: hashes.SHA384()}.get(curve.key_size, hashes.SHA512()))


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
