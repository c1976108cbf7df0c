"""How fast and how steady the endpoint is, against others on the same pictures and weights.

    python benchmarks/serving.py --bundle store/models/defects/v…
    python benchmarks/serving.py --bundle … --only overload --overload-s 60

Each rival is a server in a process of its own on this machine, one after the other; the clients are threads
of one more process, which takes its share of the processors. 200 synthetic pictures as PNG go round.

- rivals: pictures a second with --clients clients, and the median latency of one client alone
- limit: OpenVINO's own benchmark_app with the same file and precision, batch 1: what the network alone allows
- steady: requests at 70 % of the highest rate, evenly spread; their p99 against the median, also apart for
  the seconds in which the host gave the processors to other machines
- overload: requests at three times the highest rate; no answer may come later than the deadline, the rest is
  refused at once, health is answered all the time
- start: from the process' start to ready, and resident memory then
- frame: a frame of 5 megapixels in tiles, against the time that the network needs for its tiles
"""

import argparse
import base64
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import psutil

from defectline.components.common.bundle import Bundle, copy_served, read_bundle
from defectline.components.common.images.imaging import ImagingSettings, prepare_frame
from defectline.components.common.images.sample import draw_pair
from defectline.components.common.images.tiling import cut_tile, tile_grid
from defectline.components.common.inference.network import TILE_BATCH, Network
from defectline.components.common.ports import free_port

HERE = Path(__file__).parent
PICTURES = 200
WINDOW_S = 5
NAME = "bench"


class Request(NamedTuple):
    path: str
    body: bytes
    content_type: str


class Answer(NamedTuple):
    status: int
    """0 where the connection broke."""
    ms: float


class Rival(NamedTuple):
    name: str
    command: Callable[[int], list[str]]
    """From the port."""
    environment: dict[str, str]
    health: str
    requests: list[Request]


def pictures(count: int, size: int) -> list[bytes]:
    drawn = (
        draw_pair("NG" if n % 2 else "OK", np.random.default_rng([99, n]), size)[0] for n in range(count)
    )
    return [cv2.imencode(".png", image)[1].tobytes() for image in drawn]


def rivals(served: Path, bundle: Path, files: Sequence[bytes]) -> dict[str, Rival]:
    ours = [Request(f"/v1/models/{NAME}:predict", file, "image/png") for file in files]
    in_json = [
        Request(
            "/v2/predict", json.dumps({"image": base64.b64encode(file).decode()}).encode(), "application/json"
        )
        for file in files
    ]

    def serve(*options: str) -> Callable[[int], list[str]]:
        module = [sys.executable, "-m", "defectline.components.serve", "--model_name", NAME]
        return lambda port: [*module, "--model_dir", str(served), "--http_port", str(port), *options]

    def gunicorn(port: int) -> list[str]:
        bind = ["--bind", f"127.0.0.1:{port}", "--timeout", "120", "--chdir", str(HERE)]
        return [sys.executable, "-m", "gunicorn", "--workers", "2", *bind, "reference_server:app"]

    ready = f"/v2/models/{NAME}/ready"
    return {
        "defectline": Rival("defectline", serve(), {}, ready, ours),
        "ONNX Runtime": Rival("the same on ONNX Runtime", serve("--engine", "onnxruntime"), {}, ready, ours),
        "reference": Rival(
            "Flask, gunicorn, Keras", gunicorn, {"MODEL": str(bundle / "model.keras")}, "/health", in_json
        ),
    }


