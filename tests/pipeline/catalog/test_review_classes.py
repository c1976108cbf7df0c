"""Frames of a model of several classes on their way to the labelled images."""

from pathlib import Path

import numpy as np
import pytest
from bundles import levels
from kinds import CLASSES, snapshot_of_kinds, write_kinds
from pictures import encode, noise

from defectline.components.common.errors import SettingsError, SourceError
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.inference.class_maps import of_output
from defectline.components.common.inference.inspection import answer, to_prediction
from defectline.components.common.review import frame_id
from defectline.components.common.snapshot import read_pairs
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.serve.monitoring.review import Reviewer
from defectline.components.serve.settings import ReviewSettings
from defectline.pipeline.catalog.review import accept, list_frames
from defectline.pipeline.catalog.review_export import export

SIZE = 64
PICTURE = encode(noise(7, SIZE))


@pytest.fixture
def kept(tmp_path) -> FolderStorage:
    """A store with one frame, in which a dent and a stain were found."""
    store = FolderStorage(tmp_path / "store")
    score_map, likely = np.zeros((SIZE, SIZE), np.uint16), np.zeros((SIZE, SIZE, 3), np.float32)
    for top, number in ((10, 0), (30, 2)):
        score_map[top : top + 6, 10:22], likely[top : top + 6, 10:22, number] = 900, 0.9
    found = to_prediction(answer(score_map, 0.5, 4, of_output(CLASSES, likely, SIZE, SIZE)))
    reviewer = Reviewer(store, "plates", ReviewSettings(review_share=1))
    reviewer.offer(PICTURE, 0.9, levels(), lambda: {**found, "model_version": "v1", "latency_ms": 1.0})
    assert reviewer.close(60)
    return store


def exported(store: FolderStorage, source: Path) -> np.ndarray:
    (item,) = list_frames(store, "plates", pytest.fail)
    done = export(store, "plates", FolderStorage(source), pytest.fail)
    assert len(done.new) == 1
    return decode_mask((source / f"NG_MSK/review-{item.frame.id}.png").read_bytes(), numbered=True)


def test_a_predicted_mask_gets_the_sources_own_numbers(kept, tmp_path):
    source = write_kinds(tmp_path / "source")
    (source / "classes.csv").write_text("value,name\n1,stain\n2,scratch\n3,dent\n")
    accept(kept, "plates", frame_id(PICTURE), "NG")
    mask = exported(kept, source)
    assert (mask[10:16, 10:22] == 3).all()
    assert (mask[30:36, 10:22] == 1).all()
    assert np.count_nonzero(mask) == 2 * 72


def test_a_class_that_the_source_has_no_number_for(kept, tmp_path):
    source = write_kinds(tmp_path / "source")
    (source / "classes.csv").write_text("value,name\n1,dent\n2,scratch\n")
    accept(kept, "plates", frame_id(PICTURE), "NG")
    with pytest.raises(SourceError, match="no number for the class stain"):
        export(kept, "plates", FolderStorage(source), pytest.fail)


def test_a_drawn_mask_holds_the_sources_numbers(kept, tmp_path):
    drawn = np.zeros((SIZE, SIZE), np.uint8)
    drawn[20:30, 20:30] = 255
    with pytest.raises(SettingsError) as caught:
        accept(kept, "plates", frame_id(PICTURE), "NG", encode(drawn))
    assert "numbers of classes" in caught.value.expected
    drawn[40:50, 20:30] = 2
    accept(kept, "plates", frame_id(PICTURE), "NG", encode(drawn))
    source = write_kinds(tmp_path / "source")
    assert (exported(kept, source) == drawn).all()
    snapshot = snapshot_of_kinds(source, tmp_path / "store")
    (pair,) = [pair for pair in read_pairs(kept, snapshot) if "review-" in pair.id]
    assert (pair.defect_px, pair.status) == (100, "accepted")
