"""What this machine trains on, and in which precision."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import keras

from defectline.components.common.errors import SettingsError


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
    scope: AbstractContextManager
    """Variables are made in it."""


def replicate(batch_size: int, names: list[str] | None = None) -> Replicas:
    """One replica for each of the GPUs `names` (default: all that are visible), or one in all.

    Several need TensorFlow; JAX trains on one. Raises SettingsError where they cannot share a batch evenly.
    """
    names = [gpu.name for gpu in visible_gpus()] if names is None else names
    if len(names) < 2 or keras.backend.backend() != "tensorflow":
        return Replicas(1, nullcontext())
    if batch_size % len(names):
        raise SettingsError(
            "The GPUs cannot share a batch evenly.",
            got=f"batch_size={batch_size} for {len(names)} GPUs",
            expected=f"a multiple of {len(names)}",
            fix=f"Set batch_size to {-(-batch_size // len(names)) * len(names)}, or show fewer GPUs with "
            "CUDA_VISIBLE_DEVICES.",
        )
    import tensorflow as tf

    return Replicas(len(names), tf.distribute.MirroredStrategy(names).scope())
