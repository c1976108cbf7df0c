"""The chain from a version back to the pictures, and each way to break it."""

import hashlib
import json
import shutil

import pytest
from networks import Judged, run_evaluate
from signed import make_signed, write_keys

from defectline.components.common.errors import BundleError, SettingsError
from defectline.components.common.layout import AUDIT, audit_key, champion_key
from defectline.components.common.records import read_champion
from defectline.components.common.reporting.audit import HERE, Act, note, read_chain
from defectline.components.common.storage import checksums
from defectline.components.common.trust.keys import new_key
from defectline.components.common.trust.provenance import Resource
from defectline.components.common.trust.statements import Subject, make_statement
from defectline.components.deploy.approval import approve
from defectline.components.deploy.step import deploy
from defectline.components.serve.sources import fetch_champion
from defectline.pipeline.catalog.audit import note_decision
from defectline.pipeline.catalog.chain import _reviews, verify_folder, verify_version


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return make_signed(tmp_path_factory.mktemp("signed") / "all", patch)


@pytest.fixture
def signed(original, tmp_path):
    return original.copied(tmp_path / "copy")


def verify(signed, version: str = "", trusted=None):
    keys = [signed.key.public] if trusted is None else trusted
    return verify_version(signed.store, "defects", version or signed.version, keys)


def test_all_of_it_is_proved(original):
    chain = verify(original)
    assert chain.broken is None
    assert chain.signed
    of_last = [link.name for link in chain.links if link.version == original.version]
    assert of_last == [
        "seal",
        "signature",
        "provenance",
        "results",
        "snapshot",
        "champion",
        "gate",
        "deployment",
    ]
    # And of the one before it.
    assert ("signature", original.bundles[0].version) in [(link.name, link.version) for link in chain.links]
    assert {link.state for link in chain.links} == {"proved"}


def test_without_keys_seals_alone_are_compared(original):
    chain = verify(original, trusted=())
    assert chain.broken is None
    assert not chain.signed
    assert "signature" not in [link.name for link in chain.links]


def test_another_key(original):
    chain = verify(original, trusted=[new_key("other").public])
    assert chain.broken
    assert (chain.broken.name, chain.broken.version) == ("signature", original.version)


def test_of_what_is_not_signed_every_link_is_listed(signed):
    """The first broken one is the signature; what the provenance says is compared, and proves nothing."""
    for bundle in signed.bundles:
        folder = signed.store.root / "models/defects" / bundle.version
        (folder / checksums.SIGNATURE).unlink()
        statement = json.loads((folder / checksums.PROVENANCE).read_text())
        (folder / checksums.PROVENANCE).write_text(json.dumps(statement | {"signatures": []}))
    chain = verify(signed)
    assert chain.broken
    assert (chain.broken.name, chain.broken.version) == ("signature", signed.version)
    states = {link.name: link.state for link in chain.links if link.version == signed.version}
    assert states == {
        "seal": "proved",
        "signature": "broken",
        "provenance": "broken",
        "results": "not proved",
        "snapshot": "not proved",
        "champion": "not proved",
        "gate": "not proved",
        "deployment": "proved",
    }
    told = {link.name: link.says for link in chain.links if link.version == signed.version}
    assert told["gate"].startswith("not signed by anybody who is trusted: passed, ")
    # What was changed shows all the same.
    spoil(signed, "results")
    changed = next(link for link in verify(signed).links if link.name == "results")
    assert (changed.state, changed.says) == ("broken", "runs/run2/gate.json was changed")


def test_without_a_provenance_every_link_is_listed(signed):
    spoil(signed, "provenance gone")
    states = {link.name: link.state for link in verify(signed).links if link.version == signed.version}
    assert [name for name, state in states.items() if state == "not proved"] == [
        "results",
        "snapshot",
        "gate",
    ]


def test_no_such_version(original):
    with pytest.raises(SettingsError, match=r"There is no version v0 of defects"):
        verify(original, "v0")


def spoil(signed, what: str) -> None:
    store, version, before = signed.store, signed.version, signed.bundles[0].version
    folder = store.root / "models/defects" / version
    if what == "weights":
        file = folder / "openvino/model.bin"
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    elif what == "weights, resealed":
        file = folder / "openvino/model.bin"
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        checksums.seal(folder)
    elif what == "bundle.json, resealed":
        content = json.loads((folder / "bundle.json").read_text())
        (folder / "bundle.json").write_text(json.dumps(content | {"threshold": 0.9}))
        checksums.seal(folder)
    elif what == "the old one in its place":
        shutil.rmtree(folder)
        shutil.copytree(store.root / "models/defects" / before, folder)
    elif what == "provenance":
        subject = Subject(f"defects/{version}", checksums.sha256_file(folder / checksums.NAME))
        (folder / "provenance.json").write_bytes(make_statement(subject, "x", {}, new_key("eve")))
    elif what == "provenance gone":
        (folder / "provenance.json").unlink()
    elif what == "the end of the log":
        lines = store.read(AUDIT).splitlines(keepends=True)
        store.write(AUDIT, b"".join(lines[:-1]))
    elif what == "results":
        key = "runs/run2/gate.json"
        store.write(key, store.read(key).replace(b"true", b"false"))
    elif what == "results gone":
        store.delete("runs/run2/report.html")
    elif what == "snapshot":
        key = f"{signed.bundles[-1].data.snapshot}"
        found = next(one.key for one in store.list("snapshots/") if one.key.endswith(f"{key}/index.parquet"))
        store.write(found, store.read(found) + b"x")
    elif what == "gate":
        # Written again as a whole, so that it fits.
        acts, _ = read_chain(store, AUDIT, Act)
        store.delete(AUDIT)
        for one in acts:
            if (one.act, one.subject) != ("gate", version):
                note(store, one.act, one.model, one.subject, one.by, one.result)
    elif what == "a line of the log":
        lines = store.read(AUDIT).splitlines(keepends=True)
        store.write(AUDIT, b"".join(lines[:1] + lines[2:]))
    elif what == "the one before":
        shutil.rmtree(store.root / "models/defects" / before)


