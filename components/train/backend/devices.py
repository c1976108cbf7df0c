"""What this machine trains on, and in which precision."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import keras

from defectline.components.common.errors import SettingsError
from defectline.components.train.backend.distributed import place
from defectline.components.train.batches import WHOLE, Share
from defectline.components.train.settings import even


class GPU(NamedTuple):
    name: str
    """As TensorFlow or JAX calls it."""
    capability: float
    """CUDA compute capability; 0 where the GPU states none."""


def visible_gpus() -> list[GPU]:
    if keras.backend.backend() == "jax":
        import jax

        devices = jax.devices() if jax.default_backend() == "gpu" else []
        return [GPU(str(device), float(getattr(device, "compute_capability", 0))) for device in devices]
    import tensorflow as tf

    found = []
    physical = tf.config.list_physical_devices("GPU")
    for index, device in enumerate(physical):
        major, minor = tf.config.experimental.get_device_details(device).get("compute_capability", (0, 0))
        found.append(GPU(f"/gpu:{index}", major + minor / 10))
    return found


def policy(precision: str) -> str:
    """The Keras dtype policy of a `precision` of TrainSettings; `auto` is the fastest that is native here.

    bfloat16 needs no loss scaling, so it goes first: GPUs compute it from capability 8.0 on. GPUs from 7.0 on
    compute float16, for which Keras scales the loss. On processors float32 was as fast as bfloat16 even where
    they have instructions for it (benchmarks/training.py).
    """
    if precision == "auto":
        least = min((gpu.capability for gpu in visible_gpus()), default=0.0)
        precision = "bfloat16" if least >= 8 else "float16" if least >= 7 else "float32"
    return precision if precision == "float32" else f"mixed_{precision}"


def enable_determinism() -> None:
    """On a processor, let TensorFlow add up in the same order every time, for the rest of the process.

    That costs nothing there. Seeds must have been set. On GPUs it would be slow, and JAX needs no telling.
    """
    if keras.backend.backend() == "tensorflow" and not visible_gpus():
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


class Replicas(NamedTuple):
    """Copies of the network that train together, each on its part of every batch."""

    number: int
    """Of those that take the loss of their own part. With JAX one: the loss is that of the whole batch, and
    so is whatever else is computed of it, however many devices share it."""
    scope: AbstractContextManager
    """Variables are made in it, and trained."""
    share: Share = WHOLE
    """What this process reads of each batch."""


def replicate(batch_size: int, names: list[str] | None = None) -> Replicas:
    """A replica for each of the GPUs `names` (default: all that are visible), or one in all; with JAX, for
    each device of all processes that train together.

    Raises SettingsError where they cannot share a batch evenly.
    """
    if keras.backend.backend() == "jax":
        return _distribute(batch_size)
    names = [gpu.name for gpu in visible_gpus()] if names is None else names
    if len(names) < 2:
        return Replicas(1, nullcontext())
    _check_even(batch_size, len(names), "GPUs", "or show fewer GPUs with CUDA_VISIBLE_DEVICES")
    import tensorflow as tf

    return Replicas(len(names), tf.distribute.MirroredStrategy(names).scope())


def _distribute(batch_size: int) -> Replicas:
    import jax

    here, devices = place(), jax.device_count()
    if devices == 1:
        return Replicas(1, nullcontext())
    _check_even(batch_size, devices, "devices", "or train on fewer")
    parallel = keras.distribution.DataParallel(
        devices=keras.distribution.list_devices(), auto_shard_dataset=False
    )
    return Replicas(1, parallel.scope(), Share(here.process, here.processes, devices))


def _check_even(batch_size: int, devices: int, what: str, otherwise: str) -> None:
    if batch_size % devices:
        raise SettingsError(
            f"The {what} cannot share a batch evenly.",
            got=f"batch_size={batch_size} for {devices} {what}",
            expected=f"a multiple of {devices}",
            fix=f"Set batch_size to {even(batch_size, devices)}, {otherwise}.",
        )


def device_count() -> int:
    """How many share each batch: GPUs or, with JAX, devices of all processes; 1 where there is no choice."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.device_count()
    return max(1, len(visible_gpus()))
