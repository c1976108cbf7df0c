"""What a training has come to, kept in the store until it is judged.

checkpoints/<digest>/epoch-00007.npz    one file an epoch: all variables, and the history so far

The digest covers all that the result depends on, so that a run which finds a file there can go on from it. A
file is written whole or not at all, and those before it go only when it is there. Best weights are written
once: the file of the best epoch stays.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.dataset import Prepared
from defectline.components.common.errors import Corrupt
from defectline.components.common.layout import checkpoint_prefix
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.train.progress.history import best_epoch
from defectline.components.train.settings import TrainSettings

Arrays = list[NDArray]


class Checkpoint(NamedTuple):
    history: list[dict]
    """A row an epoch; so the last epoch, the best one and how long that is ago."""
    network: Arrays
    """The network's weights, in its own order."""
    rest: Arrays
    """Optimizer and random state."""
    best: Arrays
    """The network's weights at the best epoch."""


def digest(prepared: Prepared, settings: TrainSettings, policy: str, replicas: int) -> str:
    """A name for all that decides what training comes to: data, settings, programs and how they compute."""
    folders = (Path(__file__).parents[1], Path(__file__).parents[2] / "common/synthetic")
    programs = [path.read_bytes() for folder in folders for path in sorted(folder.rglob("*.py"))]
    parts = {
        # The same pictures in the same splits are the same data, in whatever snapshot.
        "data": prepared.model_dump(mode="json", exclude={"snapshot"}),
        "settings": settings.model_dump(),
        "precision": policy,
        "replicas": replicas,
        "keras": keras.__version__,
        "backend": f"{keras.backend.backend()} {_backend_version()}",
        "programs": hashlib.sha256(b"".join(programs)).hexdigest(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _backend_version() -> str:
    if keras.backend.backend() == "jax":
        import jax

        return jax.__version__
    import tensorflow as tf

    return tf.__version__


class Checkpoints:
    """The checkpoints of one training in a store."""

    def __init__(self, store: Storage, name: str):
        self.store, self.name, self.prefix = store, name, checkpoint_prefix(name)

    def save(self, history: list[dict], network: Sequence, rest: Sequence) -> None:
        """Keep the state after the last epoch of `history`.

        Raises StoreError where that fails; what was kept before is still there then.
        """
        arrays: dict[str, Any] = {
            f"{kind}-{index:04d}": np.asarray(value)
            for kind, values in (("network", network), ("rest", rest))
            for index, value in enumerate(values)
        }
        file = io.BytesIO()
        np.savez(file, history=np.array(json.dumps(history)), **arrays)
        last, best = len(history), int(best_epoch(history)["epoch"])
        self.store.write(self._key(last), file.getvalue())
        for epoch in self._epochs():
            if epoch not in (last, best):
                self._forget(epoch)

    def load(self) -> Checkpoint | None:
        """The last state that can be read, or None. Says which files are damaged."""
        for epoch in self._epochs():
            try:
                return self.read(epoch)
            except (Corrupt, zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
                said = str(error).splitlines()[0]
                say(f"train: {self.store.url(self._key(epoch))} is damaged and not used ({said})")
        return None

    def remove(self) -> None:
        self.store.delete_below(self.prefix)

    def read(self, epoch: int) -> Checkpoint:
        """The state after an epoch. Raises what tells that it is not there, or damaged."""
        history, network, rest = _unpack(self.store.read(self._key(epoch)))
        best = int(best_epoch(history)["epoch"])
        kept = network if best == epoch else _unpack(self.store.read(self._key(best)))[1]
        return Checkpoint(history, network, rest, kept)

    def _key(self, epoch: int) -> str:
        return f"{self.prefix}epoch-{epoch:05d}.npz"

    def _epochs(self) -> list[int]:
        """Epochs whose file is there, the last one first."""
        names = (found.key.rpartition("/epoch-")[2] for found in self.store.list(self.prefix))
        return sorted((int(name.removesuffix(".npz")) for name in names), reverse=True)

    def _forget(self, epoch: int) -> None:
        # Another run of the same training may have removed it.
        with suppress(KeyError):
            self.store.delete(self._key(epoch))


def _unpack(data: bytes) -> tuple[list[dict], Arrays, Arrays]:
    """History, network and rest; any change of a byte raises BadZipFile by its CRC."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        history = json.loads(str(file["history"]))
        network, rest = (
            [file[name] for name in sorted(file.files) if name.startswith(kind)]
            for kind in ("network-", "rest-")
        )
    return history, network, rest
