"""What each decoder takes: multiply-adds, parameters, and the time of an answer and of a training step.

    python benchmarks/network.py

Ratios to pix2pix, as medians: the decoders take turns, and each turn's times are divided by one another, for
other work on the machine slows down both. Answers are OpenVINO's as the endpoint runs it, of untrained
networks on noise, which INT8 is calibrated on too: one image at a time with all threads (latency), and as
many at a time as there are threads (throughput). DNNL_MAX_CPU_ISA=AVX2 shows a processor without the
instructions for INT8. A training step is one of a whole batch in float32, with augmentation and optimizer.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from engines import Ask, take_turns
from keras import layers

from defectline.components.common.dataset import ConcatenatedArray, Split
from defectline.components.common.inference.engine import OpenVino, import_openvino
from defectline.components.train import loop
from defectline.components.train.decoders import DECODERS
from defectline.components.train.formats.quantize import quantize
from defectline.components.train.network import build_network
from defectline.components.train.settings import DecoderName, TrainSettings
from defectline.components.train.trainer import Trainer

FORMER: DecoderName = "pix2pix"


def multiply_adds(network: keras.Model) -> int:
    """Of the convolutions, for one picture."""
    found = 0
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            found += multiply_adds(layer)
        elif isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.Conv2DTranspose):
            # A transposed convolution spreads each pixel that it takes; others gather each that they give.
            pixels = layer.input if isinstance(layer, layers.Conv2DTranspose) else layer.output
            found += int(np.prod(pixels.shape[1:3]) * np.prod(layer.kernel.shape))
    return found


def export(network: keras.Model, folder: Path, noise: np.ndarray) -> dict[str, Path]:
    """The network's files in float32 and INT8."""
    import_openvino()
    files = {name: folder / name / "model.xml" for name in ("float32", "INT8")}
    files["float32"].parent.mkdir(parents=True)
    network.export(str(files["float32"]), format="openvino", verbose=False)
    split = Split(ConcatenatedArray([noise]), ConcatenatedArray([noise[..., 0]]), np.arange(len(noise)))
    quantize(files["float32"], split, 0, files["INT8"])
    return files


def in_threads(ask: Ask, threads: int) -> Ask:
    """The same, of as many pictures at a time as there are threads."""
    pool = ThreadPoolExecutor(threads)
    return lambda batch: list(pool.map(ask, (batch[n : n + 1] for n in range(len(batch)))))


def step(network: keras.Model) -> Callable[[np.ndarray], object]:
    """A function that takes a training step with pictures uint8 (N, S, S, 1)."""
    trainer = Trainer(network, seed=0)
    loop._compile(trainer, TrainSettings(), 100, epoch=0)
    return lambda batch: trainer.train_on_batch((batch, (batch[..., 0] > 250).astype(np.uint8)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("size", 224), ("batch", 8), ("threads", 2), ("turns", 30), ("steps", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    loop.enable_determinism()
    shape = (options.batch, options.size, options.size, 1)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    networks = {name: build_network(options.size, decoder=name) for name in DECODERS}
    for name, network in networks.items():
        work = multiply_adds(network) / 1e9, network.count_params() / 1e6
        print(f"{name:10} {work[0]:5.2f} GMAC, {work[1]:5.2f} million parameters")
    asks: dict[str, dict[str, Ask]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, network in networks.items():
            for kind, file in export(network, Path(temporary, name), noise).items():
                engine = OpenVino(file, options.threads)
                asks.setdefault(f"{kind}, latency", {})[name] = engine
                asks.setdefault(f"{kind}, throughput", {})[name] = in_threads(engine, options.threads)
    asks["training step"] = {name: step(network) for name, network in networks.items()}
    print(f"{'ms a picture':24}" + "".join(f"{name:>10}" for name in networks) + f"{'of ' + FORMER:>14}")
    for what, each in asks.items():
        turns = options.steps if what == "training step" else options.turns
        spent = take_turns(each, noise[:1] if "latency" in what else noise, turns)
        medians = "".join(f"{np.median(times):10.1f}" for times in spent.values())
        ratios = {name: times / spent[FORMER] for name, times in spent.items() if name != FORMER}
        print(f"{what:24}{medians}" + "".join(f"{np.median(ratio):14.2f}" for ratio in ratios.values()))


if __name__ == "__main__":
    main()
