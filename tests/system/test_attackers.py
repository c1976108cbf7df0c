"""What an attacker who may write to the store tries: each is found, named, and changes nothing.

What is tried elsewhere: tokens and slow clients in tests/serve/protocol/test_door.py and test_connection.py,
changed decisions in tests/pipeline/catalog/test_audit.py, forged answers in test_answers.py, signatures of
other identities in test_keyless.py, each broken link of a chain in tests/pipeline/catalog/test_chain.py.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import call, contents
from endpoints import command
from signed import Signed, make_signed, write_keys

from defectline.components.common.bundle import copy_served
from defectline.components.common.errors import DefectlineError
from defectline.components.common.layout import AUDIT, champion_key
from defectline.components.common.ports import free_port
from defectline.components.common.records import read_champion
from defectline.components.common.storage import checksums, open_storage
from defectline.components.common.trust.keys import SIGN_KEY_ENV, TRUST_ENV
from defectline.components.deploy.deployer import open_deployer
from defectline.components.deploy.step import deploy
from defectline.components.evaluate.sealing import sign_bundle
from defectline.components.serve.sources import Champion, Folder


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return make_signed(tmp_path_factory.mktemp("signed") / "all", patch)


@pytest.fixture
def signed(original, tmp_path, monkeypatch):
    monkeypatch.delenv(SIGN_KEY_ENV, raising=False)
    monkeypatch.setenv(TRUST_ENV, str(original.public))
    return original.copied(tmp_path / "copy")


def bundle_of(signed: Signed, index: int = -1) -> Path:
    return signed.store.root / "models/defects" / signed.bundles[index].version


def weights(signed: Signed, folder: Path) -> None:
    file = folder / signed.bundles[-1].network.replace(".xml", ".bin")
    file.write_bytes(file.read_bytes()[:-1] + b"x")


def weights_and_seal(signed: Signed, folder: Path) -> None:
    weights(signed, folder)
    checksums.seal(folder)


def threshold(signed: Signed, folder: Path) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(content | {"threshold": 0.95}))
    checksums.seal(folder)


def roi(signed: Signed, folder: Path) -> None:
    """Nothing would count any more."""
    (folder / "roi.png").write_bytes(b"")
    checksums.seal(folder)


def signature_of_another(signed: Signed, folder: Path) -> None:
    other = next(one for one in (0, -1) if bundle_of(signed, one) != folder)
    shutil.copyfile(bundle_of(signed, other) / "model.sig", folder / "model.sig")


def no_signature(signed: Signed, folder: Path) -> None:
    (folder / "model.sig").unlink()


def key_of_another(signed: Signed, folder: Path) -> None:
    sign_bundle(folder, write_keys(signed.folder / "eve", "eve"))


TAMPERED = {
    weights: "is not what was sealed",
    weights_and_seal: "is not what was signed",
    threshold: "is not what was signed",
    roi: "is not what was signed",
    signature_of_another: "is not what was signed",
    no_signature: "is not signed",
    key_of_another: "is signed with a key that is not trusted",
}
Tamper = Callable[[Signed, Path], None]


@pytest.mark.parametrize(("tamper", "says"), TAMPERED.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_the_endpoint_does_not_load_it(signed, tamper: Tamper, says: str):
    tamper(signed, bundle_of(signed))
    with pytest.raises(DefectlineError, match=says) as caught:
        Champion(signed.store.uri, "defects").fetch()
    assert signed.version in caught.value.what
    assert caught.value.fix


@pytest.mark.parametrize(("tamper", "says"), TAMPERED.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_it_is_not_deployed(signed, tmp_path, capsys, tamper: Tamper, says: str):
    folder, store = tmp_path / "bundle", tmp_path / "store"
    shutil.copytree(bundle_of(signed), folder)
    tamper(signed, folder)
    with pytest.raises(SystemExit) as caught:
        deploy(folder, str(store), {}, "run")
    assert caught.value.code == 2
    assert says in capsys.readouterr().out
    assert not store.exists()


@pytest.mark.parametrize(("tamper", "says"), TAMPERED.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_nobody_goes_back_to_it(signed, tamper: Tamper, says: str):
    tamper(signed, bundle_of(signed, 0))
    before = contents(signed.store.root)
    with pytest.raises(DefectlineError, match=says):
        open_deployer(signed.store.uri, "defects", {}).roll_back()
    assert contents(signed.store.root) == before


def test_what_is_not_tampered_with_serves_and_goes_back(signed):
    assert Champion(signed.store.uri, "defects").fetch() == bundle_of(signed)
    done = call("rollback", "--store", signed.store.root)
    assert done.returncode == 0, done.stderr
    assert Champion(signed.store.uri, "defects").fetch() == bundle_of(signed, 0)


def test_an_old_signed_version_put_back(signed):
    old = signed.bundles[0].version
    champion = read_champion(signed.store, "defects")
    assert champion
    record = champion.model_copy(update={"version": old})
    signed.store.write(champion_key("defects"), record.model_dump_json().encode())
    with pytest.raises(DefectlineError, match="is not the version that was deployed last") as caught:
        Champion(signed.store.uri, "defects").fetch()
    assert old in caught.value.got
    assert signed.version in caught.value.expected
    assert call("audit", "--store", signed.store.root).returncode == 2


def test_an_old_signed_version_in_the_place_of_the_new_one(signed, tmp_path):
    served, folder = tmp_path / "served", bundle_of(signed, 0)
    copy_served(folder, served)
    with pytest.raises(DefectlineError, match="holds another version than is to be served") as caught:
        Folder(served, version=signed.version).fetch()
    assert (caught.value.got, caught.value.expected) == (signed.bundles[0].version, signed.version)
    shutil.rmtree(bundle_of(signed))
    shutil.copytree(folder, bundle_of(signed))
    with pytest.raises(DefectlineError, match="is not the version that was deployed last"):
        Champion(signed.store.uri, "defects").fetch()


def test_a_signed_model_of_another_name(signed):
    """Both are signed by the same key."""
    shutil.copytree(bundle_of(signed), signed.store.root / "models/plates" / signed.version)
    champion = signed.store.read(champion_key("defects"))
    signed.store.write(champion_key("plates"), champion)
    lines = signed.store.read(AUDIT)
    assert lines
    with pytest.raises(DefectlineError, match="is not the version that was deployed last"):
        Champion(signed.store.uri, "plates").fetch()


@pytest.mark.parametrize("take", [0, 1, 2])
def test_a_line_of_the_log_taken_out(signed, take):
    lines = signed.store.read(AUDIT).splitlines(keepends=True)
    signed.store.write(AUDIT, b"".join(lines[:take] + lines[take + 1 :]))
    done = call("audit", "--store", signed.store.root)
    assert done.returncode == 2
    assert "the log is broken" in done.stderr
    with pytest.raises(DefectlineError, match=r"audit\.jsonl was changed"):
        Champion(signed.store.uri, "defects").fetch()


def test_the_last_line_of_the_log_taken_out(signed):
    """Which no chain can tell, but the champion does."""
    lines = signed.store.read(AUDIT).splitlines(keepends=True)
    signed.store.write(AUDIT, b"".join(lines[:-1]))
    with pytest.raises(DefectlineError, match="is not the version that was deployed last"):
        Champion(signed.store.uri, "defects").fetch()
    assert call("audit", "--store", signed.store.root).returncode == 2


def test_the_process_says_why_it_does_not_start(signed, tmp_path):
    served = tmp_path / "served"
    copy_served(bundle_of(signed), served)
    (served / "model.sig").unlink()
    started = command(served, free_port(), "--trust", str(signed.public), name="defects")
    done = subprocess.run(started, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "is not signed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "key", ["../outside", "models/../../outside", "/etc/passwd", "models/defects/../../../x"]
)
def test_a_path_that_leaves_the_store(signed, key):
    """As a provenance, a pack or a manifest may name one."""
    with pytest.raises((DefectlineError, KeyError, ValueError)):
        signed.store.read(key)


def test_no_secret_is_written_anywhere(original):
    private = re.compile(rb"PRIVATE KEY|" + re.escape(original.key.pem.splitlines()[1]))
    for name, data in contents(original.store.root).items():
        assert not private.search(data), name


def test_the_store_reads_as_before_without_keys(original, monkeypatch):
    """Trust is asked for: without it, a signed store serves as an unsigned one does."""
    monkeypatch.delenv(TRUST_ENV, raising=False)
    store = open_storage(str(original.store.root))
    assert Champion(store.uri, "defects").fetch().name == original.version
