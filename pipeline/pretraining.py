"""Weights to start from, trained on synthetic samples: for where no other weights can be had."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from defectline.components.common.checksums import sha256_file
from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SettingsError, SourceError
from defectline.components.common.images.sample import VARIOUS, generate_samples
from defectline.components.common.layout import pretrained_key
from defectline.components.common.snapshot import Pair, publish_snapshot, read_head, read_pairs, software
from defectline.components.common.steps import Say
from defectline.components.common.storage import open_storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.local import run_lock, temporary_workdir
from defectline.pipeline.parameters import Parameters, check_weights, parse
from defectline.pipeline.step_runner import StepRunner

WEIGHTS_KEY_FIELDS = (
    *("image_size", "channels", "enhance"),
    *("epochs", "batch_size", "seed", "encoder_weights", "init_from", "training"),
)
"""The parameters that make a difference."""
PAIRS = 6000
DEFAULTS = ("epochs=2", "batch_size=8", "quantize=false")
"""Many pictures seen few times: each shows a lattice of its own, and there is no end of them."""
VALIDATION = 20


def with_pretrained_weights(parameters: Parameters, say: Say) -> Parameters:
    """The parameters of a run that starts from pretrained weights for its kind of pictures.

    Raises SettingsError where they name weights already, and SourceError where there is nothing to train on.
    """
    if {parameters.encoder_weights, parameters.init_from} != {"none"}:
        raise SettingsError(
            "There are weights to start from already.",
            got=f"encoder_weights={parameters.encoder_weights}, init_from={parameters.init_from}",
            expected="one of them",
            fix="Leave out --pretrain, or the other.",
        )
    # Drawing and training take long: what stops the run itself should be told before.
    source = open_storage(parameters.source)
    if not any(True for _ in source.list()):
        raise SourceError(
            f"{source.uri} holds no labelled images.",
            got="no file",
            expected="pictures with their labels, such as OK/, NG/, OK_MSK/ and NG_MSK/",
            fix="Correct --source, or put the images there.",
        )
    same = [f"{name}={getattr(parameters, name)}" for name in ("image_size", "channels", "enhance")]
    made = pretrain(parse("drawn", parameters.store, [*DEFAULTS, *same]), PAIRS, say)
    return parse(
        parameters.source,
        parameters.store,
        [f"init_from={made}"],
        **parameters.model_dump(exclude={"source", "store", "init_from"}),
    )


def pretrain(parameters: Parameters, pairs: int, say: Say) -> str:
    """Train on `pairs` synthetic samples; returns what `init_from` takes: URI#sha256=… of the network.

    It lies in `parameters.store`, below pretrained/, and is made once for the same settings.
    """
    check_weights(parameters)
    store = open_storage(parameters.store)
    fields = parameters.model_dump_json(include={*WEIGHTS_KEY_FIELDS})
    cache_key = f"{software()} {VARIOUS} {pairs} {fields}"
    key = pretrained_key(hashlib.sha256(cache_key.encode()).hexdigest()[:12])
    with run_lock(store), temporary_workdir() as work:
        path = work / "model.keras"
        if store.exists(key):
            store.download(key, path)
        else:
            _train(parameters, pairs, work, say)
            store.upload(path, key)
        return f"{store.url(key)}#sha256={sha256_file(path)}"


def _divide(pairs: Sequence[Pair]) -> list[Pair]:
    """One picture in VALIDATION shows how training goes, and all others are trained on: nothing is judged."""
    return [
        pair._replace(split="train" if index % VALIDATION else "validation")
        for label in LABELS
        for index, pair in enumerate(sorted(p for p in pairs if p.label == label))
    ]


def _train(parameters: Parameters, pairs: int, work: Path, say: Say) -> None:
    say(f"drawing {pairs} pairs")
    # Far from the seeds that people draw samples with: what a model is judged on it must not have seen.
    seed = 1_000_000 + parameters.seed
    generate_samples(work / "samples", pairs=pairs, seed=seed, size=parameters.image_size, plates=VARIOUS)
    own = FolderStorage(work / "store")
    steps = StepRunner(parameters, work, say)
    steps.run("ingest", work / "samples", own.root)
    head = read_head(own)
    assert head is not None
    snapshot = publish_snapshot(own, _divide(read_pairs(own, head)), str(work / "samples"))
    steps.run("preprocess", own.root, snapshot.id, work / "dataset")
    steps.run("train", work / "dataset", work / "model", "--store", parameters.store)
    shutil.move(work / "model/model.keras", work / "model.keras")
