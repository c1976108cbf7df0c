"""From a frame on the line to a pair that the next run learns from."""

import io
import json
import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from bundles import levels
from commands import contents, defectline
from networks import SIZE, Judged, draw, judge_model
from pictures import encode
from PIL import Image
from servers import S3Server

from defectline.components.common.errors import Conflict, SettingsError, SourceError, StoreError
from defectline.components.common.images.masks import decode_mask, encode_mask
from defectline.components.common.inference.inspection import answer, to_prediction
from defectline.components.common.inference.network import Network
from defectline.components.common.inference.novelty import Novelty
from defectline.components.common.layout import parse_frame_key
from defectline.components.common.review import Decision, Frame, frame_id
from defectline.components.common.snapshot import read_pairs
from defectline.components.common.storage import Storage, open_storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.step import ingest
from defectline.components.serve.monitoring import review as serving
from defectline.components.serve.monitoring.review import Reviewer
from defectline.components.serve.settings import ReviewSettings
from defectline.pipeline.catalog.review import accept, list_frames
from defectline.pipeline.catalog.review_export import export

ALL = ReviewSettings(review_share=1)
NONE = ReviewSettings(review_margin=0, review_share=0)


def _mask(defect: bool) -> np.ndarray:
    pixels = np.zeros((16, 16), np.uint8)
    pixels[4:7, 4:8] = defect
    return pixels


def _prediction(score: float) -> dict:
    found = answer(_mask(score > 0).astype(np.uint16) * round(score * 1000), 0.5, 4)
    return {**to_prediction(found), "model_version": "v1", "latency_ms": 1.0}


def _frame(number: int, kind: str = "PNG") -> bytes:
    return encode(np.random.default_rng(number).integers(0, 256, (16, 16), np.uint8), kind)


def _counts() -> dict[str, float]:
    drops = {reason: serving.DROPPED.labels(reason)._value.get() for reason in serving.DROPS}
    return {"written": serving.WRITTEN._value.get(), "failed": serving.FAILED._value.get(), **drops}


@pytest.fixture
def counted():
    """What the counters have gained since the test began."""
    before = _counts()
    return lambda: {name: value - before[name] for name, value in _counts().items() if value != before[name]}


def _offer(reviewer: Reviewer, picture: bytes, score: float) -> bool:
    return reviewer.offer(picture, score, levels(), lambda: _prediction(score))


def _keep(store: Storage, *frames: tuple[bytes, float], settings: ReviewSettings = ALL) -> None:
    """Offer frames with their scores to a server of the model `plates`, and end it."""
    reviewer = Reviewer(store, "plates", settings)
    for picture, score in frames:
        _offer(reviewer, picture, score)
    assert reviewer.close(60)


def _ids(store: Storage) -> list[str]:
    return [item.frame.id for item in list_frames(store, "plates", pytest.fail)]


# What is kept


def test_a_frame_lies_beside_what_was_said_of_it(tmp_path, counted):
    store, prediction = FolderStorage(tmp_path / "new"), _prediction(0.55)
    for kind, suffix in [("PNG", "png"), ("JPEG", "jpg"), ("BMP", "bmp"), ("TIFF", "tif"), ("WEBP", "webp")]:
        picture = _frame(1, kind)
        _keep(store, (picture, 0.55))
        (key,) = [
            key
            for found in store.list("review/plates/")
            if (key := parse_frame_key(found.key)) and key.id == frame_id(picture)
        ]
        frame = Frame.model_validate_json(store.read(key.frame))
        assert frame.picture == f"{frame.id}.{suffix}"
        assert store.read(key.folder + frame.picture) == picture
        assert frame.prediction == prediction
        assert (frame.model, frame.version, frame.reason, frame.threshold) == (
            "plates",
            "v1",
            "near_level",
            0.5,
        )
        assert key.date == frame.taken[:10]
        assert abs((datetime.now(UTC) - datetime.fromisoformat(frame.taken)).total_seconds()) < 600
    assert counted() == {"written": 5}


def test_frames_in_doubt_are_kept_and_others_come_by_chance(tmp_path):
    store, scores = FolderStorage(tmp_path), [0.01, 0.3, 0.5, 0.6, 0.99, 0.0]
    frames = [(_frame(n), score) for n, score in enumerate(scores)]
    _keep(store, *frames, settings=NONE)
    doubted = [frame_id(picture) for picture, score in frames if 0.3 <= score <= 0.6]
    assert sorted(_ids(store)) == sorted(doubted)

    _keep(store, *frames, settings=ALL)
    reasons = {item.frame.id: item.frame.reason for item in list_frames(store, "plates", print)}
    assert [reasons[frame_id(picture)] for picture, _ in frames] == [
        "random",
        *["near_level"] * 3,
        "random",
        "random",
    ]


