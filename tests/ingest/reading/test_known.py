"""What was read before is the same row, in memory once."""

from pathlib import Path

from pictures import take

from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.reading.known import read_before
from defectline.components.ingest.reading.new import sort_known
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import list_source


def test_pairs_that_did_not_change_are_the_rows_of_the_last_snapshot(source: Path, store: FolderStorage):
    take(source, store)
    storage = FolderStorage(source)
    labels, _ = list_source(storage, store.uri, IngestSettings())
    before = read_before(store, storage.uri, labels.layout.records)
    rows, unread, _ = sort_known(labels.layout, before.known, {})
    assert not unread
    by_id = {row.id: row for row in before.rows}
    assert rows
    # Groups by looks are found again.
    assert all(row is by_id[row.id] or by_id[row.id].group.startswith("~") for row in rows)
    keys = {id(record.image.key) for record in labels.layout.records}
    assert all(id(row.image_key) in keys for row in rows)
