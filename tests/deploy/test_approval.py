"""A challenger that passed the gate waits for people, and serves once they said yes."""

import base64
import json

import pytest
from signed import asking, write_keys

from defectline.components.common.bundle import publish_folder
from defectline.components.common.errors import BundleError, Conflict, SettingsError
from defectline.components.common.layout import AUDIT, approvals_prefix, champion_key, model_folder
from defectline.components.common.records import read_champion, read_gate, read_outcome, read_waiting
from defectline.components.common.reporting.audit import HERE, Act, note, read_chain
from defectline.components.common.trust.approvals import PREDICATE_TYPE, read_approvals
from defectline.components.common.trust.keys import TRUST_ENV
from defectline.components.common.trust.statements import Subject, make_statement
from defectline.components.deploy import approval
from defectline.components.deploy.approval import approve, reject
from defectline.components.deploy.deployer import open_deployer
from defectline.components.deploy.step import deploy
from defectline.components.serve.sources import fetch_champion


def acts(store) -> list[tuple[str, str, str]]:
    return [(one.act, one.by, one.result) for one in read_chain(store, AUDIT, Act)[0]]


@pytest.fixture
def wait(judged, store, tmp_path):
    """Let the judged bundle wait for so many people."""

    def deploys(asks: str, run: str = "run") -> str:
        folder = asking(judged.folder, tmp_path / f"asks-{run}", asks)
        return deploy(folder, store.uri, {}, run, "defects", "a=1")

    return deploys


def test_it_waits_and_nothing_serves(judged, store, wait):
    version = wait("required")
    outcome = read_outcome(store, "run")
    assert outcome
    assert (outcome.state, outcome.version) == ("awaiting_approval", version)
    command = f"defectline approve {version} --name defects --store {store.uri} --as YOU --reason WHY"
    assert outcome.advice == command
    assert read_champion(store, "defects") is None
    waiting = read_waiting(store, "defects")
    assert waiting
    assert (waiting.version, waiting.run) == (version, "run")
    with pytest.raises(SettingsError, match="There is no model defects to serve") as caught:
        fetch_champion(store.uri, "defects")
    assert f"{version} waits for approval" in caught.value.got
    assert f"`{command}`" in caught.value.fix
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
    with pytest.raises(SettingsError, match="is the champion already") as caught:
        approve(store, "defects", version, "Grace", "late", None)
    assert caught.value.got.startswith("approved by Ada, ")


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
    folder = tmp_path / "asks-run"
    found = read_approvals(store, "defects", version, folder, judged.bundle, [ada.public])
    assert [(one.by, one.said, one.signer) for one in found] == [("Ada", "approve", ada.public)]
    envelope = json.loads(store.read(place.key))
    payload = base64.b64decode(envelope["payload"]).replace(b"Ada", b"Eve")
    envelope["payload"] = base64.b64encode(payload).decode()
    store.write(place.key, json.dumps(envelope).encode())
    with pytest.raises(BundleError, match="or was changed since"):
        read_approvals(store, "defects", version, folder, judged.bundle, [ada.public])


@pytest.fixture
def signed(judged, store, tmp_path, monkeypatch):
    """The judged bundle, signed by the pipeline, in a store where keys are trusted; the people's keys."""
    keys = tmp_path / "keys"
    people = {name: write_keys(keys, name) for name in ("pipeline", "ada", "grace")}
    folder = asking(judged.folder, tmp_path / "signed", "two", people["pipeline"])
    monkeypatch.setenv(TRUST_ENV, str(keys))
    version = deploy(folder, store.uri, {}, "run")
    return version, people


def test_where_keys_are_trusted_approvals_are_signed_by_two_of_them(store, signed, tmp_path):
    outcome = read_outcome(store, "run")
    assert outcome
    assert outcome.advice.endswith(" --key YOUR.key")
    version, people = signed
    with pytest.raises(SettingsError, match="must be signed here"):
        approve(store, "defects", version, "Ada", "fine", None)
    with pytest.raises(SettingsError, match="must be signed here"):
        approve(store, "defects", version, "Eve", "fine", write_keys(tmp_path / "other", "eve"))
    with pytest.raises(SettingsError, match="Who signed the bundle cannot decide"):
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


