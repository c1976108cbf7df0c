"""`python -m defectline.components.serve --model_dir DIR --model_name NAME --http_port PORT`"""

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from defectline.components.common.errors import DefectlineError, SettingsError
from defectline.components.common.imaging import MAX_PIXELS
from defectline.components.common.ports import check_port
from defectline.components.serve import grpc_service, logs, rest
from defectline.components.serve.admission import Admission, processors
from defectline.components.serve.champion import Champion
from defectline.components.serve.predictor import DefectModel, Folder
from defectline.components.serve.sdk import RESTServer
from defectline.components.serve.sdk import parser as kserve_parser

GRACE_S = 30
"""Requests under way get so long to end once the server ends."""
TERMINATION_LOG = Path("/dev/termination-log")
"""What is written here, Kubernetes shows as the reason why the container ended, and KServe in the service's
status."""


class Server(RESTServer):
    """KServe's HTTP server, with its TLS and event loop, for our app instead of KServe's."""

    def create_application(self) -> None:
        """The app came with the constructor."""


def main() -> None:
    arguments = _arguments()
    logs.configure()
    try:
        _check(arguments)
        model = _model(arguments)
        model.load()
    except DefectlineError as error:
        print(f"serve: {error}", file=sys.stderr, flush=True)
        with suppress(OSError):
            if TERMINATION_LOG.exists():
                TERMINATION_LOG.write_text(str(error))
        # A bundle does not get better by waiting: an end that says why fails the rollout at once.
        raise SystemExit(2) from None
    limits = rest.Limits(int(arguments.max_mb * 1e6))
    app = rest.make_app(model, limits, lambda _: _life(model, arguments))
    server = Server(
        app,  # type: ignore[arg-type]
        None,
        None,
        arguments.http_port,
        grace_period=GRACE_S,
        event_loop=arguments.event_loop,
        timeout_keep_alive=arguments.timeout_keep_alive,
        ssl_certfile=arguments.ssl_certfile,
        ssl_keyfile=arguments.ssl_keyfile,
    )
    # The HTTP server raises the signal that ended it once more after its end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    asyncio.run(server.start())


@asynccontextmanager
async def _life(model: DefectModel, arguments: argparse.Namespace) -> AsyncIterator[None]:
    """From the moment before requests are taken until the last one over HTTP is answered."""
    loop = asyncio.get_running_loop()
    tasks = set()

    def switch() -> None:
        task = loop.create_task(model.switch())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def end(number: signal.Signals, after_s: float) -> None:
        if not model.ending:
            logs.log("ending", signal=number.name)
        model.ending = True
        loop.call_later(after_s, close_port[number], number, None)

    # The HTTP server's own handlers.
    close_port: Any = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    loop.add_signal_handler(signal.SIGTERM, end, signal.SIGTERM, arguments.drain_ms / 1000)
    loop.add_signal_handler(signal.SIGINT, end, signal.SIGINT, 0)
    loop.add_signal_handler(signal.SIGHUP, switch)
    server = None
    if arguments.enable_grpc:
        server = grpc_service.make_server(model, arguments.grpc_port, int(arguments.max_mb * 1e6))
        await server.start()
    if arguments.watch:
        tasks.add(loop.create_task(model.watch(arguments.watch)))
    assert model.loaded is not None
    logs.log(
        "serving",
        model_name=model.name,
        model_version=model.loaded.bundle.version,
        precision=model.loaded.bundle.precision,
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port if server else None,
        threads=model.admission.workers,
    )
    yield
    if server:
        await server.stop(GRACE_S)
    for task in tasks:
        task.cancel()
    await asyncio.to_thread(model.observers.close)
    logs.log("ended")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="serve", description="Serve a published model on KServe's protocols.", parents=[kserve_parser]
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--model_dir", type=Path, default=Path("/mnt/models"), help="folder with bundle.json and its network"
    )
    source.add_argument("--store", help="serve the champion of this store instead, called as the model is")
    parser.add_argument("--alias", action="append", default=[], help="another name of the model; repeatable")
    parser.add_argument(
        "--watch",
        type=float,
        default=0,
        metavar="SECONDS",
        help="look so often whether there is another model, and change to it; 0: on SIGHUP alone",
    )
    parser.add_argument("--queue", type=int, default=32, help="requests that may wait for a thread")
    parser.add_argument(
        "--deadline_ms", type=float, default=5000, help="longest wait in the queue; then HTTP 503"
    )
    parser.add_argument("--max_mb", type=float, default=64, help="largest body, in megabytes")
    parser.add_argument(
        "--max_megapixels", type=float, default=MAX_PIXELS / 1e6, help="largest picture, in megapixels"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="pictures judged at once; 0: as many as there are processors"
    )
    parser.add_argument(
        "--drain_ms",
        type=float,
        default=1000,
        help="after SIGTERM, how long requests are still taken while readiness already says no",
    )
    parser.set_defaults(model_name="defects", enable_grpc=False)
    return parser.parse_args()


def _check(arguments: argparse.Namespace) -> None:
    """Raise SettingsError for what cannot be."""
    bounds = {
        "queue": (0, 10_000),
        "deadline_ms": (1, 600_000),
        "max_mb": (0.001, 1000),
        "max_megapixels": (0.001, MAX_PIXELS / 1e6),
        "threads": (0, 256),
        "drain_ms": (0, 600_000),
        "watch": (0, 86_400),
        "workers": (1, 1),
    }
    for name, (low, high) in bounds.items():
        value = getattr(arguments, name)
        if not low <= value <= high:
            raise SettingsError(
                f"--{name} cannot be used.",
                got=f"{value:g}",
                expected=f"{low:g} to {high:g}" if low < high else f"{low:g}: more pods, not more processes",
                fix="Correct it, or leave it out.",
            )
    check_port(arguments.http_port)
    if arguments.enable_grpc:
        check_port(arguments.grpc_port)


def _model(arguments: argparse.Namespace) -> DefectModel:
    source = (
        Champion(arguments.store, arguments.model_name) if arguments.store else Folder(arguments.model_dir)
    )
    admission = Admission(arguments.threads or processors(), arguments.queue, arguments.deadline_ms / 1000)
    return DefectModel(
        arguments.model_name,
        source,
        admission,
        aliases=arguments.alias,
        max_pixels=int(arguments.max_megapixels * 1e6),
    )


if __name__ == "__main__":
    main()
