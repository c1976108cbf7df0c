"""INT8 from float32: NNCF's quantization after training, of the exported OpenVINO network."""

import logging
from pathlib import Path

import numpy as np

from defectline.components.common.dataset import Split
from defectline.components.common.engine import import_openvino

PICTURES = 48
"""Training pictures to calibrate on; each costs a tenth of a second at 224×224. Of 60 drawn ones 16 did as
well, but of 24 real ones all were needed."""


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
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(quantized, target, compress_to_fp16=False)
