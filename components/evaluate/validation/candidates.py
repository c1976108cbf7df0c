"""The networks of a model that could be served, and the one that is, on the validation split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from defectline.components.common.bundle import NETWORKS
from defectline.components.common.inference.network import Network
from defectline.components.common.legend import Names
from defectline.components.common.snapshot import Pair
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage
from defectline.components.evaluate.inputs import Inputs
from defectline.components.evaluate.scoring import Scored, calibrate, score, see_cross_fitted
from defectline.components.evaluate.settings import EvaluateSettings
from defectline.components.evaluate.validation.calibration import OperatingPoint
from defectline.components.evaluate.validation.first_look import choose_first_look
from defectline.components.evaluate.validation.precision import select_precision


class Chosen(NamedTuple):
    """The network that is served, and how it does on the validation split."""

    network: Network
    point: OperatingPoint
    validated: Scored
    served: Literal["openvino", "openvino_int8"]
    """Which of NETWORKS it is."""
    reason: str


def choose_network(model: Path, inputs: Inputs, storage: Storage, settings: EvaluateSettings) -> Chosen:
    """Of the model's networks, each at an operating point of its own on the validation split, and on training
    pictures that were judged by networks without them, the one to serve; with a first look where that is
    asked for and changes no verdict.
    """
    imaging, names, roi, pairs = inputs.imaging, inputs.names, inputs.roi, inputs.splits["validation"]
    seen = see_cross_fitted(model, imaging, storage, inputs.splits["train"], names, roi, settings)
    found = {}
    for served, file in NETWORKS.items():
        if (model / file).exists():
            network = Network(model / file, imaging, classes=names.classes, roi=roi)
            point = calibrate(network, storage, pairs, names, settings, seen)
            found[served] = (
                network,
                point,
                score(network, point, storage, pairs, names, f"validating {served}"),
            )
    chosen, reason = select_precision({name: scored.counts for name, (_, _, scored) in found.items()})
    network, point, validated = found[chosen]
    if imaging.tile and settings.first_look == "auto":
        validated = _look_first(network, point, validated, storage, pairs, names)
    return Chosen(network, point, validated, chosen, reason)


def _look_first(
    network: Network,
    point: OperatingPoint,
    validated: Scored,
    storage: Storage,
    pairs: Sequence[Pair],
    names: Names,
) -> Scored:
    """Let the network look first where that changes no verdict; what it then says of the `pairs`."""
    network.first_look, why = choose_first_look(network, point, storage, pairs)
    if network.first_look is not None:
        looked = score(network, point, storage, pairs, names, "validating the first look")
        both = zip(validated.counts, looked.counts, strict=True)
        if changed := [whole.id for whole, first in both if whole.verdict != first.verdict]:
            network.first_look = None
            why = f"it changes the verdict of {', '.join(changed[:3])}"
        else:
            validated = looked
    used = "frames are judged at half resolution first" if network.first_look else "no first look"
    say(f"evaluate: {used}: {why}")
    return validated
