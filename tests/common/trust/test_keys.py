"""Keys in files and in the environment, and what is said of those that cannot be used."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from signed import write_keys

from defectline.components.common.errors import SettingsError
from defectline.components.common.trust.keys import (
    PASSWORD_ENV,
    SIGN_KEY_ENV,
    TRUST_ENV,
    new_key,
    read_signing_key,
    read_trust,
    signing_key,
)


def _private(key, password: bytes = b"") -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def _public(key) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def test_a_key_is_a_file_or_the_variable_itself(tmp_path, monkeypatch):
    assert signing_key() is None
    key = write_keys(tmp_path, "plates")
    monkeypatch.setenv(SIGN_KEY_ENV, str(tmp_path / "plates.key"))
    found = signing_key()
    assert found
    assert (found.name, found.public) == ("plates", key.public)
    monkeypatch.setenv(SIGN_KEY_ENV, key.pem.decode())
    inline = signing_key()
    assert inline
    assert inline.public.fingerprint == key.public.fingerprint


def test_a_key_is_never_printed():
    key = new_key("plates")
    shown = f"{key} {key!r} {[key]} {key.public}"
    assert "PRIVATE" not in shown
    assert key.public.fingerprint[:12] in shown


def test_a_key_with_a_password(tmp_path, monkeypatch):
    file = tmp_path / "plates.key"
    file.write_bytes(_private(ec.generate_private_key(ec.SECP384R1()), b"secret"))
    with pytest.raises(SettingsError) as caught:
        read_signing_key(str(file))
    assert caught.value.fix == f"Set {PASSWORD_ENV}."
    monkeypatch.setenv(PASSWORD_ENV, "wrong")
    with pytest.raises(SettingsError, match="cannot be opened"):
        read_signing_key(str(file))
    monkeypatch.setenv(PASSWORD_ENV, "secret")
    assert read_signing_key(str(file)).name == "plates"
    file.write_bytes(new_key("x").pem)
    with pytest.raises(SettingsError) as caught:
        read_signing_key(str(file))
    assert caught.value.fix == f"Unset {PASSWORD_ENV}."
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no private key in PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nrubbish\n", "no private key in PEM"),
        (new_key("x").public.pem, "a public key"),
        (_private(rsa.generate_private_key(65537, 2048)), "such as RSA"),
        (_private(ed25519.Ed25519PrivateKey.generate()), "such as RSA or Ed25519"),
        (_private(ec.generate_private_key(ec.SECP256K1())), "another kind"),
    ],
)
def test_what_cannot_sign(tmp_path, content, said):
    file = tmp_path / "plates.key"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_signing_key(str(file))
    assert said in caught.value.got
    assert "keygen" in caught.value.fix


def test_a_wrong_variable_is_not_printed(monkeypatch):
    """It may hold a secret of another kind."""
    monkeypatch.setenv(SIGN_KEY_ENV, "-----BEGIN PRIVATE KEY-----\nhunter2\n")
    with pytest.raises(SettingsError) as caught:
        signing_key()
    assert "hunter2" not in str(caught.value)
    assert SIGN_KEY_ENV in caught.value.what


def test_no_such_file():
    with pytest.raises(SettingsError, match=r"private key none\.key cannot be read"):
        read_signing_key("none.key")
    with pytest.raises(SettingsError, match=r"public key none\.pub cannot be read"):
        read_trust(["none.pub"])


def test_whom_one_trusts(tmp_path, monkeypatch):
    assert read_trust() == ()
    first, second = (write_keys(tmp_path / "keys", name) for name in ("first", "second"))
    other = write_keys(tmp_path / "other", "third")
    both = {first.public, second.public}
    assert {*read_trust([str(tmp_path / "keys")])} == both
    monkeypatch.setenv(TRUST_ENV, f"{tmp_path}/keys:{tmp_path}/other/third.pub")
    assert {*read_trust()} == both | {other.public}
    # What is named wins over the environment.
    assert read_trust([str(tmp_path / "other" / "third.pub")]) == (other.public,)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (new_key("x").pem, "is a private key"),
        (b"rubbish", "is not a public key"),
        (_public(rsa.generate_private_key(65537, 2048)), "of a kind that cannot be used"),
    ],
)
def test_what_cannot_be_trusted(tmp_path, content, said):
    (tmp_path / "x.pub").write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        read_trust([str(tmp_path)])


def test_an_empty_folder_trusts_nobody_by_mistake(tmp_path):
    (tmp_path / "plates.key").write_bytes(new_key("x").pem)
    with pytest.raises(SettingsError, match="has no public key"):
        read_trust([str(tmp_path)])


@pytest.mark.parametrize("lines", [slice(1, None), slice(1, -1), slice(0, 1)])
def test_a_key_that_lost_its_first_line_is_not_printed(monkeypatch, lines):
    pem = new_key("x").pem.decode().splitlines()
    for text in ("\n".join(pem[lines]), "".join(pem[lines])):
        monkeypatch.setenv(SIGN_KEY_ENV, text)
        with pytest.raises(SettingsError) as caught:
            signing_key()
        assert not any(line in str(caught.value) for line in pem[1:-1])


@pytest.mark.parametrize("value", [":", "keys:", ":keys"])
def test_a_place_without_a_name_turns_nothing_off(monkeypatch, value):
    monkeypatch.setenv(TRUST_ENV, value)
    with pytest.raises(SettingsError, match="has no name"):
        read_trust()
    with pytest.raises(SettingsError, match="has no name"):
        read_trust([""])
