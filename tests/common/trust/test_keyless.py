"""To sign and to check without a key file, by the real client of Sigstore."""

import json
import shutil

import pytest
from bundles import make_bundle
from signed import write_keys
from sigstore_server import ADA, AT, LINE, SigstoreServer, token

from defectline.components.common.errors import BundleError, SettingsError
from defectline.components.common.trust import keyless
from defectline.components.common.trust.identities import Identity
from defectline.components.common.trust.keyless import CONFIG_ENV, TOKEN_ENV, TOKEN_FILE_ENV, Keyless
from defectline.components.common.trust.keys import SIGN_KEY_ENV, read_trust, signing_key
from defectline.components.common.trust.signatures import check_signature, sign, signer_of
from defectline.components.common.trust.statements import Subject, make_statement, open_statement

WHO = Identity(LINE, AT)


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = SigstoreServer()
    monkeypatch.setenv(CONFIG_ENV, str(server.config(tmp_path / "config.json")))
    monkeypatch.setenv(TOKEN_ENV, token())
    monkeypatch.setenv(SIGN_KEY_ENV, "sigstore")
    yield server
    server.close()


@pytest.fixture
def folder(server, tmp_path):
    make_bundle(tmp_path / "bundle")
    sign(tmp_path / "bundle", signing_key())
    return tmp_path / "bundle"


def test_one_certificate_signs_files_and_statements_and_no_server_is_asked_to_check(server, tmp_path):
    make_bundle(tmp_path / "bundle")
    key = signing_key()
    sign(tmp_path / "bundle", key)
    data = make_statement(Subject("x", "0" * 64), "https://defectline.dev/test/v1", {"said": "größer"}, key)
    assert server.certificates == 1
    server.close()
    assert check_signature(tmp_path / "bundle", [WHO]) == WHO
    assert signer_of(tmp_path / "bundle") == WHO.fingerprint
    opened = open_statement(data, [WHO], "x")
    assert (opened.predicate, opened.signer) == ({"said": "größer"}, WHO)
    with pytest.raises(BundleError, match="not signed by anybody who is trusted"):
        open_statement(data, [Identity(ADA, AT)], "x")


def test_somebody_else_signed_it(folder, tmp_path):
    key = write_keys(tmp_path / "keys", "plates")
    for other in (Identity(ADA, AT), Identity(LINE, "https://other.example.com"), key.public):
        with pytest.raises(BundleError, match="by an identity that is not trusted") as caught:
            check_signature(folder, [other])
        assert caught.value.got == str(WHO)
    sign(folder, key)
    with pytest.raises(BundleError, match="with a key that is not trusted"):
        check_signature(folder, [WHO])


def test_what_was_changed(folder, tmp_path):
    make_bundle(tmp_path / "other", seed=1)
    shutil.copyfile(folder / "model.sig", tmp_path / "other" / "model.sig")
    with pytest.raises(BundleError, match="is not what was signed"):
        check_signature(tmp_path / "other", [WHO])
    content = json.loads((folder / "model.sig").read_text())
    entry = content["verificationMaterial"]["tlogEntries"][0]
    entry["integratedTime"] = str(int(entry["integratedTime"]) + 1)
    (folder / "model.sig").write_text(json.dumps(content))
    with pytest.raises(BundleError, match="not so that it can be proved"):
        check_signature(folder, [WHO])


def test_another_authority(folder, tmp_path, monkeypatch):
    other = SigstoreServer()
    monkeypatch.setenv(CONFIG_ENV, str(other.config(tmp_path / "other.json")))
    other.close()
    with pytest.raises(BundleError, match="not so that it can be proved"):
        check_signature(folder, [WHO])


@pytest.mark.parametrize("fault", ["hang", "log hang"])
def test_a_server_that_hangs_is_waited_for_so_long(server, monkeypatch, tmp_path, fault):
    make_bundle(tmp_path / "bundle")
    server.fault = fault
    with monkeypatch.context() as patch:
        patch.setattr(keyless, "TIMEOUT_S", 1.0)
        with pytest.raises(SettingsError, match="Sigstore gave no signature") as caught:
            sign(tmp_path / "bundle", signing_key())
    assert caught.value.got == "no answer within 1 s"
    assert not (tmp_path / "bundle" / "model.sig").exists()
    server.fault = ""
    sign(tmp_path / "bundle", signing_key())


@pytest.mark.parametrize("fault", ["401", "500", "sct", "late", "log 500", "gone", "token"])
def test_what_servers_do_wrong(server, monkeypatch, tmp_path, fault):
    make_bundle(tmp_path / "bundle")
    server.fault = fault
    if fault == "gone":
        server.close()
    elif fault == "token":
        monkeypatch.setenv(TOKEN_ENV, token(secret="of somebody else, at least 32 bytes"))
    with pytest.raises(SettingsError, match="Sigstore gave no signature") as caught:
        sign(tmp_path / "bundle", signing_key())
    assert token().split(".")[1][:20] not in str(caught.value)
    assert not (tmp_path / "bundle" / "model.sig").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [("rubbish", "not a token"), (token(lives_s=-60), "has expired"), ("", "none")],
)
def test_no_token(server, monkeypatch, text, said):
    monkeypatch.setenv(TOKEN_ENV, text)
    with pytest.raises(SettingsError, match="no identity token") as caught:
        signing_key()
    assert said in caught.value.got
    assert not text or text not in str(caught.value)


def test_a_file_with_a_token_is_read_each_time(server, monkeypatch, tmp_path):
    monkeypatch.delenv(TOKEN_ENV)
    file = tmp_path / "token"
    file.write_text(token(ADA) + "\n")
    monkeypatch.setenv(TOKEN_FILE_ENV, str(file))
    key = Keyless()
    file.write_text(token())
    assert key.public == WHO
    file.unlink()
    with pytest.raises(SettingsError, match="no identity token"):
        Keyless()


def test_whom_a_file_names(tmp_path):
    (tmp_path / "line.identity.json").write_text(json.dumps(WHO._asdict()))
    assert read_trust([str(tmp_path)]) == (WHO,)
    (tmp_path / "line.identity.json").write_text('{"identity": "x"}')
    with pytest.raises(SettingsError, match="does not say whom to trust"):
        read_trust([str(tmp_path)])