def test_of_frames_of_a_new_kind_the_first_is_kept(tmp_path):
    """By this server, and by the next, which finds what it looked like in the store."""
    store = FolderStorage(tmp_path)
    novelty = Novelty(np.zeros((1, 4), np.float32), np.ones(4, np.float32), np.linspace(0, 1, 50))

    def see(*features: float) -> list[str]:
        reviewer = Reviewer(store, "plates", NONE)
        for feature in features:
            seen = np.full((1, 4), feature, np.float32)
            picture, score = _frame(int(100 * feature) + 10_000), 0.99 if feature == 7 else 0.001
            reviewer.offer(picture, score, levels(), lambda: _prediction(0), novelty=novelty, features=seen)
        assert reviewer.close(60)
        frames = {item.frame.id: item.frame for item in list_frames(store, "plates", pytest.fail)}
        return [
            frames[id].reason
            for feature in features
            if (id := frame_id(_frame(int(100 * feature) + 10_000))) in frames
        ]

    assert see(0.5, 0.99) == []
    # What is judged sure and wrong is novel too; 9.5 looks like 9.
    assert see(9, 9.5, -9, 7) == ["novel"] * 3
    assert see(9.2, 30) == ["novel"]
    worths = [item.frame.worth for item in list_frames(store, "plates", pytest.fail)]
    assert len(worths) == 4
    assert all(0 < worth < 1 for worth in worths)


def test_a_random_share_is_a_share(tmp_path):
    settings = ReviewSettings(review_share=0.1, review_per_day=10_000)
    reviewer = Reviewer(FolderStorage(tmp_path), "plates", settings)
    # Identical pictures are written once: only the choice is looked at.
    chosen = sum(reviewer.offer(_frame(1), 0.001, levels(), dict) for _ in range(600))
    reviewer.close(0)
    assert 25 < chosen < 110


def test_the_same_picture_is_written_once_by_this_server_and_the_next(tmp_path, counted):
    store, picture = FolderStorage(tmp_path), _frame(1)
    _keep(store, (picture, 0.5), (picture, 0.5))
    before = contents(tmp_path)
    # On an earlier day, as far as the next server knows.
    (day,) = (tmp_path / "review/plates").iterdir()
    day.rename(day.with_name("2026-01-02"))
    _keep(store, (picture, 0.5))
    assert list(contents(tmp_path).values()) == list(before.values())
    assert counted() == {"written": 1}


LIMITED = ReviewSettings(review_share=0, review_per_day=3)


def test_a_day_has_a_limit_that_servers_share(tmp_path, counted):
    store = FolderStorage(tmp_path)
    _keep(store, *[(_frame(n), 0.5) for n in range(2)], settings=LIMITED)
    _keep(store, *[(_frame(n), 0.5) for n in range(10, 14)], settings=LIMITED)
    assert len(_ids(store)) == 3
    assert counted() == {"written": 3, "day_full": 3}


def test_the_best_frames_of_a_day_have_its_places_not_the_first(tmp_path, counted):
    """Of a server that is started again between, and of people who decide meanwhile."""
    store, scores = FolderStorage(tmp_path), [0.51, 0.35, 0.4, 0.45, 0.31, 0.48]
    frames = [(_frame(n), score) for n, score in enumerate(scores)]
    _keep(store, *frames[:3], settings=LIMITED)
    accept(store, "plates", frame_id(frames[0][0]), "NG")
    _keep(store, *frames[3:], settings=LIMITED)
    assert {item.frame.prediction["score"] for item in list_frames(store, "plates", pytest.fail)} == {
        0.45,
        0.48,
        0.51,
    }
    assert counted() == {"written": 5, "day_full": 1}
    # Nothing is left of those that went: three frames, one decision and its line in the audit file.
    assert len([name for name in contents(tmp_path) if not name.endswith(".lock")]) == 8


