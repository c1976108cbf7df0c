"""Cross-fitting: networks that judge the training pictures which they have not learned, so that more pictures
than those of the validation part choose the threshold."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from defectline.components.common.bundle import CROSS_FIT, FOLDS
from defectline.components.common.dataset import Prepared, Split
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.train.backend.distributed import place
from defectline.components.train.formats.export import FILES, write_float32
from defectline.components.train.learning import learn
from defectline.components.train.progress.checkpoints import Checkpoints, digest
from defectline.components.train.settings import TrainSettings

HELD_OUT = "held out"
"""The split of what a network is not to learn."""


def cross_fit(
    model: Path,
    splits: Mapping[str, Split],
    prepared: Prepared,
    settings: TrainSettings,
    policy: str,
    replicas: int,
    store: Storage | None,
) -> list[Checkpoints]:
    """Train `settings.cross_fit` networks, each without its share of the training pictures; write them and,
    in FOLDS, which pictures each may judge, below CROSS_FIT in the folder `model`.

    The arguments are those of `learn`, and so are the errors. Each goes on from its last checkpoint; returns
    those, to be removed when the model is judged. Of several processes the first alone writes.
    """
    folds = deal(prepared, settings.cross_fit)
    used = []
    for fold in range(settings.cross_fit):
        held_out = {id for id, number in folds.items() if number == fold}
        say(f"cross-fitting: network {fold + 1} of {settings.cross_fit}, without {len(held_out)} pictures")
        rows = [
            row.model_copy(update={"split": HELD_OUT}) if row.id in held_out else row for row in prepared.rows
        ]
        part = prepared.model_copy(update={"rows": rows})
        train = splits["train"]
        keep = np.array([rows[row].split != HELD_OUT for row in train.rows.tolist()], bool)
        checkpoints = Checkpoints(store, digest(part, settings, policy, replicas)) if store else None
        learned = learn(
            {**splits, "train": train._replace(rows=train.rows[keep])},
            part,
            settings,
            policy,
            replicas,
            store,
            checkpoints,
            (),
        )
        if checkpoints:
            used.append(checkpoints)
        if not place().first:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            write_float32(learned.network, Path(temporary), prepared.classes)
            exported = Path(temporary, FILES["openvino"]).parent
            shutil.copytree(exported, model / CROSS_FIT / str(fold))
    if place().first:
        (model / CROSS_FIT / FOLDS).write_text(json.dumps(folds))
    return used


def deal(prepared: Prepared, folds: int) -> dict[str, int]:
    """Which fold each training picture is in, by its id. Pictures of one group stay together, and of each
    label every fold gets as many as can be. Pure."""
    parts: dict[str, list[str]] = {}
    bad = set()
    for row in prepared.rows:
        if row.split == "train":
            key = f"group {row.group}" if row.group else row.id
            parts.setdefault(key, []).append(row.id)
            if row.label == "NG":
                bad.add(key)
    dealt: dict[str, int] = {}
    sizes: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    for key in sorted(parts):
        of_label = sizes[key in bad]
        fold = min(range(folds), key=lambda number: (of_label[number], number))
        ids = set(parts[key])
        of_label[fold] += len(ids)
        dealt.update(dict.fromkeys(ids, fold))
    return dict(sorted(dealt.items()))
