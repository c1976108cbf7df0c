"""How long synthetic defects take to paint, in milliseconds a picture on one thread: in all and by kind.

    python benchmarks/synthetic.py --pictures 100

The pictures are drawn light guide plates, grey. "in all" is what training pays: limits, one to three
defects, tries again, and the mask.
"""

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np

from defectline.components.common.images.sample import draw_pair
from defectline.components.common.synthetic import generator
from defectline.components.common.synthetic.visibility import limits

SIZES = (128, 224, 512)
REPEATS = 5
"""Each picture is timed so often, and the shortest counts: other processes only make it longer."""


def milliseconds(work: Callable[[int], object], count: int) -> float:
    """The mean over `count` pictures, which `work` takes the numbers of."""
    total = 0.0
    for number in range(count):
        shortest = np.inf
        for _ in range(REPEATS):
            started = time.thread_time()
            work(number)
            shortest = min(shortest, time.thread_time() - started)
        total += shortest
    return 1000 * total / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100)
    count = parser.parse_args().pictures
    cv2.setNumThreads(1)
    rows: dict[str, list[float]] = {}
    for size in SIZES:
        pictures = [draw_pair("OK", np.random.default_rng(n), size)[0][..., None] for n in range(10)]
        limit = [limits(picture) for picture in pictures]

        def in_all(n: int, pictures=pictures) -> None:
            generator.paint_defects(pictures[n % 10], pictures[(n + 3) % 10], np.random.default_rng(n))

        def one(n: int, shape, filling, pictures=pictures, limit=limit) -> None:
            k = n % 10
            ground = generator.Ground(pictures[k], pictures[(n + 3) % 10], limit[k], None, np.empty(0, int))
            generator.paint(pictures[k].copy(), ground, np.random.default_rng(n), shape, filling)

        times = {"in all": milliseconds(in_all, count)}
        times["limits"] = milliseconds(lambda n, pictures=pictures: limits(pictures[n % 10]), count)
        for shape in generator.SHAPES:
            work = lambda n, shape=shape: one(n, shape, generator.fillings.tone)  # noqa: E731
            times[f"{shape.__name__}, tone"] = milliseconds(work, count)
        for filling in generator.INTO_BROAD:
            work = lambda n, filling=filling: one(n, generator.shapes.blob, filling)  # noqa: E731
            times[f"blob, {filling.__name__}"] = milliseconds(work, count)
        for kind, taken in times.items():
            rows.setdefault(kind, []).append(taken)
    print(f"{'ms a picture':16}" + "".join(f"{f'{size}²':>8}" for size in SIZES))
    for kind, taken in rows.items():
        print(f"{kind:16}" + "".join(f"{each:8.2f}" for each in taken))


if __name__ == "__main__":
    main()