def test_what_somebody_asks_for_is_kept_though_it_had_to_go(tmp_path):
    store, (gone, better) = (
        FolderStorage(tmp_path),
        [(_frame(n), score) for n, score in enumerate((0.3, 0.45))],
    )
    reviewer = Reviewer(store, "plates", LIMITED.model_copy(update={"review_per_day": 1}))
    for picture, score in (gone, better, gone):
        _offer(reviewer, picture, score)
    reviewer.offer(gone[0], gone[1], levels(), lambda: _prediction(gone[1]), asked=True)
    assert reviewer.close(60)
    assert _ids(store) == [frame_id(gone[0])]
    (item,) = list_frames(store, "plates", pytest.fail)
    assert item.frame.reason == "asked"


class WriteOnly(FolderStorage):
    """A folder in which nothing may be removed."""

    def delete(self, key: str) -> None:
        raise StoreError(f"{key} cannot be removed.", got="403", expected="rights", fix="Ask for them.")


def test_where_nothing_may_be_removed_the_first_frames_keep_their_places(tmp_path, counted, caplog):
    frames = [(_frame(n), score) for n, score in enumerate([0.3, 0.35, 0.4, 0.45, 0.48])]
    _keep(WriteOnly(tmp_path), *frames, settings=LIMITED)
    assert sorted(_ids(FolderStorage(tmp_path))) == sorted(frame_id(picture) for picture, _ in frames[:3])
    assert counted() == {"written": 3, "day_full": 2}
    assert caplog.text.count("cannot be removed") == 1


class GatedFolder(FolderStorage):
    """A folder that lets nobody write until its gate is opened."""

    def __init__(self, root: Path):
        super().__init__(root)
        self.gate, self.reached = threading.Event(), threading.Event()

    def write(self, key: str, data: bytes) -> None:
        self.reached.set()
        assert self.gate.wait(60)
        super().write(key, data)


def test_a_store_that_hangs_delays_no_answer_and_no_end(tmp_path, counted):
    store = GatedFolder(tmp_path)
    reviewer = Reviewer(store, "plates", ALL)
    assert _offer(reviewer, _frame(0), 0.5)
    assert store.reached.wait(60)
    # The first is being written, and so many more can wait; no call blocks, or this would never end.
    taken = [_offer(reviewer, _frame(n), 0.5) for n in range(1, serving.MOST_WAITING + 6)]
    assert taken == [True] * serving.MOST_WAITING + [False] * 5
    assert not reviewer.close(0.1)
    assert not _offer(reviewer, _frame(999), 0.5)
    store.gate.set()
    assert reviewer.close(60)
    assert len(_ids(store)) == 1
    assert counted() == {"written": 1, "queue_full": 5, "stopped": serving.MOST_WAITING + 1}


def test_waiting_pictures_are_bounded_in_bytes(tmp_path, counted, monkeypatch):
    monkeypatch.setattr(serving, "MOST_WAITING_BYTES", 3 * len(_frame(0)))
    store = GatedFolder(tmp_path)
    reviewer = Reviewer(store, "plates", ALL)
    assert [_offer(reviewer, _frame(n), 0.5) for n in range(4)] == [True, True, True, False]
    store.gate.set()
    assert reviewer.close(60)
    assert counted() == {"written": 3, "queue_full": 1}
    assert reviewer._bytes == 0


def test_a_store_that_is_away_is_counted_logged_once_and_used_when_it_is_back(tmp_path, counted, caplog):
    root = tmp_path / "mount" / "store"
    root.parent.write_text("where the volume should be")
    reviewer = Reviewer(FolderStorage(root), "plates", ALL)
    with caplog.at_level(logging.WARNING, "defectline.review"):
        for number in range(3):
            _offer(reviewer, _frame(number), 0.5)
        while counted().get("failed") != 3:
            assert reviewer._thread.is_alive()
            time.sleep(0.01)
    assert len(caplog.records) == 1
    assert "are not kept" in caplog.text
    assert "Traceback" not in caplog.text
    root.parent.unlink()
    _offer(reviewer, _frame(9), 0.5)
    assert reviewer.close(60)
    assert _ids(FolderStorage(root)) == [frame_id(_frame(9))]
    assert counted() == {"failed": 3, "written": 1}


def test_an_unexpected_fault_does_not_end_the_thread(tmp_path, counted, caplog):
    store = FolderStorage(tmp_path)
    _keep(store, (b"no picture", 0.5), (_frame(1), 0.5))
    assert _ids(store) == [frame_id(_frame(1))]
    assert counted() == {"failed": 1, "written": 1}
    assert "Traceback" in caplog.text


