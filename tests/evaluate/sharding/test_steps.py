"""Judging in shards comes to the same files as one step, and a shard that dies is judged again alone."""

import json
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp import dsl
from networks import LIMITS, draw, write_model, write_source
from PIL import Image

from defectline.components.common import bundle as bundles
from defectline.components.common.bundle import publish_folder, read_bundle
from defectline.components.common.layout import JUDGING, run_key
from defectline.components.common.snapshot import Pair, by_pack, read_pairs
from defectline.components.common.storage import checksums
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.evaluate import scoring
from defectline.components.evaluate.component import evaluate_judged
from defectline.components.evaluate.reporting import examples
from defectline.components.evaluate.settings import EvaluateSettings
from defectline.components.evaluate.sharding import files
from defectline.components.evaluate.sharding.steps import calibrate, judge_part
from defectline.components.evaluate.step import evaluate
from defectline.components.ingest import packing
from defectline.components.ingest.step import ingest

RUN, CHAMPION, REFERENCE = "r", "v20260101-000000-aaaaaa", "v20250101-000000-bbbbbb"
SETTINGS: dict[str, Any] = {**LIMITS, "look_as": "LOOK", "max_look": 0.9, "replace": "not_worse"}


class Clock(datetime):
    """When a bundle is sealed is part of its name."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return datetime(2026, 11, 30, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "PACK_BYTES", 20_000)
        patch.setattr(files, "LEAST", 1)
        patch.setattr(bundles, "datetime", Clock)
        # So few that which are shown depends on the order in which they come.
        patch.setattr(examples, "HELD_BYTES", 9_000)
        patch.setattr(examples, "LEAST_SHOWN", 1)
        yield


class Place:
    """A store with pictures, some of them doubtful and some without masks, a champion and a reference."""

    def __init__(self, folder: Path, masks: bool):
        source, random = write_source(folder / "source", pairs=120), np.random.default_rng(5)
        for label in ("OK", "NG"):
            for number in range(0, 60, 3):
                image, mask = draw("NG", random, light=int(random.integers(132, 152)))
                Image.fromarray(image).save(source / label / f"{number:03d}.png")
                if label == "NG":
                    Image.fromarray(mask).save(source / "NG_MSK" / f"{number:03d}.png")
        shutil.rmtree(source / "OK_MSK")
        for path in sorted((source / "NG_MSK").iterdir())[50 if masks else 0 :]:
            path.unlink()
        self.store, self.model = folder / "store", write_model(folder / "model", int8_cut=41)
        # Of the second snapshot, some packs hold pictures between those of others.
        later = sorted(path for label in ("OK", "NG") for path in (source / label).iterdir())[::3]
        aside = {path: path.rename(folder / f"{path.parent.name}-{path.name}") for path in later}
        ingest(str(source), str(self.store), "first", settings={"max_rejected": 0.5})
        for path, other in aside.items():
            other.rename(path)
        self.snapshot = ingest(str(source), str(self.store), "second")
        rows = read_pairs(FolderStorage(self.store), self.snapshot)
        self.tested = [row for row in rows if row.accepted and row.split == "test"]
        for version, cut, reference in ((REFERENCE, 40.0, ""), (CHAMPION, 1000.0, REFERENCE)):
            self._publish(folder / version, version, cut, reference)

    def _publish(self, folder: Path, version: str, cut: float, reference: str) -> None:
        model = write_model(folder / "model", cut=cut)
        evaluate(
            str(self.store), self.snapshot, model, folder / "bundle", folder / "r.html", SETTINGS, "before"
        )
        stored = json.loads((folder / "bundle/bundle.json").read_text())
        stored |= {"version": version, "reference": reference}
        stored["data"]["fingerprint"] = "of other pictures"
        (folder / "bundle/bundle.json").write_text(json.dumps(stored))
        checksums.seal(folder / "bundle")
        sealed = read_bundle(folder / "bundle")
        publish_folder(folder / "bundle", FolderStorage(self.store), f"models/defects/{sealed.version}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"), masks=True)


@pytest.fixture(scope="module")
def whole(place: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one step comes to."""
    return came_to(place, tmp_path_factory.mktemp("whole"))


def shard(place: Place, store: Path, count: int) -> list[str]:
    parts = calibrate(str(store), place.snapshot, place.model, SETTINGS, RUN, count)
    assert parts == [f"{number}/{count}" for number in range(1, count + 1)]
    return parts


def judge(place: Place, store: Path, part: str) -> None:
    judge_part(str(store), place.snapshot, place.model, RUN, part, champion=CHAMPION)


def came_to(place: Place, folder: Path, store: Path | None = None) -> dict[str, bytes]:
    """The files of an evaluation: its bundle, its report, and what is in the run's folder."""
    bundle, report = folder / "files/bundle", folder / "files/report.html"
    store = store or copied(place, folder)
    evaluate(str(store), place.snapshot, place.model, bundle, report, SETTINGS, RUN, champion=CHAMPION)
    folders = {"": folder / "files", "runs/": store / "runs" / RUN}
    return {
        f"{name}{path.relative_to(root)}": path.read_bytes()
        for name, root in folders.items()
        for path in root.rglob("*")
        if path.is_file()
    }


