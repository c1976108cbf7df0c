"""`defectline serve`"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from defectline.cli import hints
from defectline.cli.options import Names, Store, Trust


def serve(
    store: Store = "./store",
    name: Names = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    address: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0: all of this machine's.")
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None, typer.Option(help="Who asks must send a token of this file, one a line.")
    ] = None,
    ssl_certfile: Annotated[Path | None, typer.Option(help="Speak HTTPS with this certificate.")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="And this key.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Pictures a second from one client; 0: any number.")] = 0,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="0: no gRPC.")] = 0,
    alias: Annotated[list[str] | None, typer.Option(help="Another name of the model; repeatable.")] = None,
    watch: Annotated[
        float, typer.Option(min=0, help="Seconds between looks for another champion; 0: on SIGHUP alone.")
    ] = 5,
    engine: Annotated[
        Literal["openvino", "onnxruntime"], typer.Option(help="onnxruntime for NVIDIA GPUs.")
    ] = "openvino",
    review: Annotated[
        bool, typer.Option("--review/--no-review", help="Keep some frames in the store, for people to see.")
    ] = True,
    trust: Trust = None,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="At /, a page on which people inspect pictures.")
    ] = True,
) -> None:
    """Serve the champion on this machine, and the next one once there is one, until interrupted.

    With several names, the champion of each, by the same threads.
    """
    from defectline.components.common.errors import SettingsError
    from defectline.components.common.installing import how_to_install, is_installed
    from defectline.components.common.ports import check_certificate, check_port
    from defectline.components.serve.sources import fetch_champion

    if engine == "onnxruntime" and not is_installed("onnxruntime"):
        raise SettingsError(
            "ONNX Runtime is not installed.",
            got="--engine onnxruntime",
            expected="the package onnxruntime, or onnxruntime-gpu for CUDA",
            fix=f"{how_to_install('serve-gpu')} Or leave --engine out.",
        )
    names = list(dict.fromkeys(name or ["defects"]))
    versions = {one: fetch_champion(store, one, trust or ())[1] for one in names}
    check_port(port, address)
    check_certificate(ssl_certfile, ssl_keyfile)
    reached = "localhost" if address in ("0.0.0.0", "127.0.0.1") else address
    url = f"{'https' if ssl_certfile else 'http'}://{reached}:{port}"
    served = " and ".join(f"{one} {version}" for one, version in versions.items())
    typer.echo(f"Serving {served} on {url} (ready in some seconds). Try:")
    more = f" --token-file {token_file}" if token_file else ""
    typer.echo(f"  {hints.program()} inspect IMAGE --url {url} --name {names[0]}{more}")
    if page:
        typer.echo(f"or open {url} in a browser.")
    sys.stdout.flush()
    command = [
        sys.executable,
        "-m",
        "defectline.components.serve",
        "--store",
        store,
        "--model_name",
        names[0],
    ]
    command += ["--http_port", str(port), "--watch", str(watch), "--engine", engine]
    command += ["--address", address, "--rate", str(rate)]
    for option, file in (
        ("token_file", token_file),
        ("ssl_certfile", ssl_certfile),
        ("ssl_keyfile", ssl_keyfile),
    ):
        if file:
            command += [f"--{option}", str(file)]
    if review:
        command += ["--review", store]
    if not page:
        command += ["--no_page"]
    if grpc_port:
        command += ["--enable_grpc", "true", "--grpc_port", str(grpc_port)]
    for place in trust or []:
        command += ["--trust", place]
    for other in names[1:]:
        command += ["--also", other]
    for other in alias or []:
        command += ["--alias", other]
    # The predictor takes this process over, so that a signal reaches it directly.
    os.execv(sys.executable, command)
