"""provenance.json: every digest in it is of something that is there."""

import hashlib

from networks import Judged

from defectline.components.common.storage import checksums, open_storage
from defectline.components.common.trust.provenance import IMAGES_ENV, bundle_subject, parse_provenance
from defectline.components.common.trust.statements import open_statement
from defectline.components.evaluate.provenance import _software


def read(judged: Judged):
    opened = open_statement((judged.folder / checksums.PROVENANCE).read_bytes(), (), "x")
    return opened, parse_provenance(opened, "x")


def test_it_is_about_the_sealed_bundle(judged):
    opened, provenance = read(judged)
    assert opened.subject == bundle_subject(judged.folder, judged.bundle)
    assert opened.signer is None
    asked = provenance.build_definition.external_parameters
    assert (asked.run, asked.approval) == ("one", "none")
    assert asked.source == open_storage(str(judged.source)).uri
    assert provenance.gate == judged.result.state


def test_every_digest_is_of_what_the_store_has(judged):
    store, (_, provenance) = open_storage(str(judged.store)), read(judged)
    made = {one.name: one for one in provenance.run_details.byproducts}
    assert {*made} == {"metrics.json", "gate.json", "counts.json", "report.html", "summary.md"}
    used = [provenance.used(name) for name in ("index.parquet", "snapshot.json")]
    for one in (*made.values(), *used):
        assert hashlib.sha256(store.read(one.uri)).hexdigest() == one.sha256
    # The run has it as well, whatever becomes of the bundle.
    assert store.read("runs/one/provenance.json") == (judged.folder / "provenance.json").read_bytes()


def test_the_source_by_its_fingerprint(judged):
    _, provenance = read(judged)
    source = provenance.used("source")
    assert source.sha256 == judged.bundle.data.fingerprint


def test_code_and_images(monkeypatch):
    digest = "ab" * 32
    monkeypatch.setenv(IMAGES_ENV, f'{{"train": "r/train@sha256:{digest}", "serve": "r/serve:1.0"}}')
    found = {one.name: one for one in _software()}
    assert len(found["code"].sha256) == 64
    assert found["image train"].sha256 == digest
    assert (found["image serve"].uri, found["image serve"].sha256) == ("r/serve:1.0", "")
