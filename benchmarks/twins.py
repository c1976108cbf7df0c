"""How long the search for near twins takes: of pictures that came in bursts, a tenth and all of them.

    python benchmarks/twins.py --pictures 100000

The looks are drawn, a burst of four from each rough surface, so that what was joined can be counted.
"""

import argparse
import time
from collections import Counter

import cv2
import numpy as np

from defectline.components.common.snapshot import Pair
from defectline.components.ingest.grouping.looks import SIDE, describe
from defectline.components.ingest.grouping.twins import join_twins

BURST = 4


def draw(part: int, index: int) -> str:
    """The look of a picture of the part, shifted and with noise."""
    rng = np.random.default_rng([part, 0])
    rough = cv2.GaussianBlur(rng.normal(size=(SIDE, SIDE)), (0, 0), 1.2)
    rng = np.random.default_rng([part, 1 + index])
    grey = 120 + 120 * np.roll(rough, rng.integers(-3, 4, 2), axis=(0, 1)) + rng.normal(0, 8, rough.shape)
    return describe(np.clip(grey, 0, 255).astype(np.uint8)[..., None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    names = rng.permutation(options.pictures)
    started = time.perf_counter()
    rows = [
        Pair(
            f"OK/{names[n]:06}-{n // BURST}",
            "OK",
            "accepted",
            pixel_sha256=f"{n:064x}",
            look=draw(*divmod(n, BURST)),
        )
        for n in range(options.pictures)
    ]
    print(f"drawing and describing: {time.perf_counter() - started:.1f} s")
    for count in (options.pictures // 10, options.pictures):
        wall, processor = time.perf_counter(), time.process_time()
        joined = join_twins(rows[:count], [])
        seconds, used = time.perf_counter() - wall, time.process_time() - processor
        sizes = Counter(row.group for row in joined if row.group)
        wrong = sum(
            len({row.id.partition("-")[2] for row in joined if row.group == name}) > 1
            for name, size in sizes.items()
            if size > BURST
        )
        print(
            f"{count:,} pictures: {seconds:.1f} s, {used:.1f} s of processor time; "
            f"{sum(sizes.values()) / count:.1%} of them joined, {wrong} groups of more than one part"
        )


if __name__ == "__main__":
    main()
