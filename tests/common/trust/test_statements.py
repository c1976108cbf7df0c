"""Statements in envelopes: what they say, and who says it."""

import base64
import json

import pytest

from defectline.components.common.errors import BundleError
from defectline.components.common.trust.keys import new_key
from defectline.components.common.trust.statements import Subject, make_statement, open_statement

SUBJECT = Subject("defects/v20260101-000000-000001", "0" * 64)
KIND = "https://defectline.dev/test/v1"
KEY = new_key("plates")


def make(key=KEY) -> bytes:
    return make_statement(SUBJECT, KIND, {"said": "größer"}, key)


def test_what_was_said_and_by_whom():
    opened = open_statement(make(), [new_key("other").public, KEY.public], "x")
    assert opened == (SUBJECT, KIND, {"said": "größer"}, KEY.public)


def test_it_is_in_totos_form():
    envelope = json.loads(make())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [{"name": SUBJECT.name, "digest": {"sha256": SUBJECT.sha256}}]


def test_without_a_key_nothing_is_signed():
    assert open_statement(make(None), (), "x").signer is None
    with pytest.raises(BundleError, match="x is not signed"):
        open_statement(make(None), [KEY.public], "x")


def test_somebody_else_signed_it():
    with pytest.raises(BundleError, match="not signed by anybody who is trusted"):
        open_statement(make(), [new_key("other").public], "x")


def test_it_says_something_else_now():
    envelope = json.loads(make())
    payload = base64.b64decode(envelope["payload"]).replace("größer".encode(), b"smaller")
    envelope["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(BundleError, match="or was changed since"):
        open_statement(json.dumps(envelope).encode(), [KEY.public], "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'"text"',
        b"\xff\xfe",
        b'{"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": []}',
        b'{"payload": "W10=", "payloadType": "application/vnd.in-toto+json", "signatures": [{"keyid": 3}]}',
        make().replace(b"vnd.in-toto", b"vnd.other"),
    ],
)
def test_what_is_not_a_statement(data):
    with pytest.raises(BundleError, match="x is not a statement"):
        open_statement(data, [KEY.public], "x")
