"""Pictures with defects of three kinds, and a network made by hand that tells them apart."""

import json
from pathlib import Path

import numpy as np
from networks import write_model
from numpy.typing import NDArray
from PIL import Image

from defectline.components.common.inference.engine import import_openvino
from defectline.components.common.storage import checksums
from defectline.components.ingest.step import ingest

CLASSES = ("dent", "scratch", "stain")
LIGHT = {"good": 105, "dent": 20, "scratch": 250, "stain": 180}
"""Grey level of each kind; good surface is 90 to 120."""
IGNORE = 255
SIZE = 64


def draw_kinds(
    numbers: list[int], seed: int, size: int = SIZE
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A plate with one block of 6 × 12 px a number, 255 for one that does not count; and its mask."""
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 121, (size, size), np.uint8)
    mask = np.zeros((size, size), np.uint8)
    for index, number in enumerate(numbers):
        y, x = 4 + 14 * index, int(rng.integers(4, size - 18))
        mask[y : y + 6, x : x + 12] = number
        image[y : y + 6, x : x + 12] = LIGHT["scratch" if number == IGNORE else CLASSES[number - 1]]
    return image, mask


def write_kinds(folder: Path, good: int = 12, each: int = 8, size: int = SIZE) -> Path:
    """`good` good pictures, and `each` with every kind, the last two with all of them and with something that
    does not count."""
    plates = [("OK", [])] * good
    for kind in range(1, 1 + len(CLASSES)):
        plates += [("NG", [kind])] * (each - 2) + [("NG", [1, 2, 3, IGNORE])] * 2
    for number, (label, kinds) in enumerate(plates):
        image, mask = draw_kinds(kinds, number, size)
        for name, pixels in ((label, image), (f"{label}_MSK", mask)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{number:03d}.png")
    names = [f"{number},{name}" for number, name in enumerate(CLASSES, start=1)]
    (folder / "classes.csv").write_text("\n".join(["value,name", *names]))
    return folder


def snapshot_of_kinds(source: Path, store: Path, **class_map: str) -> str:
    """The snapshot of a source of `write_kinds`."""
    names = ",".join(f"{old}={new}" for old, new in class_map.items())
    return ingest(str(source), str(store), "kinds", settings={"class_map": names, "max_rejected": 1.0})


def write_kinds_model(folder: Path, tile: bool = False, size: int = SIZE) -> Path:
    """A sealed model folder with a network for CLASSES."""
    write_model(folder, size=size, tile=tile)
    write_kinds_network(folder / "openvino/model.xml", size)
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**content, "classes": CLASSES}))
    checksums.seal(folder)
    return folder


def write_kinds_network(xml: Path, size: int = SIZE, kinds: int = len(CLASSES)) -> None:
    """The nearer a pixel is to a kind's grey level, the likelier it is of this kind."""
    openvino = import_openvino()
    from openvino import opset13 as ops

    picture = ops.parameter([-1, size, size, 1], np.float32, name="picture")
    logits = [
        ops.multiply(ops.abs(ops.subtract(picture, np.float32(light))), np.float32(-0.125))
        for light in list(LIGHT.values())[: 1 + kinds]
    ]
    answer = ops.softmax(ops.concat(logits, axis=3), axis=3)
    openvino.save_model(openvino.Model([answer], [picture], "kinds"), xml, compress_to_fp16=False)