@contextmanager
def running(rival: Rival) -> Iterator[tuple[int, psutil.Process, float]]:
    """Port, process, and the seconds from its start until it was ready."""
    port = free_port()
    environment = {**os.environ, **rival.environment, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(rival.command(port), env=environment, stdout=log, stderr=log)
        try:
            while ask(port, Request(rival.health, b"", ""), "GET").status != 200:
                if process.poll() is not None or time.perf_counter() - start > 120:
                    log.seek(0)
                    sys.exit(f"{rival.name} does not start:\n{log.read().decode()[-2000:]}")
                time.sleep(0.02)
            yield port, psutil.Process(process.pid), time.perf_counter() - start
        finally:
            process.terminate()
            process.wait(60)


def ask(port: int, request: Request, method: str = "POST", timeout_s: float = 60) -> Answer:
    """One request on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        return _ask(connection, request, method)
    finally:
        connection.close()


def _ask(connection: HTTPConnection, request: Request, method: str = "POST") -> Answer:
    start = time.perf_counter()
    try:
        connection.request(method, request.path, request.body, {"Content-Type": request.content_type})
        response = connection.getresponse()
        response.read()
    except (OSError, HTTPException):
        connection.close()
        return Answer(0, (time.perf_counter() - start) * 1000)
    return Answer(response.status, (time.perf_counter() - start) * 1000)


def closed_loop(
    port: int, requests: Sequence[Request], clients: int, seconds: float
) -> tuple[float, list[float]]:
    """Answers a second, and their latencies in ms, where each client asks again once it was answered."""
    end = time.perf_counter() + seconds

    def client(number: int) -> list[Answer]:
        connection, answers = HTTPConnection("127.0.0.1", port, timeout=60), []
        while time.perf_counter() < end:
            answers.append(_ask(connection, requests[(number * 37 + len(answers)) % len(requests)]))
        connection.close()
        return answers

    with ThreadPoolExecutor(clients) as pool:
        answers = [answer for found in pool.map(client, range(clients)) for answer in found]
    wrong = [answer.status for answer in answers if answer.status != 200]
    if wrong:
        sys.exit(f"{len(wrong)} of {len(answers)} answers were not 200, but {sorted(set(wrong))}")
    return len(answers) / seconds, [answer.ms for answer in answers]


def open_loop(port: int, requests: Sequence[Request], rate: float, seconds: float) -> list[Answer]:
    """Answers to requests that come evenly, timed from when they were due."""
    total, start = int(rate * seconds), time.perf_counter() + 0.2
    local = threading.local()

    def send(index: int) -> Answer:
        due = start + index / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        if not hasattr(local, "connection"):
            local.connection = HTTPConnection("127.0.0.1", port, timeout=60)
        answer = _ask(local.connection, requests[index % len(requests)])
        return Answer(answer.status, (time.perf_counter() - due) * 1000)

    with ThreadPoolExecutor(64) as pool:
        return list(pool.map(send, range(total)))


def percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else float("nan")


def benchmark_app(served: Path, bundle: Bundle, seconds: float) -> float:
    """Pictures a second that OpenVINO's own tool reaches at batch 1, with as many requests as it likes."""
    size, channels = bundle.imaging.image_size, bundle.imaging.channels
    command = [
        str(Path(sys.executable).parent / "benchmark_app"),
        "-m",
        str(served / bundle.network),
        "-d",
        "CPU",
    ]
    command += ["-t", str(int(seconds)), "-infer_precision", "f32", "-hint", "throughput"]
    command += ["-data_shape", f"[1,{size},{size},{channels}]"]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"Throughput:\s+([\d.]+) FPS", output)
    if not found:
        sys.exit(f"benchmark_app gave no throughput:\n{output[-2000:]}")
    return float(found[1])


def compare_rivals(chosen: dict[str, Rival], clients: int, seconds: float) -> dict[str, float]:
    print(f"\n{'':26} {'pictures/s':>10} {'p50 of one':>11} {'ready':>7} {'resident':>9}")
    best = {}
    for key, rival in chosen.items():
        with running(rival) as (port, process, ready_s):
            resident = sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]) / 1e6
            closed_loop(port, rival.requests, 2, 3)  # warms up
            rate, _ = closed_loop(port, rival.requests, clients, seconds)
            _, alone = closed_loop(port, rival.requests, 1, seconds / 2)
        best[key] = rate
        median = statistics.median(alone)
        print(
            f"{rival.name:26} {rate:10.1f} {median:8.1f} ms {ready_s:5.1f} s {resident:6.0f} MB", flush=True
        )
    return best


