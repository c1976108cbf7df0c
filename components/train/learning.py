"""What a network learns from: synthetic defects first where that helps, then the source's own."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import LABELS
from defectline.components.common.dataset import Prepared, Split
from defectline.components.common.errors import SettingsError
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.train.batches import Painting
from defectline.components.train.loop import Stage, fit
from defectline.components.train.network import build_network
from defectline.components.train.pretraining import Pretrained, is_wanted, pretrain
from defectline.components.train.progress.checkpoints import Checkpoints
from defectline.components.train.progress.tracking import Tracker
from defectline.components.train.settings import TrainSettings
from defectline.components.train.weights import take_over

LEAST_JUDGED = 2
"""Defective validation pictures: fewer do not say which epoch is the best."""
JUDGED = 32
"""Good training pictures, with synthetic defects, that say it then."""


class Learned(NamedTuple):
    network: keras.Model
    history: list[dict]
    pretrained: str
    """The key of the weights in the store that it started from; "" for none."""


class Labels(NamedTuple):
    """Rows of the arrays."""

    good: NDArray[np.int64]
    """Of the training part."""
    bad: NDArray[np.int64]
    """Of the training part: of defective pictures."""
    marked: NDArray[np.int64]
    """Those of them that have a mask."""
    judged: NDArray[np.int64]
    """Of the validation part: of defective pictures."""


def learn(
    splits: dict[str, Split],
    prepared: Prepared,
    settings: TrainSettings,
    policy: str,
    replicas: int,
    store: Storage | None,
    checkpoints: Checkpoints | None,
    trackers: Sequence[Tracker],
) -> Learned:
    """Train on what is there; the arguments are those of `fit` and `pretrain`.

    Raises SettingsError where there is no picture to learn from, and what `fit` raises.
    """
    labels = _find_labels(prepared)
    imaging, classes, momentum = prepared.imaging, prepared.classes, settings.batch_norm_momentum
    pretrained: Pretrained | None = None
    pictures = len({prepared.rows[row].id for row in labels.marked.tolist()})
    if not len(labels.bad) or is_wanted(settings, len(labels.good), pictures):
        pretrained = pretrain(splits, prepared, labels.good, settings, policy, replicas, store)
    if not len(labels.bad):
        assert pretrained is not None
        network = build_network(
            imaging.image_size,
            imaging.channels,
            momentum,
            classes=classes,
            decoder=settings.decoder,
            encoder_width=settings.encoder_width,
        )
        take_over(network, pretrained.weights)
        return Learned(network, pretrained.history, pretrained.key)
    painting = judging = None
    if len(labels.good) and settings.synthetic:
        painted = Painting(labels.good, settings.synthetic, settings.seed, len(classes) > 1)
        # Rehearsed is what was learned before.
        painting = painted if pretrained else None
        if len(labels.judged) < LEAST_JUDGED:
            judged = splits["validation"]
            shown = np.concatenate([judged.rows, np.resize(labels.good, JUDGED)])
            splits = splits | {"validation": judged._replace(rows=shown)}
            judging = painted._replace(share=1.0, seed=settings.seed + 1)
    stage = Stage("train", painting, judging, pretrained.weights if pretrained else None)
    network, history = fit(
        splits, imaging, settings, policy, checkpoints, trackers, classes, prepared.ignores, stage
    )
    return Learned(network, history, pretrained.key if pretrained else "")


def _find_labels(prepared: Prepared) -> Labels:
    """Raises SettingsError where there is no picture to learn from; says what only one label means."""

    def rows(split: str, label: str) -> NDArray[np.int64]:
        found = [i for i, row in enumerate(prepared.rows) if (row.split, row.label) == (split, label)]
        return np.array(found, np.int64)

    good, bad = (rows("train", label) for label in LABELS)
    marked = np.array([row for row in bad.tolist() if prepared.rows[row].masked], np.int64)
    if not len(good) and not len(bad):
        raise SettingsError(
            "There is no picture to train on.",
            got="none in the split train",
            expected="good pictures, defective ones, or both",
            fix="Add pictures to the source, or to train in splits.csv.",
        )
    if not len(good):
        # The sound surface around the defects is learned all the same.
        say("train: no good picture to train on: what only good parts show may be taken for defects")
    if len(marked) < len(bad):
        say(f"train: {len(bad) - len(marked)} of {len(bad)} defective pictures have no mask, but their label")
    if not len(bad):
        say("train: no defective picture to train on: synthetic defects in good pictures are all it learns")
    return Labels(good, bad, marked, rows("validation", "NG"))
