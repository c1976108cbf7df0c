"""The ingest step as KFP runs it."""

from pathlib import Path

from kfp.dsl import HTML

from defectline.components.common.snapshot import read_head
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.component import ingest as ingest_component


def test_the_component_hands_its_arguments_on(source: Path, store: FolderStorage):
    page = HTML(uri=str(store.root.parent / "kfp/pictures"))
    snapshot = ingest_component(
        str(source), str(store.root), "now", "defects", "", 1, 0.1, False, "all", "none", "auto", "", page
    )
    assert snapshot == read_head(store)
    assert Path(page.path).read_bytes() == store.read("runs/now/pictures.html")
