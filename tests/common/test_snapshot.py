"""What a snapshot is called, and what its packs and readers see."""

import hashlib
from pathlib import Path

import pytest
from pictures import accepted

from defectline.components.common.errors import StoreError
from defectline.components.common.snapshot import fingerprint, read_pairs, snapshot_id
from defectline.components.common.storage.folder import FolderStorage


def test_the_fingerprint_is_as_defined():
    rows = [accepted(2, "OK"), accepted(1, "NG"), accepted(3, "OK")._replace(status="rejected")]
    lines = [f"{r.label}\t{r.id}\t{r.image_sha256}\t{r.mask_sha256}" for r in rows[:2]]
    assert fingerprint(rows) == hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    assert fingerprint(reversed(rows)) == fingerprint(rows)
    elsewhere = [row._replace(image_version="x", split="test", pack="y", width=9) for row in rows]
    assert fingerprint(elsewhere) == fingerprint(rows)


@pytest.mark.parametrize("field", ["id", "label", "image_sha256", "mask_sha256"])
def test_every_part_of_the_fingerprint_counts(field: str):
    rows = [accepted(1, "OK"), accepted(2, "OK")]
    assert fingerprint([rows[0]._replace(**{field: "x"}), rows[1]]) != fingerprint(rows)


def test_a_snapshots_id_covers_what_its_reader_sees():
    row = accepted(1, "OK", "train")
    base = snapshot_id([row])
    for change in ({"split": "test"}, {"status": "rejected"}, {"reason": "x"}, {"mask_sha256": "0"}):
        assert snapshot_id([row._replace(**change)]) != base
    for change in ({"image_version": "x"}, {"pack": "x"}):
        assert snapshot_id([row._replace(**change)]) == base


@pytest.mark.parametrize("ids", [("OK/a.b", "OK/a%2Eb"), ("OK/a/b", "OK/a%2Fb"), ("OK/a", "OK/a.image")])
def test_members_of_a_pack_have_different_names(ids: tuple[str, str]):
    names = {accepted(1, "OK")._replace(id=id).member(kind) for id in ids for kind in ("image", "mask")}
    assert len(names) == 4
    # WebDataset takes what stands before the first dot as the sample's name.
    assert len({name.split(".")[0] for name in names}) == 2


def test_a_snapshot_that_is_not_there_is_named(tmp_path: Path):
    store = FolderStorage(tmp_path / "store")
    store.write("other", b"")
    with pytest.raises(StoreError, match="holds no snapshot 0123"):
        read_pairs(store, "0123")
