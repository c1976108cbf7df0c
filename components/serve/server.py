"""The process that serves: its options, its servers and how it stops."""

import argparse
import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, get_args

from starlette.types import ASGIApp

from defectline.components.common.errors import DefectlineError, SettingsError
from defectline.components.common.ports import check_certificate, check_port
from defectline.components.common.settings import checked
from defectline.components.common.storage import open_storage
from defectline.components.common.trust.keys import TRUST_ENV
from defectline.components.serve.model import DefectModel, make_admission
from defectline.components.serve.monitoring import logs, review
from defectline.components.serve.monitoring.review import Reviewer
from defectline.components.serve.monitoring.spans import Spans, is_configured
from defectline.components.serve.protocol import grpc as grpc_service
from defectline.components.serve.protocol import rest
from defectline.components.serve.protocol.body import BodyBudget, Limits
from defectline.components.serve.protocol.connection import Connection
from defectline.components.serve.protocol.door import Door, Rates, Tokens
from defectline.components.serve.sdk import RESTServer
from defectline.components.serve.sdk import parser as kserve_parser
from defectline.components.serve.settings import Guarded, ServeSettings
from defectline.components.serve.several import Several
from defectline.components.serve.sources import Champion, Folder

EVERYWHERE = "0.0.0.0"
GRACE_S = 30
"""Requests under way get so long to end when the server stops."""
REVIEW_END_S = 5.0
"""Time to write the frames that wait for review when the server stops."""
TERMINATION_LOG = Path("/dev/termination-log")
"""Kubernetes shows its content as the reason why the container ended, and KServe in the service's status."""


class Server(RESTServer):
    """KServe's HTTP server, with its TLS and event loop, for our app instead of KServe's."""

    def create_application(self) -> None:
        """The app came with the constructor."""


def main() -> None:
    arguments = _arguments()
    logs.configure()
    try:
        settings = _settings(arguments)
        models = _models(arguments, settings)
        reviewers = _reviewers(arguments, settings, models)
        door = _door(arguments, settings)
        for model in models:
            model.spans = Spans(model.name) if is_configured() else None
            model.load()
    except DefectlineError as error:
        print(f"serve: {error}", file=sys.stderr, flush=True)
        with suppress(OSError):
            if TERMINATION_LOG.exists():
                TERMINATION_LOG.write_text(str(error))
        # Waiting would not help: an exit with its reason fails the rollout at once.
        raise SystemExit(2) from None
    # What is there by now stays. Garbage collection over all of it would stop the answers for a tenth of a
    # second now and then.
    gc.collect()
    gc.freeze()
    server = Server(
        _app(models, reviewers, arguments, settings, door),  # type: ignore[arg-type]
        None,
        None,
        arguments.http_port,
        grace_period=GRACE_S,
        event_loop=arguments.event_loop,
        timeout_keep_alive=arguments.timeout_keep_alive,
        ssl_certfile=arguments.ssl_certfile,
        ssl_keyfile=arguments.ssl_keyfile,
    )
    server.config.http = Connection
    server.config.host = arguments.address
    # The HTTP server raises the signal that stopped it once more after its end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    asyncio.run(server.start())


def _app(
    models: Sequence[DefectModel],
    reviewers: Sequence[Reviewer],
    arguments: argparse.Namespace,
    settings: ServeSettings,
    door: Door,
) -> ASGIApp:
    budget = BodyBudget()
    apps: dict[str, ASGIApp] = {}
    for model in models:
        app = rest.make_app(
            model,
            Limits(settings.body_bytes),
            # Only the first app is told of start and end, which are those of the process.
            lambda _: lifespan(models, reviewers, arguments, door),
            not arguments.no_page,
            arguments.cors,
            door,
            [other for other in models if other is not model],
            budget,
        )
        apps |= dict.fromkeys(model.names, app)
    return Several(apps) if len(models) > 1 else app


