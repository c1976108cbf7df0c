"""INT8 from float32: NNCF's quantization after training, of the exported OpenVINO network."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from defectline.components.common.dataset import Split
from defectline.components.common.inference.engine import import_openvino

PICTURES = 128
"""Training pictures to calibrate on; each costs a few hundredths of a second at 224×224. Of four draws of 48
one changed a validation verdict of the samples' network, of four of 96 none."""


def quantize(xml: Path, split: Split, seed: int, target: Path) -> None:
    """Write the network `xml` with weights and activations in INT8 as `target`, its .bin beside it.

    Its last convolution stays in float32. The ranges of the activations are those of PICTURES pictures of
    `split`, which `seed` chooses: the same network, pictures and seed give the same .bin, byte for byte. The
    names in the .xml count what the process has made before.
    """
    openvino = import_openvino()
    # Their import looks for openvino_telemetry as well, which is out of reach by now.
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.WARNING)
    rows = np.random.default_rng(seed).permutation(split.rows)[:PICTURES]
    pictures = nncf.Dataset(rows, lambda row: split.images[row][None].astype(np.float32))
    network = openvino.Core().read_model(xml)
    *_, last = (op for op in network.get_ordered_ops() if "Convolution" in op.get_type_name())
    quantized = nncf.quantize(
        network,
        pictures,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(rows),
        # The probabilities follow from it alone.
        ignored_scope=nncf.IgnoredScope(names=[last.get_friendly_name()]),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            # Few pixels are defects, and theirs are the activations that an average range would cut off.
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            # Processors without VNNI add pairs of products in 16 bits, which overflow: verdicts changed.
            # Weights of 7 bits cannot, so that every processor gives the answers that were gated.
            overflow_fix=nncf.OverflowFix.ENABLE,
        ),
    )
    _make_symmetric_before_transposed(quantized)
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(quantized, target, compress_to_fp16=False)


def _make_symmetric_before_transposed(network: Any) -> None:
    """Widen the ranges of what transposed convolutions take to lie around zero, where they go below it.

    OpenVINO computes those in INT8 for symmetric ranges alone, and falls back to float32 for others. All
    activations symmetric, which NNCF could do, costs the other convolutions half a bit.
    """
    from openvino import opset13 as ops

    for op in network.get_ordered_ops():
        ranges = op.input_value(0).get_node() if op.get_type_name() == "ConvolutionBackpropData" else None
        if ranges is None or ranges.get_type_name() != "FakeQuantize":
            continue
        low, high = (ranges.input_value(index).get_node().get_data() for index in (1, 2))
        if (low >= 0).all():
            continue
        # 256 levels: 128 below zero, zero, and 127 above it.
        step = np.maximum(-low / 128, high / 127)
        for indices, end in (((1, 3), -128 * step), ((2, 4), 127 * step)):
            constant = ops.constant(end.astype(np.float32)).output(0)
            for index in indices:
                ranges.input(index).replace_source_output(constant)