def steady(rival: Rival, highest: float, seconds: float) -> None:
    with running(rival) as (port, process, _):
        closed_loop(port, rival.requests, 2, 3)
        before = process.memory_info().rss
        with sampling(lambda: psutil.cpu_times().steal, WINDOW_S) as stolen:
            answers = open_loop(port, rival.requests, 0.7 * highest, seconds)
        after = process.memory_info().rss
    times = [answer.ms for answer in answers if answer.status == 200]
    median, p99 = percentile(times, 50), percentile(times, 99)
    print(
        f"\nsteady, {0.7 * highest:.0f}/s for {seconds:.0f} s: {len(times)} of {len(answers)} answered, ",
        end="",
    )
    print(f"p50 {median:.1f} ms, p99 {p99:.1f} ms, {p99 / median:.1f} times the median (wanted: at most 2.5)")
    by_theft(answers, stolen, 0.7 * highest)
    print(f"  resident {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")


@contextmanager
def sampling(read: Callable[[], float], every_s: float) -> Iterator[list[float]]:
    """What is read at the start, and then as often."""
    done, found = threading.Event(), [read()]

    def sample() -> None:
        while not done.wait(every_s):
            found.append(read())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield found
    finally:
        done.set()
        sampler.join()


def by_theft(answers: Sequence[Answer], stolen: Sequence[float], rate: float) -> None:
    """The same apart for windows in which the processors were given to other machines for short and long."""
    lost = [100 * (b - a) / (WINDOW_S * (os.cpu_count() or 1)) for a, b in pairwise(stolen)]
    each = round(rate * WINDOW_S)
    windows = [answers[n * each : (n + 1) * each] for n in range(len(lost))]
    for title, chosen in (
        ("below 1 %", [part for part, share in zip(windows, lost, strict=True) if share < 1]),
        ("1 % or more", [part for part, share in zip(windows, lost, strict=True) if share >= 1]),
    ):
        if not chosen:
            continue
        times = [answer.ms for part in chosen for answer in part if answer.status == 200]
        median, p99 = percentile(times, 50), percentile(times, 99)
        print(
            f"  {title} of the processors lost to other machines, {len(chosen)} windows of {WINDOW_S} s: ",
            end="",
        )
        print(f"p50 {median:.1f} ms, p99 {p99:.1f} ms, {p99 / median:.1f} times")


def overload(rival: Rival, highest: float, seconds: float, deadline_ms: float) -> None:
    health: list[Answer] = []
    done = threading.Event()
    options = ["--deadline_ms", str(deadline_ms)]
    rival = rival._replace(command=lambda port, command=rival.command: [*command(port), *options])
    with running(rival) as (port, process, _):
        closed_loop(port, rival.requests, 8, 5)
        before = process.memory_info().rss

        def watch() -> None:
            while not done.wait(0.2):
                health.append(ask(port, Request(rival.health, b"", ""), "GET", timeout_s=5))

        watcher = threading.Thread(target=watch)
        watcher.start()
        answers = open_loop(port, rival.requests, 3 * highest, seconds)
        done.set()
        watcher.join()
        after = process.memory_info().rss
    accepted = [a.ms for a in answers if a.status == 200]
    refused = [a.ms for a in answers if a.status == 503]
    other = sorted({a.status for a in answers} - {200, 503})
    print(f"\noverload, {3 * highest:.0f}/s for {seconds:.0f} s, deadline {deadline_ms:.0f} ms:")
    print(f"  answered {len(accepted)}, p50 {percentile(accepted, 50):.0f}, latest {max(accepted):.0f} ms")
    print(
        f"  refused {len(refused)}, p50 {percentile(refused, 50):.0f}, p99 {percentile(refused, 99):.0f} ms"
    )
    print(f"  other statuses: {other or 'none'}")
    slow = max(answer.ms for answer in health)
    print(f"  health: {sum(a.status == 200 for a in health)} of {len(health)}, slowest {slow:.0f} ms")
    print(f"  resident {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")