def test_a_frame_without_its_json_is_not_whole_and_is_written_again(tmp_path):
    store, picture = FolderStorage(tmp_path), _frame(1)
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    store.write(f"review/plates/{today}/{frame_id(picture)}.png", picture)
    assert _ids(store) == []
    _keep(store, (picture, 0.5))
    assert _ids(store) == [frame_id(picture)]


# What is decided


@pytest.fixture
def kept(tmp_path) -> FolderStorage:
    """A store with one frame that was called NG and one that was called OK."""
    store = FolderStorage(tmp_path / "store")
    _keep(store, (_frame(1), 0.55), (_frame(2), 0.0))
    return store


NG, OK = frame_id(_frame(1)), frame_id(_frame(2))


def test_decisions_are_kept_and_may_be_changed(kept):
    assert [item.state for item in list_frames(kept, "plates", print)] == ["open", "open"]
    accept(kept, "plates", NG[:8], "NG")
    accept(kept, "plates", OK, "NG", encode(_mask(True) * 255))
    assert [item.state for item in list_frames(kept, "plates", print)] == ["accepted NG", "accepted NG"]
    accept(kept, "plates", OK, "OK")
    states = {item.frame.id: item.state for item in list_frames(kept, "plates", print)}
    assert states == {NG: "accepted NG", OK: "accepted OK"}


@pytest.mark.parametrize(
    ("start", "verdict", "mask", "says"),
    [
        ("", "OK", None, "no frame"),
        ("zz", "OK", None, "no frame zz"),
        (OK, "NG", None, "is empty"),
        (OK, "OK", _mask(False), "good part has no mask"),
        (NG, "NG", _mask(False), "does not fit"),
        (NG, "NG", np.full((4, 4), 255, np.uint8), "does not fit"),
    ],
)
def test_what_cannot_be_decided(kept, start, verdict, mask, says):
    before = contents(kept.root)
    with pytest.raises(SettingsError, match=says):
        accept(kept, "plates", start, verdict, None if mask is None else encode(mask))
    assert contents(kept.root) == before


def test_what_is_no_mask(kept):
    with pytest.raises(SettingsError, match="is not a mask"):
        accept(kept, "plates", NG, "NG", b"nothing")


def test_starts_of_several_ids_are_not_enough(tmp_path):
    store = FolderStorage(tmp_path)
    _keep(store, *[(_frame(n), 0.5) for n in range(17)])  # more than there are digits
    twice = next(start for start in "0123456789abcdef" if sum(i.startswith(start) for i in _ids(store)) > 1)
    with pytest.raises(SettingsError, match="Several frames"):
        accept(store, "plates", twice, "OK")


class Busy(FolderStorage):
    """A folder in which another process decides just before we do."""

    def compare_and_swap(self, key: str, data: bytes, version: str | None) -> None:
        other = Decision(verdict="OK", decided="2026-01-01T00:00:00+00:00")
        super().write(key, other.model_dump_json().encode())
        super().compare_and_swap(key, data, version)


def test_two_who_decide_at_once(kept):
    with pytest.raises(Conflict):
        accept(Busy(kept.root), "plates", NG, "NG")
    assert {item.state for item in list_frames(kept, "plates", print)} == {"open", "accepted OK"}


def test_a_damaged_frame_is_named_and_left_out(kept):
    (key,) = [p for found in kept.list() if (p := parse_frame_key(found.key)) and p.id == NG]
    kept.write(key.frame, b"{")
    said: list[str] = []
    assert [item.frame.id for item in list_frames(kept, "plates", said.append)] == [OK]
    assert NG in said[0]
    with pytest.raises(StoreError, match="damaged"):
        accept(kept, "plates", NG, "NG")


# What is exported


@pytest.fixture
def source(tmp_path) -> FolderStorage:
    folder = FolderStorage(tmp_path / "source")
    for label in ("OK", "NG"):
        folder.write(f"{label}/1.png", _frame(100))
        folder.write(f"{label}_MSK/1.png", encode_mask(_mask(label == "NG")))
    return folder


