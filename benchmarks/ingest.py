"""How fast and how lean ingest is from S3, against a bare loop of downloads and against `aws s3 cp`.

    python benchmarks/ingest.py --objects 5000 --bytes 50000

Fills an S3 server on loopback (moto, in a process of its own, in memory) with pairs, and prints ratios, so
that the figures of two machines compare. Every measurement runs in a process of its own; each round takes
them in another order. On few processors the server's own share is large: its seconds stand beside.
"""

import argparse
import os
import random
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import boto3
import cv2
import numpy as np
import psutil
from botocore.config import Config
from measuring import INGEST, measure

from defectline.components.common.classes import LABELS
from defectline.components.ingest.reading.pictures import READERS

BUCKET = "source"
ENV = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
BARE = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
import boto3
from botocore.config import Config
bucket, threads = sys.argv[1], int(sys.argv[2])
start, processor = time.perf_counter(), time.process_time()
client = boto3.client("s3", config=Config(max_pool_connections=threads))
pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
keys = [found["Key"] for page in pages for found in page["Contents"]]
def get(key):
    client.get_object(Bucket=bucket, Key=key)["Body"].read()
with ThreadPoolExecutor(threads) as pool:
    for _ in pool.map(get, keys):
        pass
print(time.process_time() - processor, time.perf_counter() - start)
"""


class Taken(NamedTuple):
    seconds: float
    peak_mb: float
    server_s: float
    """Processor time of the server meanwhile."""


def draw_pair(label: str, number: int, side: int) -> dict[str, bytes]:
    """Key and bytes of an image and of its mask: noise, so that PNG keeps about a byte a pixel; BMP."""
    seed = 2 * number + (label == "NG")
    image = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    truth = np.zeros((side, side), np.uint8)
    if label == "NG":
        truth[4:9, 4:9] = 255
    return {
        f"{label}/{number:06d}_{label}_Image.png": encode(image, ".png"),
        f"{label}_MSK/{number:06d}_{label}_Mask.bmp": encode(truth, ".bmp"),
    }


def encode(pixels: np.ndarray, kind: str) -> bytes:
    done, data = cv2.imencode(kind, pixels)
    assert done, "OpenCV writes PNG and BMP"
    return data.tobytes()


@contextmanager
def s3_server() -> Iterator[tuple[str, psutil.Process]]:
    """URL and process of a server that ends with the block."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            sys.exit("moto's server did not start")
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def fill(client: Any, numbers: range, side: int) -> list[str]:
    """Put a pair of each label for every number; returns the keys."""

    def put(item: tuple[str, int]) -> list[str]:
        files = draw_pair(*item, side)
        for key, data in files.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=data)
        return list(files)

    items = [(label, number) for number in numbers for label in LABELS]
    with ThreadPoolExecutor(READERS) as pool:
        return [key for keys in pool.map(put, items) for key in keys]


def taken(server: psutil.Process, code: str, *arguments: object) -> Taken:
    before = sum(server.cpu_times()[:2])
    done = measure(code, *arguments)
    return Taken(done.seconds, done.peak_mb, sum(server.cpu_times()[:2]) - before)


def copied(server: psutil.Process, aws: str, target: Path) -> Taken:
    """`aws s3 cp --recursive`, timed with its start, which is part of the command."""
    before, start = sum(server.cpu_times()[:2]), time.perf_counter()
    command = [*shlex.split(aws), "s3", "cp", "--recursive", "--quiet", f"s3://{BUCKET}", str(target)]
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - start
    shutil.rmtree(target)
    return Taken(seconds, 0.0, sum(server.cpu_times()[:2]) - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=5000, help="images and masks together")
    parser.add_argument("--bytes", type=int, default=50_000, help="of one object, about")
    parser.add_argument("--repeat", type=int, default=1, help="rounds, each in another order")
    parser.add_argument("--aws", default=shutil.which("aws") or "", help="the AWS command line, if at hand")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "defectline-benchmark"))
    options = parser.parse_args()
    count, side = options.objects // 4, round(options.bytes**0.5)
    more = max(1, count // 100)
    os.environ.update(ENV)
    figures: dict[str, list[Taken]] = {}

    with s3_server() as (url, server):
        os.environ["AWS_ENDPOINT_URL"] = url
        client = boto3.client("s3", config=Config(max_pool_connections=READERS))
        client.create_bucket(Bucket=BUCKET)
        size = sum(len(data) for data in draw_pair("OK", 0, side).values()) // 2
        fill(client, range(count), side)
        print(f"{os.cpu_count()} processors, {4 * count} objects of {size:,} bytes, {READERS} threads")

        def keep(name: str, figure: Taken) -> None:
            figures.setdefault(name, []).append(figure)
            print(f"  {name}: {figure.seconds:.2f} s, server {figure.server_s:.2f} s", flush=True)

        def bare() -> None:
            keep("bare loop", taken(server, BARE, BUCKET, READERS))

        def cli() -> None:
            keep("aws s3 cp", copied(server, options.aws, options.work / "copy"))

        def ingest() -> None:
            store = options.work / "s3-store"
            shutil.rmtree(store, ignore_errors=True)
            for name in ("first ingest", "nothing new"):
                keep(name, taken(server, INGEST, f"s3://{BUCKET}", store))
            added = fill(client, range(count, count + more), side)
            keep("1 % new", taken(server, INGEST, f"s3://{BUCKET}", store))
            for key in added:
                client.delete_object(Bucket=BUCKET, Key=key)

        tasks: list[Callable[[], None]] = [bare, ingest, *([cli] if options.aws else [])]
        for number in range(options.repeat):
            random.Random(number).shuffle(tasks)
            for task in tasks:
                task()

    if not options.aws:
        print("aws s3 cp: not measured, there is no `aws` here; --aws names it")
    first = median(figure.seconds for figure in figures["first ingest"])
    for name, found in figures.items():
        times = sorted(figure.seconds for figure in found)
        middle, peak = median(times), max(figure.peak_mb for figure in found)
        server_s = median(figure.server_s for figure in found)
        print(
            f"{name:13} {middle:7.2f} s ({times[0]:.2f} to {times[-1]:.2f}), {middle / first:6.3f} of the"
            f" first ingest, {4 * count / middle:8,.0f} objects/s, server {server_s:6.2f} s"
            + (f", peak {peak:.0f} MB" if peak else "")
        )


if __name__ == "__main__":
    main()
