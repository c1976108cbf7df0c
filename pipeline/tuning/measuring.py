"""`python -m defectline.pipeline.tuning.measuring BUNDLE FILE`: what a sealed model takes on this machine.

In a process of its own, which does nothing else, so that its memory is the network's; it writes FILE.
"""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from defectline.components.common.bundle import bundle_roi, read_description
from defectline.components.common.files import replaced
from defectline.components.common.inference.inspection import judge
from defectline.components.common.inference.network import Network
from defectline.pipeline.tuning.study import Footprint

WARM_UP = 3
LEAST = 20
"""Inspections."""
FOR_S = 2.0
MOST = 2000


def measure(folder: Path) -> Footprint:
    """Inspect the golden pictures of the bundle one after the other, from their bytes to the verdict.

    All processors that this process may use work on one picture.
    """
    bundle = read_description(folder)
    network = Network(
        folder / bundle.network,
        bundle.imaging,
        classes=bundle.classes,
        roi=bundle_roi(folder),
        first_look=bundle.first_look,
    )
    pictures = [(folder / "golden" / golden.file).read_bytes() for golden in bundle.golden]

    def inspect(number: int) -> None:
        maps = network.maps(pictures[number % len(pictures)])
        judge(maps, bundle.threshold, bundle.min_area_px, bundle.ng_from)

    latency_s = time_calls(inspect)
    return Footprint(latency_ms=round(latency_s * 1e3, 3), memory_mb=round(most_memory_mb(), 1))


def time_calls(call: Callable[[int], None], clock: Callable[[], float] = time.perf_counter) -> float:
    """The median of a call, in seconds; each gets its number."""
    for number in range(WARM_UP):
        call(number)
    taken: list[float] = []
    began = clock()
    while len(taken) < MOST and (len(taken) < LEAST or clock() - began < FOR_S):
        start = clock()
        call(len(taken))
        taken.append(clock() - start)
    return median(taken)


def most_memory_mb() -> float:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage() begins with what the process held that this one was started from.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main(folder: Path, file: Path) -> None:
    found = measure(folder)
    with replaced(file) as partial:
        partial.write_text(found.model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