@pytest.mark.parametrize(
    ("what", "link", "says"),
    [
        ("weights", "seal", "openvino/model.bin is not what was sealed"),
        ("weights, resealed", "signature", "is not what was signed. Got another"),
        ("bundle.json, resealed", "signature", "is not what was signed. Got another"),
        ("the old one in its place", "bundle", "put in its place"),
        ("provenance", "provenance", "not signed by anybody who is trusted"),
        ("provenance gone", "provenance", "was taken away"),
        ("the end of the log", "log", "a line was taken out"),
        ("results", "results", "runs/run2/gate.json was changed"),
        ("results gone", "results", "runs/run2/report.html is gone"),
        ("snapshot", "snapshot", "index.parquet was changed"),
        ("gate", "gate", "it was taken out"),
        ("a line of the log", "log", "line 2 does not follow"),
        ("the one before", "bundle", "is gone, and the log does not say why"),
    ],
)
def test_each_broken_link_is_named(signed, what, link, says):
    spoil(signed, what)
    broken = verify(signed).broken
    assert broken is not None
    assert broken.name == link
    assert says in broken.says


def test_what_prune_removed_is_not_there(signed):
    before = signed.bundles[0].version
    shutil.rmtree(signed.store.root / "models/defects" / before)
    note(signed.store, "prune", "defects", before, "ada", "old")
    chain = verify(signed)
    assert chain.broken is None
    gone = next(link for link in chain.links if link.version == before)
    assert (gone.state, gone.name) == ("not there", "bundle")


def test_reviews_grow_and_what_was_there_stays(original, tmp_path):
    """A later decision changes nothing; an earlier one that is changed breaks the link."""
    store = original.copied(tmp_path / "copy").store
    for number in range(3):
        note_decision(
            store, "defects", f"2026-01-0{number + 1}T00:00:00+00:00", "ada", f"f{number}", "OK", ""
        )
        if number == 1:
            last = store.read(audit_key("defects")).splitlines()[-1]
            noted = Resource.of("reviews", audit_key("defects"), hashlib.sha256(last).hexdigest())
    assert _reviews(store, "v", noted).says == "the 2 decisions before it are as they were"
    data = store.read(audit_key("defects"))
    store.write(audit_key("defects"), data.replace(b"f0", b"f9", 1))
    assert _reviews(store, "v", noted).state == "broken"
    store.delete(audit_key("defects"))
    assert _reviews(store, "v", noted).state == "broken"


def test_a_bundle_alone(original, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(original.store.root / "models/defects" / original.version, folder)
    chain = verify_folder(folder, [original.key.public])
    assert [(link.name, link.state) for link in chain.links] == [
        ("seal", "proved"),
        ("signature", "proved"),
        ("provenance", "proved"),
    ]


def test_a_bundle_of_an_earlier_release(original, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(original.store.root / "models/defects" / original.version, folder)
    (folder / "provenance.json").unlink()
    content = json.loads((folder / "bundle.json").read_text())
    del content["approval"]
    (folder / "bundle.json").write_text(json.dumps(content))
    checksums.seal(folder)
    chain = verify_folder(folder, ())
    assert chain.broken is None
    assert chain.missing == ["provenance"]


def test_people_who_had_to_approve_it(tmp_path, monkeypatch):
    signed = make_signed(tmp_path / "all", monkeypatch, versions=1)
    store, keys = signed.store, [signed.key.public]
    judged = Judged(signed.folder / "one/store", *[None] * 7)._replace(
        snapshot=signed.bundles[0].data.snapshot
    )
    bundle, _ = run_evaluate(
        judged,
        tmp_path / "two",
        "two",
        cut=42,
        champion=signed.version,
        replace="not_worse",
        approval="required",
    )
    deploy(tmp_path / "two/bundle", store.uri, {}, "two")
    approvals = [
        link
        for link in verify_version(store, "defects", bundle.version, keys).links
        if link.name == "approval"
    ]
    assert [(one.state, one.says) for one in approvals] == [("not there", "waits for 1 to approve it")]
    # Somebody who may write there makes it the champion, and a line that says so.
    note(store, "rollback", "defects", bundle.version, "eve", HERE)
    champion = read_champion(store, "defects")
    assert champion
    record = champion.model_copy(update={"version": bundle.version})
    store.write(champion_key("defects"), record.model_dump_json().encode())
    broken = verify_version(store, "defects", bundle.version, keys).broken
    assert broken
    assert (broken.name, broken.says) == (
        "approval",
        f"{bundle.version} of defects was not approved. Got approved by 0.",
    )
    with pytest.raises(BundleError, match="was not approved"):
        fetch_champion(store.uri, "defects", [str(signed.public)])
    # Once somebody said yes, the row names the key.
    ada = write_keys(tmp_path / "people", "ada")
    approve(store, "defects", bundle.version, "Ada", "looked at it", ada)
    links = verify_version(store, "defects", bundle.version, [*keys, ada.public]).links
    (said,) = [one for one in links if one.name == "approval"]
    assert said.state == "proved"
    assert said.says.startswith(f"approve by Ada, signed with the key {ada.public}, ")
