"""Weights to start from, out of a file whose digest can be asked for. Never silently something else."""

import json
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import DEFAULT_CLASSES, DEFECT, GOOD
from defectline.components.common.errors import SettingsError
from defectline.components.common.steps import say
from defectline.components.common.storage.checksums import sha256_file
from defectline.components.train.settings import WEIGHTS, weights_file

LAST = "logits"
"""The layer whose size is the number of classes."""
NAMES = "classes.json"
"""What a model.keras of several classes holds besides what Keras writes: their names, as outputs follow."""

Shapes = dict[str, list[tuple[int, ...]]]
"""Of the weights of each layer, by its name."""


def load_encoder(encoder: keras.Model, reference: str) -> None:
    """Load MobileNetV2 from `reference`: a path or URI of a Keras weights file, perhaps with `#sha256=…`.

    Raises SettingsError where the file is missing, is another one or does not fit.
    """
    fix = "Save it from keras.applications.MobileNetV2(include_top=False, alpha=…), alpha as encoder_width."
    with _fetched("encoder_weights", reference) as path, _fitting("encoder_weights", fix):
        encoder.load_weights(path)


def save_network(network: keras.Model, file: Path, classes: Sequence[str]) -> None:
    """Write `network` to `file` (.keras), with the names of its `classes` where they are several."""
    network.save(file)
    if len(classes) > 1:
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(NAMES, json.dumps(classes))


def load_network(network: keras.Model, reference: str, classes: Sequence[str] = DEFAULT_CLASSES) -> None:
    """Load the weights of `network`, which tells `classes` apart, from `reference`: a .weights.h5 of it, or a
    model.keras of ours.

    Where there are several classes, an output is taken by the name of its class, and those of classes that
    the file does not name stay as they are, which is said. Raises SettingsError where the file is missing, is
    another one, or where a layer's name or shape differs, as with another decoder or width.
    """
    fix = (
        "Take the file from a bundle of this version of defectline, and set decoder and encoder_width as "
        "they were for that."
    )
    with _fetched("init_from", reference) as path, _fitting("init_from", fix):
        last = network.get_layer(LAST)
        own, given, known = last.get_weights(), [], []
        if path.name.endswith(".weights.h5"):
            other = _check_shapes(_shapes_in(path), _shapes(network.weights))
            with warnings.catch_warnings():
                # Keras warns of the layer that is left out.
                warnings.simplefilter("ignore")
                network.load_weights(path, skip_mismatch=other)
        elif path.suffix == ".keras":
            source = keras.models.load_model(path, compile=False)
            other = _check_shapes(_shapes(source.weights), _shapes(network.weights))
            _copy_weights(source, network)
            given, known = source.get_layer(LAST).get_weights(), _read_classes(path)
        else:
            raise ValueError(f"a file named {path.name}")
        if other or (len(classes) > 1 and known != [*classes]):
            axis = -2 if isinstance(last, keras.layers.Conv2DTranspose) else -1
            last.set_weights(_match_outputs(own, given, classes, known, axis))
            say(f"train: {_compare(_name(reference), classes, known)}")


def _read_classes(path: Path) -> list[str]:
    """Those that a .keras file names; none where it has one class, or is not of ours."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(NAMES)) if NAMES in archive.namelist() else []


def _match_outputs(
    own: list[NDArray], given: list[NDArray], classes: Sequence[str], known: Sequence[str], axis: int
) -> list[NDArray]:
    """The weights `own` of the last layer, kernel and bias, in which the outputs of those of `classes` that
    are `known` are as in `given`; with them that of good, which means little without any. `axis` is that of
    the kernel's outputs."""
    found = [(here, known.index(name)) for here, name in enumerate(classes) if name in known]
    for mine, theirs in zip(own, given, strict=True) if found else ():
        mine, theirs = (np.moveaxis(each, axis if each.ndim > 1 else 0, 0) for each in (mine, theirs))
        mine[GOOD] = theirs[GOOD]
        for here, there in found:
            mine[1 + here] = theirs[1 + there]
    return own


def _compare(file: str, classes: Sequence[str], known: Sequence[str]) -> str:
    """What becomes of the last layer, in a sentence."""
    kept = ", ".join(name for name in classes if name in known)
    new = ", ".join(name for name in classes if name not in known)
    if not kept:
        return f"{file} knows other classes, or does not name them: its last layer is learned from the start"
    others = f"; learned from the start: {new}" if new else ""
    return f"{file} knows other classes, or in another order; taken from it by name: {kept}{others}"


def take_over(network: keras.Model, pretrained: Sequence[NDArray]) -> None:
    """Give `network` the weights of one with a single class of defects: each of its classes starts as that
    one, so that the probability of good stays the same."""
    for weight, given in zip(network.weights, pretrained, strict=True):
        apart = [axis for axis, size in enumerate(given.shape) if size != weight.shape[axis]]
        if apart:
            count = weight.shape[apart[0]]
            given = np.take(given, [GOOD] + [DEFECT] * (count - 1), axis=apart[0])
            if given.ndim == 1:
                # So many classes share what one had.
                given = given - np.log(count - 1) * (np.arange(count) != GOOD)
        weight.assign(given)


def _name(reference: str) -> str:
    """What a file of weights is called, without its folder and digest."""
    return reference.partition("#sha256=")[0].rpartition("/")[2]


def _shapes_in(path: Path) -> Shapes:
    found: Shapes = {}

    def look(_: str, entry: h5py.Group | h5py.Dataset) -> None:
        if isinstance(entry, h5py.Group) and entry.name.endswith("/vars") and len(entry):
            name = str(entry.attrs.get("name", entry.name))
            found[name] = [tuple(entry[key].shape) for key in sorted(entry, key=int)]

    with h5py.File(path) as file:
        file.visititems(look)
    return found


def _shapes(weights: Iterable[Any]) -> Shapes:
    found: Shapes = {}
    for weight in weights:
        found.setdefault(weight.path.split("/")[-2], []).append(tuple(weight.shape))
    return found


def _check_shapes(found: Shapes, wanted: Shapes) -> bool:
    """Whether both are the same but for the outputs of the last layer. Raises ValueError where they differ in
    anything else: Keras goes by kind and order of layers, and only warns of some that are missing."""
    if odd := sorted(wanted.keys() ^ found.keys()):
        raise ValueError(f"layers that only one of both has: {', '.join(odd[:4])}")
    differing = [name for name in wanted if found[name] != wanted[name]]
    if not differing:
        return False
    pairs = zip(found[differing[0]], wanted[differing[0]], strict=True)
    apart = [sum(a != b for a, b in zip(own, other, strict=True)) for own, other in pairs]
    if differing != [LAST] or apart != [1] * len(apart):
        name = differing[0]
        raise ValueError(f"{name} of shapes {found[name]} instead of {wanted[name]}")
    return True


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy weights of the same shape by their names."""
    found = {weight.path: weight for weight in source.weights}
    for weight in target.weights:
        if found[weight.path].shape == weight.shape:
            weight.assign(found[weight.path])


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
