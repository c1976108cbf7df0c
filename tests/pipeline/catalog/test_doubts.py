"""Labels that cross-validation doubts: from a planted mistake to the next snapshot without it."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from commands import defectline
from networks import LIMITS, SIZE, draw, write_model, write_source
from PIL import Image

from defectline.components.common.errors import SettingsError
from defectline.components.common.images.masks import decode_mask, encode_mask
from defectline.components.common.snapshot import Pair, read_pairs
from defectline.components.common.storage import open_storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.evaluate.step import evaluate
from defectline.components.ingest.labels.corrections import Correction, parse_corrections
from defectline.components.ingest.step import ingest
from defectline.pipeline.catalog.doubts import Doubt, find_doubts, queue_doubts
from defectline.pipeline.catalog.review import Item, accept, doubts, list_frames, predicted_mask
from defectline.pipeline.catalog.review_export import export

WRONG = ("OK/wrong.png", "NG/wrong.png", "NG/elsewhere.png")


class Tried(NamedTuple):
    source: Path
    crossval: FolderStorage
    store: FolderStorage
    scratch: np.ndarray
    """The true mask of the first of WRONG."""


@pytest.fixture
def tried(tmp_path) -> Tried:
    """A source with a scratch that is labelled OK, a good plate that is labelled NG, and a mask that lies
    elsewhere; and a store in which two seeds judged its test part."""
    source, rng = write_source(tmp_path / "source"), np.random.default_rng(9)
    scratched, scratch = draw("NG", rng)
    clean, _ = draw("OK", rng)
    moved, _ = draw("NG", rng)
    marks = np.zeros((SIZE, SIZE), np.uint8)
    cv2.rectangle(marks, (50, 50), (60, 60), 255, -1)
    for key, image, mask in zip(WRONG, (scratched, clean, moved), (scratch * 0, marks, marks), strict=True):
        label, _, name = key.partition("/")
        Image.fromarray(image).save(source / key)
        Image.fromarray(mask).save(source / f"{label}_MSK" / name)
    (source / "splits.csv").write_text("id,split\n" + "".join(f"{key},test\n" for key in WRONG))
    root = tmp_path / "crossval"
    snapshot = ingest(str(source), str(root), "one")
    for seed in range(2):
        folder = tmp_path / f"seed-{seed}"
        folder.mkdir()
        model = write_model(folder / "model")
        run = f"crossval-{seed}"
        evaluate(str(root), snapshot, model, folder / "bundle", folder / "report.html", LIMITS, run)
    (tmp_path / "store").mkdir()
    return Tried(source, FolderStorage(root), FolderStorage(tmp_path / "store"), scratch > 0)


def _found(tried: Tried) -> dict[str, Doubt]:
    return {doubt.pair.image_key: doubt for doubt in find_doubts(tried.crossval)}


def _queued(tried: Tried) -> dict[str, Item]:
    queue_doubts(tried.crossval, tried.store, "plates", list(_found(tried).values()))
    return {item.frame.image: item for item in list_frames(tried.store, "plates", pytest.fail)}


def test_the_planted_mistakes_are_found_and_no_others(tried):
    found = _found(tried)
    assert set(found) == set(WRONG)
    assert found["OK/wrong.png"].worth > 0.9
    assert found["NG/wrong.png"].worth > 0.9
    assert found["NG/elsewhere.png"].score > 0.9


def test_one_network_that_agrees_is_enough_to_trust_a_label(tried):
    key = "runs/crossval-1/counts.json"
    text = tried.crossval.read(key).decode()
    right = text.replace(
        '"id": "OK/wrong", "label": "OK", "verdict": "NG"', '"id": "OK/wrong", "label": "OK", "verdict": "OK"'
    )
    assert right != text
    tried.crossval.write(key, right.encode())
    assert set(_found(tried)) == set(WRONG[1:])


def test_pictures_come_to_the_review_once_with_label_and_mask(tried):
    items = _queued(tried)
    assert set(items) == set(WRONG)
    frame = items["OK/wrong.png"].frame
    assert (frame.reason, frame.labelled, frame.prediction["verdict"]) == ("label", "OK", "NG")
    assert frame.source == tried.source.as_uri()
    assert not predicted_mask(frame).any()
    assert predicted_mask(items["NG/wrong.png"].frame).sum() == 121
    assert queue_doubts(tried.crossval, tried.store, "plates", list(_found(tried).values())) == 0


def test_what_was_wrong_is_right_in_the_next_snapshot(tried):
    items = _queued(tried)
    drawn = encode_mask(tried.scratch.astype(np.uint8))
    decide = {key: (tried.store, "plates", items[key].key.id) for key in WRONG}
    accept(*decide["OK/wrong.png"], "NG", drawn, by="ada")
    accept(*decide["NG/wrong.png"], "OK", by="ada")
    # This one was right, says ada: nothing is to be changed.
    accept(*decide["NG/elsewhere.png"], "NG", by="ada")
    done = export(tried.store, "plates", open_storage(str(tried.source)), pytest.fail)
    assert (sorted(done.new), done.there, done.conflicts) == (["NG/wrong.png", "OK/wrong.png"], 1, [])
    rows = {row.image: row for row in parse_corrections((tried.source / "corrections.csv").read_bytes())}
    assert rows["NG/wrong.png"]._replace(decided="") == Correction("NG/wrong.png", "OK", by="ada")
    mask = decode_mask((tried.source / rows["OK/wrong.png"].mask).read_bytes())
    assert np.array_equal(mask > 0, tried.scratch)
    # Once more changes nothing.
    again = export(tried.store, "plates", open_storage(str(tried.source)), pytest.fail)
    assert (again.new, again.there) == ([], 3)
    after = _labels(tried)
    assert (after["OK/wrong.png"].label, after["OK/wrong.png"].defect_px) == ("NG", int(tried.scratch.sum()))
    assert after["NG/wrong.png"].label == "OK"
    assert after["NG/elsewhere.png"].label == "NG"
    assert {after[key].split for key in WRONG} == {"test"}


def _labels(tried: Tried) -> dict[str, Pair]:
    store = str(tried.store.root)
    snapshot = ingest(str(tried.source), store, "after")
    return {pair.image_key: pair for pair in read_pairs(open_storage(store), snapshot) if pair.accepted}


def test_corrections_of_others_stay(tried):
    (tried.source / "corrections.csv").write_text("image,label\nOK/000.png,ignore\nOK/wrong.png,OK\n")
    items = _queued(tried)
    drawn = encode_mask(tried.scratch.astype(np.uint8))
    accept(tried.store, "plates", items["OK/wrong.png"].key.id, "NG", drawn)
    export(tried.store, "plates", open_storage(str(tried.source)), pytest.fail)
    rows = parse_corrections((tried.source / "corrections.csv").read_bytes())
    assert [(row.image, row.label) for row in rows] == [("OK/000.png", "ignore"), ("OK/wrong.png", "NG")]


def test_another_source_gets_nothing(tried, tmp_path):
    items = _queued(tried)
    accept(tried.store, "plates", items["NG/wrong.png"].key.id, "OK")
    other = write_source(tmp_path / "other", seed=3)
    done = export(tried.store, "plates", open_storage(str(other)), pytest.fail)
    assert done == ([], 0, [])
    assert not (other / "corrections.csv").exists()


def test_a_mask_may_lie_elsewhere_than_the_doubted_one(tried):
    frame = _queued(tried)["NG/elsewhere.png"].frame
    assert doubts(frame, "NG", encode_mask(tried.scratch.astype(np.uint8))) == ""


def test_the_command_lists_them(tried):
    options = ["--crossval", str(tried.crossval.root), "--store", str(tried.store.root), "--name", "plates"]
    shown = defectline("review", "labels", *options).stdout
    assert "3 labels are doubted; 3 are new in the review" in shown
    assert "OK/wrong.png" in shown
    assert "the surest 1 of them; 0 are new" in defectline("review", "labels", *options, "--most", "1").stdout


def test_without_a_cross_validation_it_says_what_to_do(tmp_path):
    with pytest.raises(SettingsError, match="Nothing was cross-validated") as caught:
        find_doubts(FolderStorage(tmp_path))
    assert "defectline crossval SOURCE" in caught.value.fix