@asynccontextmanager
async def lifespan(
    models: Sequence[DefectModel],
    reviewers: Sequence[Reviewer],
    arguments: argparse.Namespace,
    door: Door,
) -> AsyncIterator[None]:
    """From just before the first request until the last one over HTTP is answered."""
    loop, settings = asyncio.get_running_loop(), models[0].settings
    tasks = set()

    def switch() -> None:
        for model in models:
            task = loop.create_task(model.switch())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def drain(number: signal.Signals, after_s: float) -> None:
        if not models[0].draining:
            logs.log("draining", signal=number.name)
        for model in models:
            model.draining = True
        loop.call_later(after_s, close_port[number], number, None)

    # The HTTP server's own handlers.
    close_port: Any = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    loop.add_signal_handler(signal.SIGTERM, drain, signal.SIGTERM, settings.drain_ms / 1000)
    loop.add_signal_handler(signal.SIGINT, drain, signal.SIGINT, 0)
    loop.add_signal_handler(signal.SIGHUP, switch)
    server = None
    if arguments.enable_grpc:
        server = grpc_service.make_server(
            models,
            arguments.grpc_port,
            settings.body_bytes,
            # Kubernetes' probes and KServe's clients may come over IPv6.
            "[::]" if arguments.address == EVERYWHERE else arguments.address,
            door,
        )
        await server.start()
    for model in models:
        if settings.watch:
            tasks.add(loop.create_task(model.watch(settings.watch)))
        assert model.loaded is not None
        logs.log(
            "serving",
            model_name=model.name,
            model_version=model.loaded.bundle.version,
            engine=settings.engine,
            precision=model.loaded.precision,
            http_port=arguments.http_port,
            grpc_port=arguments.grpc_port if server else None,
            threads=settings.threads,
        )
    yield
    if server:
        await server.stop(GRACE_S)
    for task in tasks:
        task.cancel()
    for model in models:
        await asyncio.to_thread(model.observers.close)
    for reviewer in reviewers:
        await asyncio.to_thread(reviewer.close, REVIEW_END_S)
    for model in models:
        if model.spans:
            await asyncio.to_thread(model.spans.close)
    logs.log("ended")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="serve", description="Serve a published model on KServe's protocols.", parents=[kserve_parser]
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--model_dir", type=Path, default=Path("/mnt/models"), help="folder with bundle.json and its network"
    )
    source.add_argument("--store", help="serve this store's champion of --model_name instead")
    parser.add_argument("--alias", action="append", default=[], help="another name of the model; repeatable")
    parser.add_argument(
        "--also",
        metavar="NAME",
        action="append",
        default=[],
        help="with --store: the champion of this name is served too, by the same threads; repeatable",
    )
    parser.add_argument(
        "--cors",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="let pages from this origin ask; repeatable",
    )
    parser.add_argument("--address", default=EVERYWHERE, help="address to listen on (%(default)s: all)")
    parser.add_argument(
        "--token_file", type=Path, help="who asks must send a token of this file; read again when it changes"
    )
    parser.add_argument(
        "--guard",
        choices=get_args(Guarded),
        action="append",
        default=[],
        help="with --token_file: this needs a token as well; repeatable",
    )
    parser.add_argument(
        "--trust",
        metavar="KEYS",
        action="append",
        default=[],
        help="a file or folder of public keys or identities, one of which must have signed the model; "
        f"repeatable (default: those in {TRUST_ENV})",
    )
    parser.add_argument("--version", default="", help="with --model_dir: serve this version alone")
    parser.add_argument("--no_page", action="store_true", help="no page for people at /")
    parser.add_argument("--review", metavar="STORE", help="keep frames for review in this store")
    for name, field in ServeSettings.model_fields.items():
        parser.add_argument(
            f"--{name}",
            choices=get_args(field.annotation) or None,
            default=field.default,
            help=f"{field.description} (%(default)s)",
        )
    parser.set_defaults(model_name="defects", enable_grpc=False)
    return parser.parse_args()


def _settings(arguments: argparse.Namespace) -> ServeSettings:
    """The checked settings. Raises SettingsError, also for options of KServe's that cannot be used."""
    given = {name: getattr(arguments, name) for name in ServeSettings.model_fields}
    settings = checked(ServeSettings, **given)
    if arguments.workers != 1:
        raise SettingsError(
            "--workers cannot be used.",
            got=str(arguments.workers),
            expected="1: more pods, not more processes",
            fix="Leave it out.",
        )
    check_port(arguments.http_port, arguments.address)
    check_certificate(arguments.ssl_certfile, arguments.ssl_keyfile)
    if arguments.enable_grpc:
        if arguments.grpc_port == arguments.http_port:
            raise SettingsError(
                "HTTP and gRPC cannot share a port.",
                got=f"{arguments.http_port} for both",
                expected="two ports",
                fix="Choose another one for gRPC.",
            )
        check_port(arguments.grpc_port, arguments.address)
    if arguments.guard and not arguments.token_file:
        raise SettingsError(
            "--guard cannot be used alone.",
            got=" ".join(f"--guard {what}" for what in arguments.guard),
            expected="--token_file as well",
            fix="Name a file of tokens, or leave it out.",
        )
    return settings


def _door(arguments: argparse.Namespace, settings: ServeSettings) -> Door:
    return Door(
        Tokens(arguments.token_file) if arguments.token_file else None,
        Rates(settings.rate) if settings.rate else None,
        arguments.guard,
    )


def _models(arguments: argparse.Namespace, settings: ServeSettings) -> list[DefectModel]:
    """Those of all names, which share threads. Raises SettingsError for names that cannot be served."""
    names = [arguments.model_name, *arguments.also]
    if arguments.also and (not arguments.store or arguments.alias or len(set(names)) < len(names)):
        raise SettingsError(
            "These models cannot be served together.",
            got=" ".join(
                [*([] if arguments.store else ["no --store"]), *(f"--alias {one}" for one in arguments.alias)]
                or names
            ),
            expected="--store, a name once each, and no --alias",
            fix="Name each model of the store once, and ask each by its own name.",
        )
    admission = make_admission(settings)
    models = []
    for name in names:
        source = (
            Champion(arguments.store, name, arguments.trust)
            if arguments.store
            else Folder(arguments.model_dir, arguments.trust, arguments.version)
        )
        model = DefectModel(name, source, settings, arguments.alias, admission)
        model.beside = tuple(other for other in names if other != name)
        models.append(model)
    return models


def _reviewers(
    arguments: argparse.Namespace, settings: ServeSettings, models: Sequence[DefectModel]
) -> list[Reviewer]:
    """Keep frames of each model where --review names a store."""
    if not arguments.review:
        return []
    reviewers = []
    for model in models:
        reviewer = Reviewer(open_storage(arguments.review), model.name, settings)
        review.expose(model.metrics.registry)
        model.observers.add(reviewer.observe)
        model.keeps_frames = True
        reviewers.append(reviewer)
    return reviewers


if __name__ == "__main__":
    main()
