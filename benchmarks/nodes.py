"""What it costs to train in several processes: the time of a step, against one process with all threads.

    python benchmarks/nodes.py --size 224 --batch 8 --steps 10 --processes 2

JAX trains the network with its augmentation, on noise: in one process with as many threads as there are
processes, and in so many processes with one thread each (NPROC), all on this machine, over loopback. The two
take turns --repeat times, each time in new processes, and the best turn of each counts: other work on the
machine only ever slows them down. A step's time is the median over the steps after the first two.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

from training import write_dataset

from defectline.components.common.ports import free_port
from defectline.components.train.backend.environment import ADDRESS, PROCESS, PROCESSES


def work(folder: Path, batch: int, steps: int, decoder: str) -> None:
    """Train in this process, with the others that the environment names; print the seconds of a step."""
    from defectline.components.train.backend.distributed import joined

    with joined():
        import keras

        from defectline.components.common.dataset import open_dataset
        from defectline.components.train import loop
        from defectline.components.train.settings import TrainSettings

        times: list[float] = []

        class Timer(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                float((logs or {})["loss"])  # waits for the device, as training does
                times.append(time.perf_counter())

        prepared, splits = open_dataset(folder)
        rows = splits["train"].rows
        data = {
            "train": splits["train"]._replace(rows=rows[: steps * batch]),
            "validation": splits["train"]._replace(rows=rows[:batch]),
        }
        loop.Progress = lambda *args, **kwargs: Timer()  # type: ignore[assignment, misc]
        loop.fit(data, prepared.imaging, TrainSettings(epochs=1, batch_size=batch, decoder=decoder))
    print(json.dumps(median(b - a for a, b in pairwise(times[1:]))))


def run(folder: Path, processes: int, threads: int, options: list[str]) -> float:
    """Seconds of a step in so many processes with so many threads each: that of the slowest."""
    environment = os.environ | {"KERAS_BACKEND": "jax", "NPROC": str(threads), "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment |= {ADDRESS: f"127.0.0.1:{free_port()}", PROCESSES: str(processes)}
    command = [sys.executable, __file__, "--work", str(folder), *options]
    started = [
        subprocess.Popen(command, env=environment | {PROCESS: str(index)}, stdout=subprocess.PIPE, text=True)
        for index in range(processes)
    ]
    said = [process.communicate()[0] for process in started]
    assert not any(process.returncode for process in started)
    return max(json.loads(text.splitlines()[-1]) for text in said)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("size", 224), ("batch", 8), ("steps", 10), ("repeat", 3), ("processes", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--decoder", default="light")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.batch, arguments.steps, arguments.decoder)
        return
    options = ["--batch", str(arguments.batch), "--steps", str(arguments.steps)]
    options += ["--decoder", arguments.decoder]
    number, best = arguments.processes, {1: float("inf"), arguments.processes: float("inf")}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_dataset(folder, arguments.steps * arguments.batch, arguments.size)
        for _ in range(arguments.repeat):
            for processes in best:
                found = run(folder, processes, number // processes, options)
                best[processes] = min(best[processes], found)
                print(
                    f"{processes} × {number // processes} threads: {found * 1000:.0f} ms a step", flush=True
                )
    print(f"1 process, {number} threads:     {best[1] * 1000:.0f} ms a step")
    print(f"{number} processes, 1 thread each: {best[number] * 1000:.0f} ms a step")
    print(f"ratio: {best[number] / best[1]:.2f}")


if __name__ == "__main__":
    main()
