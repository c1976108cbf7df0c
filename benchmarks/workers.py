"""How long a cross-validation takes with two workers, against one that has all threads to itself.

    python benchmarks/workers.py --pairs 60 --folds 8 --set image_size=96 --set epochs=4

Both judge the same folds of drawn samples, each in a new store, and must come to the same numbers: where they
do not, this says so and ends with 1. With --repeat they take turns, and the best of each counts: other work
on the machine only ever slows them down. Settings are those of `--set`, by default small ones.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SMALL = ("image_size=96", "epochs=4", "pretraining=none", "quantize=false")


def crossval(source: Path, store: Path, arguments: argparse.Namespace, workers: int) -> tuple[float, bytes]:
    """Seconds, and what the folds came to."""
    command = [sys.executable, "-m", "defectline.cli", "crossval", str(source), "--store", str(store)]
    command += ["--folds", str(arguments.folds), "--workers", str(workers)]
    command += [text for pair in (*SMALL, *arguments.settings) for text in ("--set", pair)]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"})
    seconds = time.monotonic() - start
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    (kept,) = store.glob("crossval/*.json")
    return seconds, kept.read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="", help="default: drawn samples")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--folds", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    best: dict[int, float] = {}
    found: set[bytes] = set()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(arguments.source) if arguments.source else Path(folder, "samples")
        if not arguments.source:
            sample = [sys.executable, "-m", "defectline.cli", "sample", str(source)]
            subprocess.run([*sample, "--pairs", str(arguments.pairs)], check=True, stdout=subprocess.DEVNULL)
        for turn in range(arguments.repeat):
            for workers in (1, arguments.workers):
                store = Path(folder, f"store-{workers}-{turn}")
                seconds, came_to = crossval(source, store, arguments, workers)
                best[workers] = min(seconds, best.get(workers, seconds))
                found.add(re.sub(rb"\s+", b" ", came_to))
                print(f"workers {workers}: {seconds:.1f} s", flush=True)
    one, several = best[1], best[arguments.workers]
    print(f"ratio: {several / one:.3f} ({several:.1f} s of {one:.1f} s, {os.cpu_count()} processors)")
    if len(found) > 1:
        print("the numbers differ")
    return int(len(found) > 1)


if __name__ == "__main__":
    sys.exit(main())
