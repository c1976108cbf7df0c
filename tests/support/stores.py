"""A store as some days of operation leave it: real snapshots and evaluations, with networks made by hand."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from bundles import levels
from networks import LIMITS, draw, write_model, write_source
from pictures import encode
from PIL import Image

from defectline.components.common.bundle import Bundle, publish_folder, read_bundle
from defectline.components.common.inference.inspection import answer, to_prediction
from defectline.components.common.layout import champion_key
from defectline.components.common.records import (
    ChampionRecord,
    GateRecord,
    Outcome,
    read_outcome,
    write_gate,
    write_outcome,
)
from defectline.components.common.review import frame_id
from defectline.components.common.storage import Storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.evaluate.step import evaluate
from defectline.components.ingest.step import ingest
from defectline.components.serve.monitoring.review import Reviewer
from defectline.components.serve.settings import ReviewSettings
from defectline.pipeline.catalog.review import accept
from defectline.pipeline.catalog.review_export import export

NAME = "defects"


def only_outcome(store: Storage) -> Outcome | None:
    """The outcome of a store's one run, whose folder on a cluster has the run's id for its name."""
    (key,) = [found.key for found in store.list("runs/") if found.key.endswith("/outcome.json")]
    return read_outcome(store, key.split("/")[1])


def add_pairs(source: Path, names: list[str], label: str, seed: int) -> None:
    """Add synthetic pairs with these stems to a source."""
    rng = np.random.default_rng(seed)
    for name in names:
        image, mask = draw(label, rng)
        Image.fromarray(image).save(source / label / f"{name}.png")
        Image.fromarray(mask).save(source / f"{label}_MSK" / f"{name}.png")


class Ran(NamedTuple):
    run: str
    snapshot: str
    bundle: Bundle


class Factory(NamedTuple):
    """A source, a store, and the runs so far."""

    folder: Path
    runs: list[Ran]

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def store(self) -> FolderStorage:
        return FolderStorage(self.folder / "store")

    @property
    def versions(self) -> list[str]:
        return [one.bundle.version for one in self.runs]

    def run(self, cut: float = 40.0, settings: str = "") -> Ran:
        """One run: ingest and evaluate as they are; of deploy all but the question to a predictor.

        `cut` is that of the network: with 1000 the gate refuses it.
        """
        run = f"run-{len(self.runs) + 1}"
        here, store = self.folder / run, self.store
        snapshot = ingest(
            str(self.source), str(store.root), run, settings={"force": True}, settings_key=settings
        )
        deployed = [one for one in self.runs if (store.root / f"models/{NAME}/{one.bundle.version}").exists()]
        result = evaluate(
            str(store.root),
            snapshot,
            write_model(here / "model", cut=cut),
            here / "bundle",
            here / "report.html",
            {**LIMITS, "replace": "not_worse"},
            run,
            champion=deployed[-1].bundle.version if deployed else "",
            settings_key=settings,
        )
        bundle = read_bundle(here / "bundle")
        if result.passed:
            deploy(store, here / "bundle", bundle, run, snapshot, settings)
        self.runs.append(Ran(run, snapshot, bundle))
        return self.runs[-1]


def deploy(
    store: FolderStorage, folder: Path, bundle: Bundle, run: str, snapshot: str, settings: str = ""
) -> None:
    """What a deployment on this machine leaves in the store."""
    publish_folder(folder, store, f"models/{NAME}/{bundle.version}")
    current = ChampionRecord(version=bundle.version, run=run)
    store.write(champion_key(NAME), current.model_dump_json(indent=2).encode())
    write_gate(store, NAME, GateRecord(run=run, snapshot=snapshot, settings_key=settings))
    outcome = Outcome(state="deployed", reason="every rule of the gate passed", version=bundle.version)
    write_outcome(store, run, outcome)


def review_frame(factory: Factory, seed: int) -> str:
    """A frame of the line that the endpoint kept, accepted as NG and exported to the source; its id."""
    image, mask = draw("NG", np.random.default_rng(seed))
    picture = encode(image)
    said = to_prediction(answer((mask > 0).astype(np.uint16) * 550, 0.5, 4))
    prediction = {**said, "model_version": factory.versions[-1], "latency_ms": 1.0}
    reviewer = Reviewer(factory.store, NAME, ReviewSettings())
    assert reviewer.offer(picture, said["score"], levels(), lambda: prediction)
    assert reviewer.close(60)
    accept(factory.store, NAME, frame_id(picture), "NG", None)
    export(factory.store, NAME, FolderStorage(factory.source), print)
    return frame_id(picture)


def operate(folder: Path) -> Factory:
    """Three runs: the first is deployed, the second with more pictures too, the third is refused.

    Of the pictures of the second, one was a frame of the line.
    """
    factory = Factory(folder, [])
    write_source(factory.source, 40)
    factory.run()
    add_pairs(factory.source, ["new-1", "new-2"], "NG", seed=7)
    add_pairs(factory.source, ["new-3"], "OK", seed=8)
    review_frame(factory, seed=10)
    factory.run()
    add_pairs(factory.source, ["later"], "OK", seed=9)
    factory.run(cut=1000.0)
    return factory
