"""From the gate to the endpoint without a key file: an identity signs, and its name is trusted."""

import json
from pathlib import Path

import pytest
from commands import call, contents
from signed import Signed, asking, make_signed
from sigstore_server import ADA, AT, LINE, SigstoreServer, token

from defectline.components.common.errors import DefectlineError, SettingsError
from defectline.components.common.records import read_champion
from defectline.components.common.storage import checksums, open_storage
from defectline.components.common.trust.identities import Identity
from defectline.components.common.trust.keyless import CONFIG_ENV, TOKEN_ENV, Keyless
from defectline.components.common.trust.keys import SIGN_KEY_ENV, TRUST_ENV
from defectline.components.deploy.approval import approve
from defectline.components.deploy.step import deploy
from defectline.components.evaluate.sealing import sign_bundle
from defectline.components.serve.sources import Champion


def trust(folder: Path, *names: str, issuer: str = AT) -> str:
    """A folder that names whom to trust."""
    folder.mkdir(exist_ok=True)
    for name in names:
        content = {"identity": name, "issuer": issuer}
        (folder / f"{name.partition('@')[0]}.identity.json").write_text(json.dumps(content))
    return str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two versions, and the server that certified who signed them."""
    folder, server = tmp_path_factory.mktemp("keyless"), SigstoreServer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CONFIG_ENV, str(server.config(folder / "sigstore.json")))
        patch.setenv(TOKEN_ENV, token())
        yield make_signed(folder / "all", patch, sign_with="sigstore"), server
    server.close()


@pytest.fixture
def server(made, monkeypatch) -> SigstoreServer:
    monkeypatch.setenv(CONFIG_ENV, str(made[0].folder.parent / "sigstore.json"))
    monkeypatch.setenv(TOKEN_ENV, token())
    return made[1]


@pytest.fixture
def signed(made, server, tmp_path, monkeypatch) -> Signed:
    monkeypatch.delenv(SIGN_KEY_ENV, raising=False)
    monkeypatch.setenv(TRUST_ENV, trust(tmp_path / "trust", LINE))
    return made[0].copied(tmp_path / "copy")


def published(signed: Signed, index: int = -1) -> Path:
    return signed.store.root / "models/defects" / signed.bundles[index].version


def test_a_step_asks_for_one_certificate(made):
    # Of each of the two runs: model.sig, served.sig and provenance.json are signed with it.
    assert made[1].certificates == 2


def test_it_serves_goes_back_and_its_chain_is_proved(signed):
    assert Champion(signed.store.uri, "defects").fetch() == published(signed)
    proved = call("verify", signed.version, "--store", signed.store.root)
    assert proved.returncode == 0, proved.stdout + proved.stderr
    assert f"signed as {LINE} of {AT}" in proved.stdout
    done = call("rollback", "--store", signed.store.root)
    assert done.returncode == 0, done.stderr
    assert Champion(signed.store.uri, "defects").fetch() == published(signed, 0)


@pytest.mark.parametrize(
    ("who", "issuer"), [(ADA, AT), (LINE, "https://other.example.com")], ids=["identity", "issuer"]
)
def test_another_who_signed_is_refused_everywhere(signed, tmp_path, monkeypatch, capsys, who, issuer):
    monkeypatch.setenv(TRUST_ENV, trust(tmp_path / "others", who, issuer=issuer))
    before = contents(signed.store.root)
    with pytest.raises(DefectlineError, match="by an identity that is not trusted"):
        Champion(signed.store.uri, "defects").fetch()
    with pytest.raises(SystemExit) as caught:
        deploy(published(signed), str(tmp_path / "store"), {}, "run")
    assert caught.value.code == 2
    assert "by an identity that is not trusted" in capsys.readouterr().out
    refused = call("rollback", "--store", signed.store.root)
    assert refused.returncode == 2
    assert "by an identity that is not trusted" in refused.stderr
    broken = call("verify", signed.version, "--store", signed.store.root)
    assert broken.returncode == 2
    assert "signature" in broken.stdout
    assert contents(signed.store.root) == before


def test_what_was_changed_after_it_was_signed_is_named(signed):
    folder = published(signed)
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(content | {"threshold": 0.95}))
    checksums.seal(folder)
    with pytest.raises(DefectlineError, match="is not what was signed") as caught:
        Champion(signed.store.uri, "defects").fetch()
    assert caught.value.got == f"another {checksums.NAME}"


def test_a_signature_of_another_authority_is_not_proved(signed, tmp_path, monkeypatch):
    eve = SigstoreServer()
    with monkeypatch.context() as patch:
        patch.setenv(CONFIG_ENV, str(eve.config(tmp_path / "eve.json")))
        sign_bundle(published(signed), Keyless())
    eve.close()
    with pytest.raises(DefectlineError, match="not so that it can be proved"):
        Champion(signed.store.uri, "defects").fetch()


def test_people_approve_by_their_identities(signed, tmp_path, monkeypatch):
    monkeypatch.setenv(TRUST_ENV, trust(tmp_path / "people", LINE, ADA))
    folder = asking(published(signed), tmp_path / "asks", "required")
    sign_bundle(folder, Keyless())
    store = open_storage(str(tmp_path / "store"))
    version = deploy(folder, store.uri, {}, "asks")
    with pytest.raises(SettingsError, match="Who signed the bundle cannot decide") as caught:
        approve(store, "defects", version, "Line", "fine", Keyless())
    assert LINE in caught.value.got
    monkeypatch.setenv(TOKEN_ENV, token("eve@example.com"))
    with pytest.raises(SettingsError, match="must be signed here"):
        approve(store, "defects", version, "Eve", "fine", Keyless())
    monkeypatch.setenv(TOKEN_ENV, token(ADA))
    place = ("--store", store.root, "--as", "Ada", "--reason", "fine", "--key", "sigstore")
    done = call("approve", version, *place)
    assert done.returncode == 0, done.stdout + done.stderr
    champion = read_champion(store, "defects")
    assert champion
    assert champion.version == version
    assert Champion(store.uri, "defects").fetch().name == version


def test_no_token_is_written_anywhere(made):
    secret = token().rpartition(".")[0]
    assert not [name for name, data in contents(made[0].folder).items() if secret[:60].encode() in data]


def test_the_identity_is_the_one_of_the_certificate(server):
    assert Keyless().public == Identity(LINE, AT)
