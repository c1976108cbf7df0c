"""How many epochs training takes to an IoU, against the recipe that the first version of this product had.

    python benchmarks/epochs.py SOURCE --store ./epochs --fold 0 --iou 0.6 --at-most 200 [--init-from URI]

Both recipes train the same network on the training part of one fold, dealt as `defectline crossval` does,
and after each epoch the defect IoU, pooled at probability 0.5, is taken over the fold's test part. Both start
from random weights; with --init-from, today's starts from those (a store's `pretrained/` has some), whose own
epochs do not count here. The curves go to --store as epochs.png.

The older recipe, written again from its description: pictures scaled to 0..1 where the encoder expects -1..1,
no augmentation, batches of 3, soft IoU of the batch as the loss, Adam at its default rate, and Keras' own
batch-norm momentum of 0.999.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib.pyplot
import numpy as np
from keras import ops

from defectline.components.common.classes import defect_probability
from defectline.components.common.dataset import Split, open_dataset
from defectline.components.common.snapshot import publish_snapshot, read_head, read_pairs
from defectline.components.common.storage import open_storage
from defectline.components.ingest.grouping.folds import deal
from defectline.components.ingest.step import ingest
from defectline.components.preprocess.settings import PreprocessSettings
from defectline.components.preprocess.step import preprocess
from defectline.components.train.batches import Batches
from defectline.components.train.network import build_network
from defectline.components.train.optimizer import make_optimizer
from defectline.components.train.settings import TrainSettings
from defectline.components.train.trainer import Trainer
from defectline.components.train.weights import load_network

matplotlib.use("Agg")

Epochs = Iterator[float]
"""The IoU after each epoch."""


def prepare(source: str, store: str, fold: int) -> dict[str, Split]:
    """One fold's pictures: `train` to learn from, `validation` to measure on."""
    storage = open_storage(store)
    ingest(source, store, settings={"force": True})
    snapshot = read_head(storage)
    assert snapshot is not None
    accepted = [pair for pair in read_pairs(storage, snapshot) if pair.accepted]
    roles = {"train": "train", "test": "validation", "validation": "unused"}
    pairs = [pair._replace(split=roles[pair.split]) for pair in deal(accepted, fold, folds=4)]
    dataset = Path(store, "dataset")
    preprocess(store, publish_snapshot(storage, pairs, source).id, dataset, PreprocessSettings().model_dump())
    return open_dataset(dataset)[1]


def defect_iou(probability: Callable[[np.ndarray], np.ndarray], split: Split) -> float:
    """Pooled over all pictures of a split, at probability 0.5."""
    both = either = 0
    for row in split.rows:
        found, truth = probability(split.images[[row]]) >= 0.5, split.masks[[row]] > 0
        both += int((found & truth).sum())
        either += int((found | truth).sum())
    return both / max(1, either)


def ask(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Probability of a defect, (N, S, S)."""
    return defect_probability(np.array(network(images, training=False)))


def today(splits: dict[str, Split], settings: TrainSettings) -> Epochs:
    keras.utils.set_random_seed(settings.seed)
    batches = Batches(splits["train"], settings.batch_size, settings.seed)
    trainer = Trainer(build_network(splits["train"].images.shape[1]), settings.seed)
    trainer.compile(optimizer=make_optimizer(settings, len(batches)))
    network = trainer.network
    if settings.init_from != "none":
        load_network(network, settings.init_from)
    for epoch in range(settings.epochs):
        batches.shuffle(epoch)
        for index in range(len(batches)):
            trainer.train_on_batch(batches[index][0])
        yield defect_iou(lambda x: ask(network, x.astype("float32")), splits["validation"])


def older(splits: dict[str, Split], epochs: int) -> Epochs:
    keras.utils.set_random_seed(0)
    batches = Batches(splits["train"], batch_size=3, seed=0)
    network = build_network(splits["train"].images.shape[1], batch_norm_momentum=0.999)

    def scaled(images: np.ndarray) -> np.ndarray:
        # Behind the network's own scaling to -1..1, this is the picture as 0..1.
        return 127.5 * (1 + images.astype("float32") / 255)

    def loss(mask, probability):
        found = defect_probability(probability)
        overlap = ops.sum(mask * found)
        return 1 - overlap / (ops.sum(mask) + ops.sum(found) - overlap + 1e-7)

    network.compile(optimizer=keras.optimizers.Adam(), loss=loss)
    for epoch in range(epochs):
        batches.shuffle(epoch)
        for index in range(len(batches)):
            images, masks = batches[index][0]
            network.train_on_batch(scaled(images), (masks > 0).astype("float32"))
        yield defect_iou(lambda x: ask(network, scaled(x)), splits["validation"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument("--store", default="./epochs")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--iou", type=float, default=0.6)
    parser.add_argument("--at-most", type=int, default=200)
    parser.add_argument("--init-from", default="none")
    arguments = parser.parse_args()
    splits = prepare(arguments.source, arguments.store, arguments.fold)
    _, axes = matplotlib.pyplot.subplots(figsize=(8, 4), layout="constrained")
    reached = {}
    settings = TrainSettings(init_from=arguments.init_from)
    recipes = {
        "today": (today(splits, settings), settings.epochs),
        "older": (older(splits, arguments.at_most), arguments.at_most),
    }
    for name, (ious, epochs) in recipes.items():
        curve: list[float] = []
        for iou in ious:
            curve.append(iou)
            if len(curve) % 10 == 0:
                print(f"{name}: epoch {len(curve)} of {epochs}, IoU {iou:.3f}", flush=True)
            if iou >= arguments.iou and name not in reached:
                reached[name] = len(curve)
                if name == "older":
                    break
        axes.plot(range(1, len(curve) + 1), curve, label=name)
        print(
            f"{name}: IoU {arguments.iou} after {reached.get(name, 'more than ' + str(epochs))} epochs",
            flush=True,
        )
    axes.set(xlabel="epoch", ylabel="defect IoU on the fold's test part", ylim=(0, 1))
    axes.axhline(arguments.iou, linestyle=":", color="grey")
    axes.legend()
    matplotlib.pyplot.savefig(Path(arguments.store, "epochs.png"), dpi=120)
    if "today" in reached:
        share = reached["today"] / reached.get("older", arguments.at_most)
        print(f"share: {share:.2f}{'' if 'older' in reached else ' or less'} (wanted: at most 0.2)")


if __name__ == "__main__":
    main()
