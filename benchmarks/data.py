"""How fast and how lean ingest and preprocess are, against what the machine can do at best.

    python benchmarks/data.py --pairs 2000 --size 224

Draws the pairs (cached below --work), and prints ratios, so that the figures of two machines compare.
Each step runs in a process of its own, as in a real run, and its anonymous memory is watched from outside.
The raw loops that it is compared with run in one thread, with the files in the page cache. Preprocess and
what it is compared with take turns --repeat times, and the best of each counts: other work on the machine
only ever slows them down. Processor time hardly depends on other work.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
from measuring import INGEST, measure
from PIL import Image

from defectline.components.common.dataset import open_dataset
from defectline.components.common.images.imaging import ImagingSettings, prepare_image, prepare_mask
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.images.reading import decode_image
from defectline.components.common.images.sample import generate_samples
from defectline.components.common.snapshot import read_head
from defectline.components.common.storage.folder import FolderStorage

PREPROCESS = """
import json, os, sys, time
from pathlib import Path
from defectline.components.preprocess.step import preprocess
start, processor = time.perf_counter(), sum(os.times()[:4])
preprocess(sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4]))
print(sum(os.times()[:4]) - processor, time.perf_counter() - start)
"""
# The loop that anybody would write: one process, one OpenCV thread, nothing checked.
PLAIN = """
import json, sys, time
from pathlib import Path
import cv2
import numpy as np
from numpy.lib.format import open_memmap
cv2.setNumThreads(1)
folder, pairs, imaging = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()), json.loads(sys.argv[3])
size, channels = imaging["image_size"], imaging["channels"]
kind = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
clahe, around = cv2.createCLAHE(2.0, (max(1, size // 28),) * 2), np.ones((3, 3), np.uint8)
start, processor = time.perf_counter(), time.process_time()
images = open_memmap(folder / "images.npy", "w+", np.uint8, (len(pairs), size, size, channels))
masks = open_memmap(folder / "masks.npy", "w+", np.uint8, (len(pairs), size, size))
for index, (image, mask) in enumerate(pairs):
    pixels = cv2.imdecode(np.frombuffer(Path(image).read_bytes(), np.uint8), kind)
    truth = cv2.imdecode(np.frombuffer(Path(mask).read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if imaging["enhance"]:
        if channels == 1:
            pixels = clahe.apply(pixels)
        else:
            lab = cv2.cvtColor(pixels, cv2.COLOR_BGR2LAB)
            lab[..., 0] = clahe.apply(lab[..., 0])
            pixels = cv2.cvtColor(lab, cv2.COLOR_LAB2BGR)
        pixels = cv2.dilate(pixels, around)
    pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    images[index] = pixels.reshape(size, size, channels)
    masks[index] = cv2.resize(truth, (size, size), interpolation=cv2.INTER_NEAREST) > 0
images.flush()
masks.flush()
print(time.process_time() - processor, time.perf_counter() - start)
"""


def seconds(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def read_all(files: list[Path]) -> None:
    for path in files:
        path.read_bytes()


def raw_kernels(pairs: list[tuple[Path, Path]], imaging: ImagingSettings) -> None:
    """Decode, enhance and resize, nothing else."""
    for image, mask in pairs:
        prepare_image(decode_image(image.read_bytes(), imaging.channels), imaging)
        prepare_mask(decode_mask(mask.read_bytes()), imaging)


def kernel_seconds(pairs: list[tuple[Path, Path]], imaging: ImagingSettings) -> float:
    """Processor time of the raw kernels in one thread: what no preparing can do without."""
    start = time.process_time()
    raw_kernels(pairs, imaging)
    return time.process_time() - start


def draw(folder: Path, pairs: int, size: int, compressed: bool) -> Path:
    source = folder / f"pairs-{pairs}-{size}{'-compressed' if compressed else ''}"
    if not source.exists():
        generate_samples(source, pairs=pairs, size=size)
        for path in source.rglob("*.png") if compressed else ():
            Image.open(path).save(path)
    return source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--size", type=int, default=224, help="side of the synthetic pictures in pixels")
    parser.add_argument("--image-size", type=int, default=224, help="side of the prepared pictures")
    parser.add_argument("--channels", type=int, default=1, choices=(1, 3))
    parser.add_argument("--compressed", action="store_true", help="compress the synthetic pictures")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "defectline-benchmark"))
    options = parser.parse_args()

    print(f"{os.cpu_count()} processors, {options.pairs} pairs of {options.size}×{options.size}")
    source = draw(options.work, options.pairs, options.size, options.compressed)
    files = sorted(source.rglob("*.png"))
    images = [path for label in ("OK", "NG") for path in sorted((source / label).iterdir())]
    pairs = [
        (path, source / f"{path.parent.name}_MSK" / path.name.replace("Image", "Mask")) for path in images
    ]
    store = options.work / "store"
    shutil.rmtree(store, ignore_errors=True)

    read_all(files)  # into the page cache
    bare = seconds(lambda: read_all(files))
    first = measure(INGEST, source, store)
    second = measure(INGEST, source, store)
    print(f"bare read        {len(files) / bare:8,.0f} objects/s")
    print(
        f"first ingest     {len(files) / first.seconds:8,.0f} objects/s = {bare / first.seconds:.3f} of the"
        f" bare read, {first.seconds:.2f} s, peak {first.peak_mb:.0f} MB"
    )
    print(
        f"nothing new      {second.seconds / first.seconds:8.3f} of the first ingest,"
        f" {second.seconds:.2f} s, peak {second.peak_mb:.0f} MB"
    )
    cv2.setNumThreads(1)
    cores = os.cpu_count() or 1
    plain, list_of_pairs = options.work / "plain", options.work / "pairs.json"
    plain.mkdir(exist_ok=True)
    list_of_pairs.write_text(json.dumps([[str(path) for path in pair] for pair in pairs]))
    for enhance in (False, True):
        imaging = ImagingSettings(image_size=options.image_size, channels=options.channels, enhance=enhance)
        compare_preprocess(options, store, pairs, imaging, cores)


def compare_preprocess(
    options: argparse.Namespace,
    store: Path,
    pairs: list[tuple[Path, Path]],
    imaging: ImagingSettings,
    cores: int,
) -> None:
    """Preprocess, the raw kernels and the plain loop, taking turns."""
    snapshot = read_head(FolderStorage(store))
    settings = imaging.model_dump_json()
    done, loop, kernels = [], [], []
    for _ in range(options.repeat):
        done.append(measure(PREPROCESS, store, snapshot, options.work / "dataset", settings))
        loop.append(measure(PLAIN, options.work / "plain", options.work / "pairs.json", settings))
        kernels.append(kernel_seconds(pairs, imaging) / len(pairs))
    count = len(open_dataset(options.work / "dataset")[0].rows)
    rate = count / min(run.seconds for run in done)
    plain = len(pairs) / min(run.seconds for run in loop)
    raw = 1 / min(kernels)
    work = min(run.processor_s for run in done) / count
    plain_work = min(run.processor_s for run in loop) / len(pairs)
    print(
        f"preprocess       {rate:8,.0f} pictures/s, enhance={imaging.enhance},"
        f" peak {max(run.peak_mb for run in done):.0f} MB\n"
        f"  of a plain loop of OpenCV in one process ({plain:,.0f}/s): {rate / plain:.2f};"
        f" could be {cores * plain_work / work:.2f} by processor time\n"
        f"  of the raw kernels on {cores} processors ({cores * raw:,.0f}/s): {rate / raw / cores:.2f};"
        f" could be {min(kernels) / work:.2f} by processor time"
    )


if __name__ == "__main__":
    main()