def test_accepted_frames_become_pairs_once(kept, source):
    before = contents(source.root)
    assert export(kept, "plates", source, print) == ([], 0, [])
    drawn = np.roll(_mask(True), 5)
    accept(kept, "plates", NG, "NG", encode(drawn * 255))
    accept(kept, "plates", OK, "OK")
    done = export(kept, "plates", source, print)
    assert sorted(done.new) == [f"NG/review-{NG}.png", f"OK/review-{OK}.png"]
    added = {name: data for name, data in contents(source.root).items() if name not in before}
    assert sorted(added) == sorted([*done.new, f"NG_MSK/review-{NG}.png", f"OK_MSK/review-{OK}.png"])
    assert (added[f"NG/review-{NG}.png"], added[f"OK/review-{OK}.png"]) == (_frame(1), _frame(2))
    assert (decode_mask(added[f"NG_MSK/review-{NG}.png"]) == drawn).all()
    assert not decode_mask(added[f"OK_MSK/review-{OK}.png"]).any()

    assert export(kept, "plates", source, print) == ([], 2, [])
    # Who removed it from the source wants it to stay away.
    source.delete(f"OK/review-{OK}.png")
    assert export(kept, "plates", source, print) == ([], 2, [])
    states = {item.frame.id: item.state for item in list_frames(kept, "plates", print)}
    assert states == {NG: "exported NG", OK: "exported OK"}
    with pytest.raises(SettingsError, match="has been exported as NG"):
        accept(kept, "plates", NG, "OK")


class Full(FolderStorage):
    """A folder whose disk is full after so many writes."""

    left = 0

    def write(self, key: str, data: bytes) -> None:
        if not self.left:
            raise StoreError("Disk full.", got="", expected="", fix="")
        self.left -= 1
        super().write(key, data)


def test_where_good_images_have_no_masks_an_exported_one_gets_none(kept, source):
    source.delete("OK_MSK/1.png")
    accept(kept, "plates", NG, "NG", encode(_mask(True) * 255))
    accept(kept, "plates", OK, "OK")
    export(kept, "plates", source, print)
    names = {found.key for found in source.list("")}
    assert {f"OK/review-{OK}.png", f"NG/review-{NG}.png", f"NG_MSK/review-{NG}.png"} <= names
    assert not any(name.startswith("OK_MSK/") for name in names)


@pytest.mark.parametrize("writes", [0, 1])
def test_an_export_that_is_cut_off_leaves_no_picture_without_its_mask(kept, source, writes):
    accept(kept, "plates", NG, "NG")
    full = Full(source.root)
    full.left = writes
    with pytest.raises(StoreError):
        export(kept, "plates", full, print)
    assert not (source.root / f"NG/review-{NG}.png").exists()
    assert export(kept, "plates", source, print).new == [f"NG/review-{NG}.png"]


def test_an_export_that_was_not_noted_is_noted_by_the_next(kept, source):
    accept(kept, "plates", NG, "NG")
    export(kept, "plates", source, print)
    (key,) = [p for found in kept.list() if (p := parse_frame_key(found.key)) and p.id == NG]
    noted = Decision.model_validate_json(kept.read(key.decision))
    assert noted.exported == (source.uri,)
    kept.write(key.decision, noted.model_copy(update={"exported": ()}).model_dump_json().encode())
    assert export(kept, "plates", source, print) == ([], 1, [])
    assert Decision.model_validate_json(kept.read(key.decision)) == noted


def test_a_pair_under_the_other_label_is_never_contradicted(kept, source):
    accept(kept, "plates", NG, "NG")
    for name in (f"OK/review-{NG}.png", "OK/2.png"):
        source.write(name, _frame(1))
        assert export(kept, "plates", source, print) == ([], 0, [NG])
        assert not (source.root / f"NG/review-{NG}.png").exists()
        source.delete(name)
    # Retouched under its own name it is neither contradicted nor written over.
    source.write(f"OK/review-{NG}.png", _frame(3))
    assert export(kept, "plates", source, print) == ([], 0, [NG])
    source.delete(f"OK/review-{NG}.png")
    source.write("NG/2.png", _frame(1))
    assert export(kept, "plates", source, print) == ([], 1, [])
    assert not (source.root / f"NG/review-{NG}.png").exists()


def test_a_frame_whose_picture_is_gone(kept, source):
    accept(kept, "plates", NG, "NG")
    (picture,) = (kept.root / "review/plates").glob(f"*/{NG}.png")
    picture.unlink()
    with pytest.raises(StoreError, match="is missing"):
        export(kept, "plates", source, print)


def test_only_a_source_is_exported_to(kept, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="is not a source"):
        export(kept, "plates", FolderStorage(tmp_path / "empty"), print)
    with pytest.raises(StoreError, match="cannot be read"):
        export(kept, "plates", FolderStorage(tmp_path / "missing"), print)


