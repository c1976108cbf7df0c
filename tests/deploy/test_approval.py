"""A challenger that passed the gate waits for people, and serves once they said yes."""

import base64
import json
import shutil

import pytest
from signed import write_keys

from defectline.components.common.errors import BundleError, SettingsError
from defectline.components.common.layout import AUDIT, approvals_prefix
from defectline.components.common.records import read_champion, read_gate, read_outcome, read_waiting
from defectline.components.common.reporting.audit import Act, read_chain
from defectline.components.common.trust.approvals import PREDICATE_TYPE, read_approvals
from defectline.components.common.trust.keys import SIGN_KEY_ENV, TRUST_ENV, signing_key
from defectline.components.common.trust.statements import Subject, make_statement
from defectline.components.deploy.approval import approve, reject
from defectline.components.deploy.step import deploy
from defectline.components.evaluate.sealing import _sign


def acts(store) -> list[tuple[str, str, str]]:
    return [(one.act, one.by, one.result) for one in read_chain(store, AUDIT, Act)[0]]


@pytest.fixture
def wait(judged, store, tmp_path):
    """Let the judged bundle wait for so many people."""

    def deploys(approval: str, run: str = "run") -> str:
        return deploy(judged.folder, store.uri, {}, run, "defects", "a=1", approval)

    return deploys


def test_it_waits_and_nothing_serves(judged, store, wait):
    version = wait("required")
    outcome = read_outcome(store, "run")
    assert outcome
    assert (outcome.state, outcome.version) == ("awaiting_approval", version)
    assert f"defectline approve {version} --name defects --store {store.uri}" in outcome.advice
    assert read_champion(store, "defects") is None
    waiting = read_waiting(store, "defects")
    assert waiting
    assert (waiting.version, waiting.run) == (version, "run")
    # The same pictures would only make a second one that waits.
    gate = read_gate(store, "defects")
    assert gate
    assert (gate.run, gate.snapshot, gate.settings_key) == ("run", judged.snapshot, "a=1")


def test_one_person_deploys_it(store, wait):
    version = wait("required")
    said = approve(store, "defects", version, "Ada", "looked at all escapes", None)
    assert said == f"{version} is approved by Ada, and the champion on this machine"
    champion, outcome = read_champion(store, "defects"), read_outcome(store, "run")
    assert champion
    assert (champion.version, champion.run) == (version, "run")
    assert outcome
    assert outcome.state == "deployed"
    assert outcome.reason == "every rule of the gate passed, and Ada approved it"
    assert read_waiting(store, "defects") is None
    assert acts(store) == [
        ("approve", "Ada", "looked at all escapes"),
        ("deploy", "run run", "this machine"),
    ]
    with pytest.raises(SettingsError, match="does not wait for approval"):
        approve(store, "defects", version, "Grace", "late", None)


def test_two_people_must_be_two(store, wait):
    version = wait("two")
    said = approve(store, "defects", version, "Ada", "fine", None)
    assert said == f"{version} is approved by Ada; 1 more person must approve it"
    assert read_champion(store, "defects") is None
    for same in ("Ada", " ada "):
        with pytest.raises(SettingsError, match="has approved it already"):
            approve(store, "defects", version, same, "fine again", None)
    approve(store, "defects", version, "Grace", "fine too", None)
    champion = read_champion(store, "defects")
    assert champion
    assert champion.version == version
    outcome = read_outcome(store, "run")
    assert outcome
    assert outcome.reason.endswith("and Ada and Grace approved it")


def test_a_changed_approval_is_nobodys(judged, store, wait, tmp_path):
    ada = write_keys(tmp_path / "keys", "ada")
    version = wait("two")
    approve(store, "defects", version, "Ada", "fine", ada)
    (place,) = store.list(approvals_prefix("defects", version))
    found = read_approvals(store, "defects", version, judged.folder, judged.bundle, [ada.public])
    assert [(one.by, one.said, one.signer) for one in found] == [("Ada", "approve", ada.public)]
    envelope = json.loads(store.read(place.key))
    payload = base64.b64decode(envelope["payload"]).replace(b"Ada", b"Eve")
    envelope["payload"] = base64.b64encode(payload).decode()
    store.write(place.key, json.dumps(envelope).encode())
    with pytest.raises(BundleError, match="or was changed since"):
        read_approvals(store, "defects", version, judged.folder, judged.bundle, [ada.public])


