"""INT8 from float32: NNCF's quantization after training, of the exported OpenVINO network."""

import logging
from pathlib import Path

import numpy as np

from defectline.components.common.dataset import Split
from defectline.components.common.engine import import_openvino

PICTURES = 48
"""Training pictures to calibrate on. Networks from 16 and from 60 of them were equally good, and each costs
a tenth of a second at 224×224."""


def quantize(xml: Path, split: Split, seed: int, target: Path) -> None:
    """Write the network `xml` with weights and activations in INT8 as `target`, its .bin beside it.

    The ranges of the activations are those of PICTURES pictures of `split`, which `seed` chooses: the same
    network, pictures and seed give the same bytes.
    """
    openvino = import_openvino()
    # Its import looks for openvino_telemetry as well, which is out of reach by now.
    import nncf

    nncf.set_log_level(logging.WARNING)
    rows = np.random.default_rng(seed).permutation(split.rows)[:PICTURES]
    pictures = nncf.Dataset(rows, lambda row: split.images[row][None].astype(np.float32))
    quantized = nncf.quantize(
        openvino.Core().read_model(xml),
        pictures,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(rows),
        # Processors without VNNI add pairs of products in 16 bits, which overflow: verdicts changed.
        # Weights of 7 bits never do, so that every processor gives the gated answers.
        advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(quantized, target, compress_to_fp16=False)