def copied(place: Place, folder: Path) -> Path:
    return Path(shutil.copytree(place.store, folder / "store"))


def check_same(
    place: Place, whole: dict[str, bytes], folder: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = copied(place, folder)
    for part in reversed(shard(place, store, count)):
        judge(place, store, part)
    with monkeypatch.context() as patch:
        asked = asked_for(patch)
        found = came_to(place, folder, store)
    assert found.keys() == whole.keys()
    assert [name for name in whole if found[name] != whole[name]] == []
    assert [asked[f"judging{who}"] for who in ("", " the champion", " the reference")] == [[], [], []]
    assert not any(what.startswith("validating") for what in asked)


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_shards_comes_to_the_same_files(
    place: Place, whole: dict[str, bytes], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    packs = by_pack(place.tested)
    assert len(packs) > 3
    assert [p.id for members in packs.values() for p in members] != sorted(p.id for p in place.tested)
    assert {"bundle/bundle.json", "report.html", "runs/counts.json", "runs/provenance.json"} <= whole.keys()
    metrics = json.loads(whole["runs/metrics.json"])
    assert metrics["champion_test"]
    assert metrics["reference"] == REFERENCE
    check_same(place, whole, tmp_path, count, monkeypatch)


def test_so_do_pictures_of_which_none_has_a_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = Place(tmp_path / "place", masks=False)
    whole = came_to(place, tmp_path / "whole")
    assert json.loads(whole["runs/metrics.json"])["reliability"] == []
    check_same(place, whole, tmp_path / "shards", 3, monkeypatch)


def asked_for(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What networks are asked for → the ids of the pictures."""
    asked: dict[str, list[str]] = {}
    plain = scoring.tally

    def tally(network: Any, point: Any, storage: Any, pairs: Sequence[Pair], *others: Any) -> Any:
        asked[others[1]] = [pair.id for pair in pairs]
        return plain(network, point, storage, pairs, *others)

    monkeypatch.setattr(scoring, "tally", tally)
    return asked


def test_a_shard_that_dies_is_judged_again_alone(
    place: Place, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = copied(place, tmp_path)
    first, second, third = shard(place, store, 3)
    for part in (first, third):
        judge(place, store, part)
    before = {path: path.read_bytes() for path in (store / "runs" / RUN).rglob("*.gz")}
    with monkeypatch.context() as patch:
        patch.setattr(FolderStorage, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            judge(place, store, second)
    judge(place, store, second)
    assert {path: path.read_bytes() for path in before} == before
    # Where one never came, evaluate judges its pictures itself.
    for path in (store / "runs" / RUN / JUDGING).glob("*/1.json.gz"):
        path.unlink()
    with monkeypatch.context() as patch:
        asked = asked_for(patch)
        found = came_to(place, tmp_path, store)
    assert sorted(asked["judging"]) == sorted(pair.id for pair in files.part_of(place.tested, 1, 3))
    assert found == whole
    assert not list(FolderStorage(store).list(run_key(RUN, JUDGING)))


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_was_chosen_for_another_model_is_not_used(place: Place, tmp_path: Path, capsys):
    store = copied(place, tmp_path)
    shard(place, store, 2)
    other = write_model(tmp_path / "other", cut=70)
    with pytest.raises(SystemExit):
        judge_part(str(store), place.snapshot, other, RUN, "1/2")
    assert "Start the run again." in capsys.readouterr().out


def test_the_component_after_the_shards_returns_the_verdict(place: Place, tmp_path: Path):
    store = copied(place, tmp_path)
    for part in shard(place, store, 2):
        judge(place, store, part)
    metrics = dsl.Metrics(uri=str(tmp_path / "metrics"))
    returned = evaluate_judged(
        store=str(store),
        snapshot=place.snapshot,
        champion=CHAMPION,
        run=RUN,
        model_name="defects",
        # KFP hands numbers on as floats.
        settings={
            name: float(value) if isinstance(value, int) else value
            for name, value in (EvaluateSettings().model_dump() | SETTINGS).items()
        },
        settings_key="",
        judged=["", ""],
        model=dsl.Model(uri=str(place.model)),
        bundle=dsl.Model(uri=str(tmp_path / "bundle")),
        metrics=metrics,
        roc=dsl.ClassificationMetrics(uri=str(tmp_path / "roc")),
        report=dsl.HTML(uri=str(tmp_path / "report.html")),
        summary=dsl.Markdown(uri=str(tmp_path / "summary.md")),
    )
    assert returned in ("passed", "kept", "refused")
    assert metrics.metadata["ng"] > 0
    assert read_bundle(tmp_path / "bundle").threshold > 0


def test_few_pictures_are_one_part(monkeypatch: pytest.MonkeyPatch, place: Place):
    monkeypatch.setattr(files, "LEAST", len(place.tested))
    assert files.cut(place.tested, 3) == 1
    assert files.cut([], 3) == 1
