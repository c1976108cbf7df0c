"""How fast and how lean training is: decoders, fused operations, precision, data and memory.

    python benchmarks/training.py --size 224 --batch 4 --steps 20 --pictures 50000

The kinds take turns --repeat times in one process, and the best of each counts: other work on the machine
only ever slows them down. "Keras" is Keras' own batch norm and AdamW instead of the fused ones. The share of
data is the time that reading batches takes over the time of the steps. Keras reads ahead beside the steps, so
they wait for less than that. Anonymous memory (RssAnon) is that of a process that trains some steps on
memory-mapped arrays of --pictures pictures; the files have holes, so they take little disk, but are mapped
and read in full size. A checkpoint is written to a folder.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from measuring import anonymous_mb
from numpy.lib.format import open_memmap

from defectline.components.common.dataset import Split, open_dataset
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.train import loop
from defectline.components.train.backend.devices import enable_determinism
from defectline.components.train.backend.fused import fuse
from defectline.components.train.batches import Batches
from defectline.components.train.network import build_network
from defectline.components.train.progress.checkpoints import Checkpoints
from defectline.components.train.settings import DecoderName, TrainSettings
from defectline.components.train.trainer import Trainer


class Timed(Batches):
    """Batches that sum up how long reading takes."""

    seconds = 0.0

    def __getitem__(self, index):
        start = time.perf_counter()
        batch = super().__getitem__(index)
        self.seconds += time.perf_counter() - start
        return batch


class Steps(keras.callbacks.Callback):
    """Seconds from the first step's end to the last one's."""

    def on_epoch_begin(self, epoch, logs=None):
        self.times: list[float] = []

    def on_train_batch_end(self, batch, logs=None):
        float((logs or {})["loss"])  # waits for the device, as training does
        self.times.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[0]


def write_dataset(folder: Path, pictures: int, size: int) -> None:
    """A prepared dataset of noise in its first pictures and black ones after."""
    images = open_memmap(folder / "images.npy", "w+", np.uint8, (pictures, size, size, 1))
    images[:64] = np.random.default_rng(0).integers(90, 121, images[:64].shape, np.uint8)
    masks = open_memmap(folder / "masks.npy", "w+", np.uint8, (pictures, size, size))
    masks[:64:2, 4:12, 4:12] = 1
    rows = [{"id": f"NG/{i}", "label": "NG", "split": "train"} for i in range(pictures)]
    content = {"snapshot": "s", "fingerprint": "f", "imaging": {"image_size": size}, "rows": rows}
    (folder / "dataset.json").write_text(json.dumps(content))


class Kind(NamedTuple):
    decoder: DecoderName
    fused: bool
    policy: str = "float32"


KINDS = {
    "pix2pix, Keras": Kind("pix2pix", False),
    "pix2pix, fused": Kind("pix2pix", True),
    "light, Keras": Kind("light", False),
    "light, fused": Kind("light", True),
    "light, fused, bfloat16": Kind("light", True, "mixed_bfloat16"),
}
FIRST, DEFAULT = "pix2pix, Keras", "light, fused"
"""What ratios are to, and what data and checkpoints are measured with."""


def make_trainer(kind: Kind, size: int, steps: int) -> Trainer:
    with loop._dtype_policy(kind.policy):
        network = build_network(size, decoder=kind.decoder)
        trainer = Trainer(fuse(network) if kind.fused else network, seed=0)
        loop._compile(trainer, TrainSettings(), steps, epoch=0)
        if not kind.fused:
            adamw = keras.optimizers.AdamW(1e-3, weight_decay=1e-4)
            trainer.compile(adamw, jit_compile=keras.backend.backend() == "jax")
            trainer.optimizer.build(trainer.trainable_variables)
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("size", 224), ("batch", 4), ("steps", 20), ("repeat", 3), ("pictures", 50_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    peak, ended = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.05):
            peak = max(peak, anonymous_mb(os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory() as temporary:
        folder, steps, batch = Path(temporary), arguments.steps, arguments.batch
        write_dataset(folder, arguments.pictures, arguments.size)
        whole = open_dataset(folder)[1]["train"]
        rows = np.linspace(0, arguments.pictures - 1, steps * batch, dtype=np.int64)
        best: dict[str, tuple[float, float]] = {}
        keras.utils.set_random_seed(0)
        enable_determinism()
        trainers = {name: make_trainer(kind, arguments.size, steps) for name, kind in KINDS.items()}
        first: dict[str, float] = {}
        # The first round traces.
        for turn in range(arguments.repeat + 1):
            for name, trainer in trainers.items():
                batches, timer = Timed(Split(whole.images, whole.masks, rows), batch, seed=0), Steps()
                start = time.perf_counter()
                trainer.fit(batches, callbacks=[timer], shuffle=False, verbose=0)
                first.setdefault(name, timer.times[0] - start)
                rate = (steps - 1) * batch / timer.seconds
                if turn and rate > best.get(name, (0.0, 0.0))[0]:
                    best[name] = rate, batches.seconds / timer.seconds
        ended.set()
        watcher.join()
        checkpoints = Checkpoints(FolderStorage(folder / "store"), "one")
        start = time.perf_counter()
        checkpoints.save([{"epoch": 1, "val_iou": 0.5}], *loop._variables(trainers[DEFAULT]))
        saving = time.perf_counter() - start
        size_mb = sum(p.stat().st_size for p in (folder / "store").rglob("*.npz")) / 1e6
    print(f"{'':>24}  pictures/s  step's time  first step  reading")
    for name, (rate, share) in best.items():
        ratio = best[FIRST][0] / rate
        print(f"{name:>24}  {rate:10.1f}  {ratio:11.2f}  {first[name]:8.1f} s  {share:7.1%}")
    print(f"all {len(KINDS)} networks, {arguments.pictures:,} pictures: {peak:,.0f} MB of anonymous memory")
    print(f"a checkpoint: {saving:.2f} s, {size_mb:.0f} MB")


if __name__ == "__main__":
    main()