@pytest.fixture
def signed(judged, store, tmp_path, monkeypatch):
    """The judged bundle, signed by the pipeline, in a store where keys are trusted; the people's keys."""
    keys = tmp_path / "keys"
    people = {name: write_keys(keys, name) for name in ("pipeline", "ada", "grace")}
    monkeypatch.setenv(SIGN_KEY_ENV, str(keys / "pipeline.key"))
    folder = tmp_path / "signed"
    shutil.copytree(judged.folder, folder)
    key = signing_key()
    assert key
    _sign(folder, key)
    monkeypatch.setenv(TRUST_ENV, str(keys))
    version = deploy(folder, store.uri, {}, "run", "defects", "", "two")
    return version, people


def test_where_keys_are_trusted_approvals_are_signed_by_two_of_them(store, signed, tmp_path):
    version, people = signed
    with pytest.raises(SettingsError, match="must be signed here"):
        approve(store, "defects", version, "Ada", "fine", None)
    with pytest.raises(SettingsError, match="must be signed here"):
        approve(store, "defects", version, "Eve", "fine", write_keys(tmp_path / "other", "eve"))
    with pytest.raises(SettingsError, match="Who signed the bundle cannot approve it"):
        approve(store, "defects", version, "Robot", "fine", people["pipeline"])
    approve(store, "defects", version, "Ada", "fine", people["ada"])
    with pytest.raises(SettingsError, match="has approved it already"):
        approve(store, "defects", version, "Grace", "fine", people["ada"])
    assert read_champion(store, "defects") is None
    approve(store, "defects", version, "Grace", "fine", people["grace"])
    champion = read_champion(store, "defects")
    assert champion
    assert champion.version == version


def test_an_approval_of_another_bundle_counts_for_nothing(store, signed):
    version, people = signed
    approve(store, "defects", version, "Ada", "fine", people["ada"])
    (one,) = store.list(approvals_prefix("defects", version))
    # Taken from elsewhere: signed well, about something else.
    other = make_statement(Subject("defects/other", "1" * 64), PREDICATE_TYPE, {}, people["grace"])
    store.write(one.key.replace(".json", "0.json"), other)
    with pytest.raises(BundleError, match="is about something else"):
        approve(store, "defects", version, "Grace", "fine", people["grace"])
    assert read_champion(store, "defects") is None


def test_somebody_says_no(store, wait):
    version = wait("required")
    assert (
        reject(store, "defects", version, "Ada", "escapes a scratch", None) == f"{version} is rejected by Ada"
    )
    outcome = read_outcome(store, "run")
    assert outcome
    assert outcome.state == "refused"
    assert outcome.reason == "every rule of the gate passed, but Ada rejected it: escapes a scratch"
    assert read_waiting(store, "defects") is None
    assert read_champion(store, "defects") is None
    assert acts(store) == [("reject", "Ada", "escapes a scratch")]


def test_a_later_one_takes_its_place(store, wait):
    wait("required", "first")
    version = wait("required", "second")
    first, waiting = read_outcome(store, "first"), read_waiting(store, "defects")
    assert first
    assert (first.state, first.reason) == (
        "refused",
        f"nobody approved it before {version} passed the gate",
    )
    assert waiting
    assert waiting.run == "second"


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
def test_a_name_that_is_none(store, wait, name):
    version = wait("required")
    with pytest.raises(SettingsError, match="A name is missing"):
        approve(store, "defects", version, name, "fine", None)


def test_one_that_does_not_wait(store, wait):
    version = wait("required")
    with pytest.raises(SettingsError) as caught:
        reject(store, "defects", "v20260101-000000-000001", "Ada", "no", None)
    assert caught.value.got == f"{version} waits"
    with pytest.raises(SettingsError) as caught:
        approve(store, "plates", version, "Ada", "yes", None)
    assert caught.value.got == "none waits"
