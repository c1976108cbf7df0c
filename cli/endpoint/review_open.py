"""`defectline review open`"""

import webbrowser
from getpass import getuser
from typing import Annotated

import typer

from defectline.cli.options import Name, Store


def open_(
    store: Store = "./store",
    name: Name = "defects",
    port: Annotated[int, typer.Option(help="Port of this machine to listen on; 0: any that is free.")] = 8090,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Whoever reaches it may decide.")
    ] = "127.0.0.1",
    by: Annotated[str, typer.Option(help="Who decides; else the user of this machine.")] = "",
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Look at the frames in a browser, decide what they are, and draw masks, until interrupted."""
    import uvicorn

    from defectline.components.common.ports import check_port, free_port
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.review import list_frames
    from defectline.pipeline.review_app.app import Review, make_app

    opened = open_storage(store)
    found = list_frames(opened, name, typer.echo)
    port = port or free_port()
    check_port(port, host)
    url = f"http://{host}:{port}"
    waiting = sum(not item.decided for item in found)
    typer.echo(f"{waiting} of {len(found)} frames of {name} wait for a decision: {url} (Ctrl-C ends)")
    if browser:
        webbrowser.open(url)
    app = make_app(Review(opened, name, by or getuser()))
    uvicorn.run(app, host=host, port=port, log_level="warning")