# From end to end


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Judged:
    return judge_model(tmp_path_factory.mktemp("judged") / "one", pairs=24)


def _line(judged: Judged, store: Storage, *frames: bytes) -> None:
    """What a server does with the frames that it is sent."""
    bundle = judged.bundle
    network = Network(judged.folder / bundle.network, bundle.imaging)
    reviewer = Reviewer(store, "plates", ALL)
    for frame in frames:
        found = answer(network.score_map(frame), bundle.threshold, bundle.min_area_px)
        prediction = {**to_prediction(found), "model_version": bundle.version}
        reviewer.offer(frame, found.score, bundle, lambda said=prediction: said)
    assert reviewer.close(60)


def test_frames_of_the_line_are_learnt_from(judged, tmp_path):
    defect, good = (
        encode(draw(label, np.random.default_rng(seed), SIZE)[0]) for label, seed in [("NG", 71), ("OK", 72)]
    )
    _line(judged, open_storage(str(judged.store)), defect, good)
    where = ["--store", str(judged.store), "--name", "plates"]

    listed = json.loads(defectline("review", "list", *where, "--json").stdout)
    assert {(row["id"], row["verdict"], row["state"]) for row in listed} == {
        (frame_id(defect), "NG", "open"),
        (frame_id(good), "OK", "open"),
    }
    assert all(Path(row["picture"].removeprefix("file://")).is_file() for row in listed)

    done = defectline("review", "accept", frame_id(defect)[:8], "--as", "NG", *where)
    assert (done.returncode, done.stdout) == (0, f"{frame_id(defect)}: accepted as NG\n"), done.stderr
    refused = defectline("review", "accept", frame_id(good), "--as", "NG", *where)
    assert refused.returncode == 2
    assert "is empty" in refused.stderr
    assert "Traceback" not in refused.stderr
    # The person sees a defect where the model found none.
    drawn = np.zeros((SIZE, SIZE), np.uint8)
    drawn[10:14, 20:40] = 255
    (tmp_path / "drawn.png").write_bytes(encode(drawn))
    mask = str(tmp_path / "drawn.png")
    assert (
        defectline("review", "accept", frame_id(good), "--as", "NG", "--mask", mask, *where).returncode == 0
    )

    table = defectline("review", "list", *where).stdout.splitlines()
    assert table[0].split() == ["id", "date", "verdict", "score", "threshold", "kept", "version", "state"]
    assert [line.split()[-2:] for line in table[1:3]] == [["accepted", "NG"]] * 2

    source = ["--source", str(judged.source)]
    first = defectline("review", "export", *source, *where)
    assert (first.returncode, first.stdout.splitlines()[-1]) == (0, "2 exported, 0 there already")
    second = defectline("review", "export", *source, *where)
    assert (second.returncode, second.stdout.splitlines()) == (0, ["0 exported, 2 there already"])

    before = {pair.id for pair in read_pairs(open_storage(str(judged.store)), judged.snapshot)}
    snapshot = ingest(str(judged.source), str(judged.store), "two")
    new = {p.id: p for p in read_pairs(open_storage(str(judged.store)), snapshot) if p.id not in before}
    assert {(p.label, p.status) for p in new.values()} == {("NG", "accepted")}
    assert new.keys() == {f"NG/review-{frame_id(defect)}", f"NG/review-{frame_id(good)}"}
    assert new[f"NG/review-{frame_id(good)}"].defect_px == 80


def test_the_same_on_s3(judged, s3_server: S3Server, monkeypatch):
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    bucket = s3_server.new_bucket()
    store, source = open_storage(f"s3://{bucket}/store"), open_storage(f"s3://{bucket}/labelled")
    source.upload_folder(judged.source, "")
    frame = encode(Image.open(io.BytesIO(_frame(5))).resize((SIZE, SIZE)))
    _line(judged, store, frame, frame)
    (item,) = list_frames(store, "plates", pytest.fail)
    accept(store, "plates", item.frame.id[:6], "OK")
    assert export(store, "plates", source, pytest.fail).new == [f"OK/review-{frame_id(frame)}.png"]
    assert export(store, "plates", source, pytest.fail) == ([], 1, [])
    snapshot = ingest(source.uri, store.uri)
    assert f"OK/review-{frame_id(frame)}" in {p.id for p in read_pairs(store, snapshot)}
