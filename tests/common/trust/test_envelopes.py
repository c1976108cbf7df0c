"""DSSE: what one library signs the other verifies."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from defectline.components.common.trust.envelopes import (
    PAYLOAD_TYPE,
    is_signed_by,
    make_envelope,
    payload_of,
)
from defectline.components.common.trust.keys import SigningKey, new_key

PAYLOAD = json.dumps({"_type": "x"}).encode()


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_both_libraries_agree(curve):
    key = SigningKey("plates", ec.generate_private_key(curve))
    theirs = SSlibKey.from_crypto(key.crypto.public_key(), keyid=key.public.fingerprint)
    ours = make_envelope(PAYLOAD, key)
    assert Envelope.from_dict(ours).verify([theirs], 1)
    envelope = Envelope(PAYLOAD, PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(key.crypto, theirs))
    assert is_signed_by(envelope.to_dict(), key.public)
    assert payload_of(envelope.to_dict()) == PAYLOAD


def test_another_key_another_payload_no_signature():
    key = new_key("plates")
    envelope = make_envelope(PAYLOAD, key)
    assert not is_signed_by(envelope, new_key("other").public)
    assert not is_signed_by(envelope | {"payload": "e30="}, key.public)
    assert not is_signed_by(make_envelope(PAYLOAD, None), key.public)
    with pytest.raises(ValueError, match="text/plain"):
        payload_of(envelope | {"payloadType": "text/plain"})
