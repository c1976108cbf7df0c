"""How fast and how lean ingest and preprocess are, against what the machine can do at best.

    python benchmarks/data.py --pairs 2000 --size 224

Draws the pairs (cached below --work), and prints ratios, so that the figures of two machines compare.
Each step runs in a process of its own, as in a real run, and its anonymous memory is watched from outside.
The raw loops that it is compared with run in one thread, with the files in the page cache.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
from measuring import INGEST, measure

from defectline.components.common.dataset import open_dataset
from defectline.components.common.imaging import (
    ImagingSettings,
    decode_image,
    decode_mask,
    prepare_image,
    prepare_mask,
)
from defectline.components.common.sample import draw_samples
from defectline.components.common.snapshot import read_head
from defectline.components.common.storage.folder import FolderStorage

PREPROCESS = """
import json, sys, time
from pathlib import Path
from defectline.components.preprocess.preparing import preprocess
start = time.perf_counter()
preprocess(sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4]))
print(time.perf_counter() - start)
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


def draw(folder: Path, pairs: int, size: int) -> Path:
    source = folder / f"pairs-{pairs}-{size}"
    if not source.exists():
        draw_samples(source, pairs=pairs, size=size)
    return source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--size", type=int, default=224, help="side of the drawn pictures in pixels")
    parser.add_argument("--image-size", type=int, default=224, help="side of the prepared pictures")
    parser.add_argument("--channels", type=int, default=1, choices=(1, 3))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "defectline-benchmark"))
    options = parser.parse_args()

    print(f"{os.cpu_count()} processors, {options.pairs} pairs of {options.size}×{options.size}")
    source = draw(options.work, options.pairs, options.size)
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
    snapshot = read_head(FolderStorage(store))
    cv2.setNumThreads(1)
    for enhance in (False, True):
        imaging = ImagingSettings(image_size=options.image_size, channels=options.channels, enhance=enhance)
        raw = len(pairs) / seconds(lambda imaging=imaging: raw_kernels(pairs, imaging))
        done = measure(PREPROCESS, store, snapshot, options.work / "dataset", imaging.model_dump_json())
        prepared, _ = open_dataset(options.work / "dataset")
        rate = len(prepared.rows) / done.seconds
        print(
            f"preprocess       {rate:8,.0f} pictures/s = {rate / raw:.2f} of the raw kernels in one thread"
            f" ({raw:,.0f}/s), enhance={enhance}, peak {done.peak_mb:.0f} MB"
        )


if __name__ == "__main__":
    main()
