"""`python -m defectline.components.serve --model_dir DIR --model_name NAME --http_port PORT`"""

import argparse
import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from defectline.components.common.engine import ENGINES
from defectline.components.common.errors import DefectlineError, SettingsError
from defectline.components.common.imaging import MAX_PIXELS
from defectline.components.common.ports import check_port
from defectline.components.common.storage import open_storage
from defectline.components.serve.admission import Admission, processors, workers_for
from defectline.components.serve.model import DefectModel, Folder
from defectline.components.serve.monitoring import logs, review
from defectline.components.serve.monitoring.drift import LEAST_FRAMES
from defectline.components.serve.monitoring.review import Reviewer, ReviewSettings
from defectline.components.serve.protocol import grpc as grpc_service
from defectline.components.serve.protocol import rest
from defectline.components.serve.sdk import RESTServer
from defectline.components.serve.sdk import parser as kserve_parser
from defectline.components.serve.sources import Champion

GRACE_S = 30
"""Requests under way get so long to end once the server ends."""
REVIEW_END_S = 5.0
"""Frames that wait for review are written for so long at the end."""
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
        reviewer = _reviewer(arguments, model)
        model.load()
    except DefectlineError as error:
        print(f"serve: {error}", file=sys.stderr, flush=True)
        with suppress(OSError):
            if TERMINATION_LOG.exists():
                TERMINATION_LOG.write_text(str(error))
        # A bundle does not get better by waiting: an end that says why fails the rollout at once.
        raise SystemExit(2) from None
    # What is there by now stays. To collect garbage among all of it would stop the answers for a tenth of a
    # second now and then.
    gc.collect()
    gc.freeze()
    limits = rest.Limits(int(arguments.max_mb * 1e6))
    app = rest.make_app(model, limits, lambda _: _life(model, reviewer, arguments), not arguments.no_page)
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
async def _life(
    model: DefectModel, reviewer: Reviewer | None, arguments: argparse.Namespace
) -> AsyncIterator[None]:
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
        engine=model.how.engine,
        precision=model.loaded.precision,
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port if server else None,
        threads=model.how.threads,
    )
    yield
    if server:
        await server.stop(GRACE_S)
    for task in tasks:
        task.cancel()
    await asyncio.to_thread(model.observers.close)
    if reviewer:
        await asyncio.to_thread(reviewer.close, REVIEW_END_S)
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
    parser.add_argument("--threads", type=int, default=0, help="processors to use; 0: all that there are")
    parser.add_argument(
        "--drain_ms",
        type=float,
        default=1000,
        help="after SIGTERM, how long requests are still taken while readiness already says no",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="openvino",
        help="onnxruntime for NVIDIA GPUs; always in float32 (%(default)s)",
    )
    parser.add_argument("--no_page", action="store_true", help="no page for people at /")
    parser.add_argument(
        "--drift_window", type=int, default=1000, metavar="FRAMES", help="the last so many tell of drift"
    )
    usual = ReviewSettings()
    parser.add_argument("--review", metavar="STORE", help="keep frames for review there; off without")
    parser.add_argument(
        "--review_margin", type=float, default=usual.margin, help="how far from the threshold a score may be"
    )
    parser.add_argument("--review_share", type=float, default=usual.share, help="of the other frames")
    parser.add_argument(
        "--review_per_day", type=int, default=usual.per_day, help="frames in the store, of one day"
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
        "drift_window": (LEAST_FRAMES, 100_000),
        "review_margin": (0, 1),
        "review_share": (0, 1),
        "review_per_day": (1, 100_000),
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
        if arguments.grpc_port == arguments.http_port:
            raise SettingsError(
                "HTTP and gRPC cannot share a port.",
                got=f"{arguments.http_port} for both",
                expected="two ports",
                fix="Choose another one for gRPC.",
            )
        check_port(arguments.grpc_port)


def _model(arguments: argparse.Namespace) -> DefectModel:
    source = (
        Champion(arguments.store, arguments.model_name) if arguments.store else Folder(arguments.model_dir)
    )
    threads = arguments.threads or processors()
    admission = Admission(workers_for(threads), arguments.queue, arguments.deadline_ms / 1000)
    return DefectModel(
        arguments.model_name,
        source,
        threads,
        admission,
        aliases=arguments.alias,
        max_pixels=int(arguments.max_megapixels * 1e6),
        engine=arguments.engine,
        drift_window=arguments.drift_window,
    )


def _reviewer(arguments: argparse.Namespace, model: DefectModel) -> Reviewer | None:
    """What keeps frames of the model, if any shall be kept."""
    if not arguments.review:
        return None
    settings = ReviewSettings(
        margin=arguments.review_margin, share=arguments.review_share, per_day=arguments.review_per_day
    )
    reviewer = Reviewer(open_storage(arguments.review), model.name, settings)
    review.expose(model.metrics.registry)
    model.observers.callables.append(reviewer.observe)
    return reviewer


if __name__ == "__main__":
    main()