@pytest.mark.parametrize("text", ["", "  ", "a\nb", "\x1b[31mred", "x" * 1001])
def test_names_and_reasons_that_cannot_be_kept(store, wait, text):
    version = wait("required")
    for name, reason in ((text, "fine"), ("Ada", text)):
        with pytest.raises(SettingsError, match=r"is missing|cannot be kept"):
            approve(store, "defects", version, name, reason, None)
    assert acts(store) == []


def test_one_that_does_not_wait(store, wait):
    version = wait("required")
    with pytest.raises(SettingsError, match="There is no version") as caught:
        reject(store, "defects", "v20260101-000000-000001", "Ada", "no", None)
    assert caught.value.got == f"{version} waits"
    with pytest.raises(SettingsError, match="There is no version") as caught:
        approve(store, "plates", version, "Ada", "yes", None)
    assert caught.value.got == "none waits"


def test_one_that_was_decided(judged, store, wait):
    """Which another one replaced since, so that it is not the champion."""
    version = wait("required")
    approve(store, "defects", version, "Ada", "fine", None)
    champion = read_champion(store, "defects")
    assert champion
    later = champion.model_copy(update={"version": "v20990101-000000-000001"})
    store.write(champion_key("defects"), later.model_dump_json().encode())
    note(store, "deploy", "defects", later.version, "run later", HERE)
    for decide in (approve, reject):
        with pytest.raises(SettingsError, match="was decided already") as caught:
            decide(store, "defects", version, "Grace", "late", None)
        assert caught.value.got.startswith("approved by Ada, ")


def test_one_that_waited_for_nobody(judged, store):
    publish_folder(judged.folder, store, model_folder("defects", judged.bundle.version))
    with pytest.raises(SettingsError, match="does not wait for approval"):
        approve(store, "defects", judged.bundle.version, "Ada", "yes", None)


def test_a_deployment_that_was_cut_off_goes_on(store, wait, monkeypatch):
    """By the same person, who has approved it already."""
    version = wait("required")
    with monkeypatch.context() as patch:
        patch.setattr(approval, "open_deployer", _killed)
        with pytest.raises(KeyboardInterrupt):
            approve(store, "defects", version, "Ada", "fine", None)
    assert read_champion(store, "defects") is None
    # Nobody can say no any more, since it may be under way.
    with pytest.raises(Conflict, match="was approved, and is being deployed"):
        reject(store, "defects", version, "Bob", "no", None)
    assert approve(store, "defects", version, "Ada", "fine", None).startswith(
        f"{version} is approved by Ada, and"
    )
    champion = read_champion(store, "defects")
    assert champion
    assert champion.version == version


def _killed(*_):
    raise KeyboardInterrupt


def test_two_at_once_are_both_counted(store, wait, monkeypatch):
    """Each has read that nobody said anything yet."""
    version = wait("two")
    read = approval.read_approvals
    approve(store, "defects", version, "Ada", "fine", None)
    seen = []

    def first_sees_nobody(*given):
        seen.append(given)
        return [] if len(seen) == 1 else read(*given)

    monkeypatch.setattr(approval, "read_approvals", first_sees_nobody)
    said = approve(store, "defects", version, "Bob", "fine", None)
    assert said.startswith(f"{version} is approved by Ada and Bob, and the champion")


def test_what_was_not_approved_is_not_gone_back_to(judged, store, wait):
    version = wait("two")
    approve(store, "defects", version, "Ada", "fine", None)
    with pytest.raises(BundleError, match="was not approved") as caught:
        open_deployer(store.uri, "defects", {}).roll_back(version)
    assert caught.value.got == "approved by 1"
    reject(store, "defects", version, "Bob", "escapes a scratch", None)
    with pytest.raises(BundleError, match="was rejected"):
        open_deployer(store.uri, "defects", {}).roll_back(version)
    assert read_champion(store, "defects") is None


def test_the_bundle_says_how_many_and_not_what_waits(store, wait):
    """waiting.json is nobody's word."""
    version = wait("two")
    assert b"two" not in store.read("models/defects/waiting.json")
    assert "1 more person" in approve(store, "defects", version, "Ada", "fine", None)
