"""Ingest in shards from a source that answers slowly: two readers against one.

    python benchmarks/shards.py --pairs 400 --delay-ms 200

An S3 server (moto) on loopback holds the pairs. A proxy in front of it waits before it hands on each request,
as a store that is far away does, so that the time is that of waiting and not of this machine's processors. A
shard is a process of its own, with as many threads as ever; the step that publishes is counted too.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.config import Config
from ingest import BUCKET, ENV, fill, s3_server

from defectline.components.ingest.reading.pictures import READERS

STEP = """
import sys
from defectline.components.ingest.reading import shards
from defectline.components.ingest.reading.step import plan, read_shard
from defectline.components.ingest.step import ingest
what, source, store, more = sys.argv[1:]
if what == "plan":
    shards.LEAST = 1
    print(" ".join(plan(source, store, "r", {}, int(more))))
elif what == "read":
    read_shard(source, store, "r", {}, more)
else:
    ingest(source, store, "r")
"""


@contextmanager
def delayed(target: str, delay_s: float) -> Iterator[str]:
    """URL of a proxy that hands on each request, which is small, after a delay."""
    host, port = target.removeprefix("http://").split(":")
    door = socket.create_server(("127.0.0.1", 0))

    def hand_on(source: socket.socket, sink: socket.socket, wait_s: float) -> None:
        try:
            while data := source.recv(1 << 16):
                time.sleep(wait_s)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve() -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:
                return
            server = socket.create_connection((host, int(port)))
            for pair in ((client, server, delay_s), (server, client, 0.0)):
                threading.Thread(target=hand_on, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        door.close()


def run(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", STEP, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def done(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"a step failed:\n{output}")
    return output


def take(store: Path, shards: int) -> tuple[float, float]:
    """Seconds of the shards, and of all three steps."""
    shutil.rmtree(store, ignore_errors=True)
    source, start = f"s3://{BUCKET}", time.perf_counter()
    parts = done(run("plan", source, store, shards)).splitlines()[-1].split()
    began = time.perf_counter()
    for process in [run("read", source, store, part) for part in parts]:
        done(process)
    read = time.perf_counter() - began
    done(run("publish", source, store, ""))
    return read, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--delay-ms", type=float, default=200.0, help="of each request")
    parser.add_argument("--shards", type=int, default=2)
    options = parser.parse_args()
    os.environ.update(ENV)
    with s3_server() as (url, _), tempfile.TemporaryDirectory() as folder:
        os.environ["AWS_ENDPOINT_URL"] = url
        client = boto3.client("s3", config=Config(max_pool_connections=READERS))
        client.create_bucket(Bucket=BUCKET)
        fill(client, range(options.pairs // 2), 64)
        with delayed(url, options.delay_ms / 1000) as slow:
            os.environ["AWS_ENDPOINT_URL"] = slow
            (one, all_one), (several, all_several) = (
                take(Path(folder, "store"), count) for count in (1, options.shards)
            )
    print(f"{options.pairs} pairs, {options.delay_ms:.0f} ms a request, {READERS} threads a shard")
    for what, alone, together in (
        ("reading", one, several),
        ("with plan and publishing", all_one, all_several),
    ):
        print(
            f"{what}: {alone:.1f} s, {options.shards} shards {together:.1f} s: {alone / together:.2f} times"
        )


if __name__ == "__main__":
    main()
