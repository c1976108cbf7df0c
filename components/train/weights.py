"""Weights to start from, out of a file whose digest can be asked for. Never silently something else."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import keras

from defectline.components.common.checksums import sha256_file
from defectline.components.common.errors import SettingsError
from defectline.components.train.settings import WEIGHTS, weights_file


def load_encoder(encoder: keras.Model, reference: str) -> None:
    """Load MobileNetV2 from `reference`: a path or URI of a Keras weights file, perhaps with `#sha256=…`.

    Raises SettingsError where the file is missing, is another one or does not fit.
    """
    fix = "Save it from keras.applications.MobileNetV2(include_top=False)."
    with _fetched("encoder_weights", reference) as path, _fitting("encoder_weights", fix):
        encoder.load_weights(path)


def load_network(network: keras.Model, reference: str) -> None:
    """Load all weights of `network` from `reference`: a .weights.h5 of it, or a model.keras of ours.

    Raises SettingsError where the file is missing, is another one, or where a layer's name or shape differs.
    """
    fix = "Take the file from a bundle of this version of defectline."
    with _fetched("init_from", reference) as path, _fitting("init_from", fix):
        if path.name.endswith(".weights.h5"):
            _check_names(path, network)
            network.load_weights(path)
        elif path.suffix == ".keras":
            _copy_weights(keras.models.load_model(path, compile=False), network)
        else:
            raise ValueError(f"a file named {path.name}")


def _check_names(path: Path, network: keras.Model) -> None:
    """Raise ValueError where a weights file is of other layers: Keras goes by their kind and order, and
    only warns of some that are missing."""
    found: set[str] = set()

    def look(_: str, entry: h5py.Group | h5py.Dataset) -> None:
        if isinstance(entry, h5py.Group) and entry.name.endswith("/vars") and len(entry):
            found.add(str(entry.attrs.get("name", entry.name)))

    with h5py.File(path) as file:
        file.visititems(look)
    wanted = {weight.path.split("/")[-2] for weight in network.weights}
    if odd := sorted(wanted ^ found):
        raise ValueError(f"layers that only one of both has: {', '.join(odd[:4])}")


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy weights by their names. Raises ValueError that names the first that is missing or differs."""
    found, wanted = ({weight.path: weight for weight in model.weights} for model in (source, target))
    for name in [*wanted, *found]:
        if name not in found or name not in wanted:
            raise ValueError(f"{'no' if name in wanted else 'an unknown'} {name}")
        if found[name].shape != wanted[name].shape:
            raise ValueError(f"{name} of shape {found[name].shape} instead of {wanted[name].shape}")
    for name, weight in wanted.items():
        weight.assign(found[name])


@contextmanager
def _fetched(setting: str, reference: str) -> Iterator[Path]:
    """The file that `reference` names, checked against its digest where that is given."""
    storage, name = weights_file(setting, reference)
    digest = reference.partition("#sha256=")[2]
    with tempfile.TemporaryDirectory() as temporary:
        path = storage.fetch(name, Path(temporary, name))
        actual = sha256_file(path)
        if digest and actual != digest.lower():
            raise SettingsError(
                f"The file of {setting} is not the one that was asked for.",
                got=f"SHA-256 {actual}",
                expected=digest,
                fix=f"Fetch the file again, or correct the digest in {setting}.",
            )
        yield path


@contextmanager
def _fitting(setting: str, fix: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, KeyError) as error:
        raise SettingsError(
            "The weights to start from do not fit.",
            got=str(error).splitlines()[0],
            expected=WEIGHTS[setting],
            fix=fix,
        ) from error
