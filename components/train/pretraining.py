"""Pretraining: a network first learns synthetic defects, painted into the source's own good pictures.

It is done once for the same good pictures and settings, and kept in the store. The weights know one class of
defects; a network with several starts each of them from it. Where a source has no real defect to train on,
this is all that a network learns.
"""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import DEFAULT_CLASSES
from defectline.components.common.dataset import Prepared, Split
from defectline.components.common.layout import pretrained_key
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.train.backend.devices import device_count
from defectline.components.train.backend.distributed import gather, place
from defectline.components.train.batches import Painting
from defectline.components.train.loop import Stage, fit
from defectline.components.train.progress.checkpoints import Arrays, Checkpoints, digest
from defectline.components.train.settings import FEW_DEFECTS, TrainSettings, even

NAME = "pretraining"
BATCH = 8
"""Or the next multiple of the devices that share it."""
STEPS = 50
"""Between two looks at how it goes, at most."""
PATIENCE = 4
"""Looks without anything better."""
PAINTED = 0.8
"""Share of the pictures; the others say what good ones look like."""
HELD_OUT = 10
"""One good picture in so many shows how it goes, and is not learned from."""
JUDGED = 64
"""Pictures, painted in various ways, that a look judges."""
MOST = 4000
"""Good pictures that it learns from: more teach nothing new, and each must be read."""


def is_wanted(settings: TrainSettings, good: int, marked: int) -> bool:
    """Whether training begins with it, for so many good pictures and pictures with a marked defect."""
    few = settings.pretraining == "auto" and marked < FEW_DEFECTS
    return good > 0 and settings.init_from == "none" and (few or settings.pretraining == "always")


class Pretrained(NamedTuple):
    weights: Arrays
    """Of a network with DEFAULT_CLASSES."""
    history: list[dict]
    """As of `fit`."""
    key: str
    """Where a store keeps them; its name tells all that went in."""


def pretrain(
    splits: Mapping[str, Split],
    prepared: Prepared,
    good: NDArray[np.int64],
    settings: TrainSettings,
    policy: str,
    replicas: int,
    store: Storage | None,
) -> Pretrained:
    """Learn synthetic defects in the `good` rows of the arrays, of the training part, or read from the store
    what was learned from the same before.

    Raises what `fit` raises.
    """
    images, masks = splits["train"][:2]
    steps, batch = min(STEPS, settings.pretraining_steps), even(BATCH, device_count())
    if len(good) > MOST:
        good = np.sort(np.random.default_rng(0).permutation(good)[:MOST])
    chosen = settings.model_copy(
        update={
            "batch_size": batch,
            "epochs": -(-settings.pretraining_steps // steps),
            "patience": PATIENCE,
            "pretraining": "always",
            # What has no part in it, so that other values find the same weights.
            "quantize": True,
            "synthetic": 0.0,
            "cross_fit": 0,
            "freeze_encoder_until": "",
            "unfreeze_at_epoch": 0,
        }
    )
    held_out = good[::HELD_OUT] if len(good) > 1 else good
    learned = np.setdiff1d(good, held_out) if len(good) > 1 else good
    content = hashlib.sha256()
    for row in good.tolist():
        content.update(images[row].tobytes() + masks[row].tobytes())
    rows = [prepared.rows[row] for row in good.tolist()]
    update = {"snapshot": "", "fingerprint": content.hexdigest(), "classes": DEFAULT_CLASSES, "rows": rows}
    # Whatever else the source has.
    alike = prepared.model_copy(update={**update, "supervision": "good_only", "ignores": True})
    name = digest(alike, chosen, policy, replicas)
    key = pretrained_key(name[:12])
    found = _read(store, key) if store else None
    # One that another of the processes could not read is learned again by all.
    if all(gather(int(found is not None))) and found:
        return found
    say(f"{NAME}: synthetic defects in {len(good)} good pictures, {settings.pretraining_steps} steps at most")
    feeds = {
        "train": Split(images, masks, np.resize(learned, batch * steps)),
        "validation": Split(images, masks, np.resize(held_out, JUDGED)),
    }
    painting = Painting(learned, PAINTED, chosen.seed, several=False)
    judged = Painting(held_out, PAINTED, chosen.seed + 1, several=False)
    checkpoints = Checkpoints(store, name) if store else None
    network, history = fit(
        feeds,
        prepared.imaging,
        chosen,
        policy,
        checkpoints,
        ignores=True,
        stage=Stage(NAME, painting, judged),
    )
    if store and place().first:
        _write(store, key, network, history)
        Checkpoints(store, name).remove()
    return Pretrained(network.get_weights(), history, key)


def _read(store: Storage, key: str) -> Pretrained | None:
    if not store.exists(key):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = store.fetch(key, Path(folder, "model.keras"))
        try:
            weights = keras.models.load_model(path, compile=False).get_weights()
            history = json.loads(store.read(_history_key(key)))
        except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
            say(f"{NAME}: {store.url(key)} is damaged and not used ({str(error).splitlines()[0]})")
            return None
    say(f"{NAME}: {store.url(key)} was learned from the same good pictures")
    return Pretrained(weights, history, key)


def _write(store: Storage, key: str, network: keras.Model, history: list[dict]) -> None:
    store.write(_history_key(key), json.dumps(history).encode())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        network.save(path)
        store.upload(path, key)


def _history_key(key: str) -> str:
    return key.replace(".keras", ".json")