def frame(served: Path, bundle: Bundle) -> None:
    """The whole way of a frame of 2048×2448 px through the tiles, against the network's own time for them."""
    imaging = ImagingSettings(**{**bundle.imaging.model_dump(), "tile": True})
    network, height, width = Network(served / bundle.network, imaging), 2048, 2448
    image = np.tile(draw_pair("OK", np.random.default_rng(1), 512)[0], (4, 5))[:height, :width]
    if imaging.channels == 3:
        image = np.dstack([image] * 3)
    data = cv2.imencode(".png", image)[1].tobytes()
    grid = tile_grid(height, width, imaging.image_size)
    pixels = image.reshape(height, width, imaging.channels)
    tiles = np.stack([cut_tile(pixels, y, x, grid.size) for y, x in grid.positions])
    whole, alone, looked = [], [], []
    for _ in range(6):
        start = time.perf_counter()
        network.score_map(data)
        whole.append(time.perf_counter() - start)
        start = time.perf_counter()
        for first in range(0, len(tiles), TILE_BATCH):
            network.probabilities(tiles[first : first + TILE_BATCH])
        alone.append(time.perf_counter() - start)
        network.first_look = bundle.threshold / 2
        start = time.perf_counter()
        network.score_map(data)
        looked.append(time.perf_counter() - start)
        network.first_look = None
    ratio = statistics.median(a / b for a, b in zip(whole[1:], alone[1:], strict=True))
    print(
        f"\nframe of {height}×{width} px, {len(tiles)} tiles: {statistics.median(whole[1:]):.2f} s, ", end=""
    )
    print(f"{ratio:.2f} times its tiles' inference (wanted: at most 1.15)")
    glance = network.glance(prepare_frame(pixels, imaging), bundle.threshold / 2)
    assert glance is not None
    suspected = sum(glance.suspects(y, x, grid.size) for y, x in grid.positions)
    ratio = statistics.median(a / b for a, b in zip(looked[1:], whole[1:], strict=True))
    print(
        f"  {ratio:.2f} of that time after a first look, which suspects {suspected} tiles (wanted: a third)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True, help="folder of a sealed bundle")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--overload-s", type=float, default=60)
    parser.add_argument("--deadline-ms", type=float, default=1000)
    parser.add_argument("--only", choices=("rivals", "steady", "overload", "frame"), action="append")
    arguments = parser.parse_args()
    wanted = arguments.only or ["rivals", "steady", "overload", "frame"]
    bundle = read_bundle(arguments.bundle)
    files = pictures(PICTURES, bundle.imaging.image_size)
    with tempfile.TemporaryDirectory() as temporary:
        served = Path(temporary, "served")
        copy_served(arguments.bundle, served)
        chosen = rivals(served, arguments.bundle, files)
        ours = chosen["defectline"]
        print(f"{os.cpu_count()} processors; {bundle.network}, {bundle.precision}; {PICTURES} PNG files")
        if "rivals" in wanted:
            rates = compare_rivals(chosen, arguments.clients, arguments.seconds)
            limit = benchmark_app(served, bundle, arguments.seconds)
            print(f"{'benchmark_app':26} {limit:10.1f}")
            highest = rates["defectline"]
            print(f"of benchmark_app: {highest / limit:.2f} (wanted: at least 0.8); ", end="")
            print(f"times the reference: {highest / rates['reference']:.1f} (wanted: at least 10)")
        elif {"steady", "overload"} & {*wanted}:
            with running(ours) as (port, _, _):
                closed_loop(port, ours.requests, 2, 3)
                highest, _ = closed_loop(port, ours.requests, arguments.clients, arguments.seconds)
        if "steady" in wanted:
            steady(ours, highest, arguments.overload_s)
        if "overload" in wanted:
            overload(ours, highest, arguments.overload_s, arguments.deadline_ms)
        if "frame" in wanted:
            frame(served, bundle)


if __name__ == "__main__":
    main()
