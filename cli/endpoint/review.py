"""`defectline review open`, `list`, `labels`, `accept`, `audit`, `export`, `push` and `pull`"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from defectline.cli import completion
from defectline.cli.options import Json, Name, Source, Store
from defectline.pipeline.labelling import ToolName

if TYPE_CHECKING:
    from defectline.pipeline.catalog.review import Item

OWN = ("127.0.0.1", "localhost", "::1")
"""Who reaches these is the user of this machine."""

Most = Annotated[int, typer.Option(min=1, help="Images at most; those that teach most.")]

app = typer.Typer(no_args_is_help=True, help="Frames that the endpoint kept for people to look at.")


@app.command("open")
def open_(
    store: Store = "./store",
    name: Name = "defects",
    port: Annotated[int, typer.Option(help="Port of this machine to listen on; 0: any that is free.")] = 8090,
    address: Annotated[
        str, typer.Option(help="Address to listen on. Everybody who reaches it may decide, without tokens.")
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None, typer.Option(help="Who decides must type a token of this file, one a line.")
    ] = None,
    ssl_certfile: Annotated[Path | None, typer.Option(help="Speak HTTPS with this certificate.")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="And this key.")] = None,
    by: Annotated[str, typer.Option(help="Who decides; else the user of this machine.")] = "",
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Look at the frames in a browser, decide what they are, and draw masks, until interrupted."""
    import webbrowser

    import uvicorn

    from defectline.cli import ui
    from defectline.components.common.ports import check_certificate, check_port, free_port
    from defectline.components.common.reporting.audit import user
    from defectline.components.common.storage import open_storage
    from defectline.components.serve.protocol.door import Tokens
    from defectline.pipeline.catalog.review import list_frames, models_with_frames
    from defectline.pipeline.review_app.app import Review, make_app

    opened = open_storage(store)
    found = list_frames(opened, name, typer.echo)
    port = port or free_port()
    check_port(port, address)
    check_certificate(ssl_certfile, ssl_keyfile)
    tokens = Tokens(token_file) if token_file else None
    url = f"{'https' if ssl_certfile else 'http'}://{address}:{port}"
    waiting = sum(not item.decided for item in found)
    if not found and (others := models_with_frames(opened)):
        ui.warn(f"no frame is of {name}; there are some of {', '.join(others)}")
    typer.echo(f"{waiting} of {len(found)} frames of {name} wait for a decision: {url} (Ctrl-C ends)")
    if browser:
        webbrowser.open(url)
    app = make_app(Review(opened, name, by or (user() if address in OWN else "")), tokens)
    uvicorn.run(
        app,
        host=address,
        port=port,
        log_level="warning",
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
    )


@app.command("list")
def list_(
    store: Store = "./store",
    name: Name = "defects",
    json_: Json = False,
) -> None:
    """List the frames of a model, and what was decided about them."""
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.review import as_rows, list_frames

    opened = open_storage(store)
    items = list_frames(opened, name, ui.warn)
    if json_:
        ui.print_json(as_rows(opened, items))
    else:
        show_review(items)


@app.command("labels")
def labels(
    crossval: Annotated[
        str, typer.Option(help="Store of a `defectline crossval` of the source.")
    ] = "./crossval",
    store: Store = "./store",
    name: Name = "defects",
    most: Most = 50,
) -> None:
    """Put pictures of the source whose labels cross-validation doubts among the frames.

    Decide about them like about others; `export` writes what was wrong into the source's corrections.csv.
    """
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.doubts import find_doubts, queue_doubts

    judged, opened = open_storage(crossval), open_storage(store)
    found = find_doubts(judged)
    new = queue_doubts(judged, opened, name, found[:most])
    rows = [
        (doubt.pair.image_key, doubt.pair.label, f"{doubt.score:.3f}", f"{doubt.threshold:.3f}")
        for doubt in found[:most]
    ]
    if rows:
        ui.table(("picture", "labelled", "score", "threshold"), rows, whole=("picture",))
    left = f", the surest {most} of them" if len(found) > most else ""
    ui.console.print(f"{len(found)} labels are doubted{left}; {new} are new in the review")


@app.command("accept")
def accept(
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID…", help="ID prefixes are accepted.", autocompletion=completion.frames),
    ],
    as_: Annotated[Literal["OK", "NG"], typer.Option("--as", help="What the part really is.")],
    mask: Annotated[
        Path | None, typer.Option(help="Its defects, white on black; otherwise the predicted mask is taken.")
    ] = None,
    by: Annotated[str, typer.Option(help="Who decides; else the user of this machine.")] = "",
    store: Store = "./store",
    name: Name = "defects",
) -> None:
    """Say what the part in a frame is, so that `export` adds it to the labelled images."""
    from defectline.cli import ui
    from defectline.components.common.errors import SettingsError
    from defectline.components.common.files import read_file
    from defectline.components.common.reporting.audit import user
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog import review

    if mask and len(ids) > 1:
        raise SettingsError(
            "One mask does not fit several frames.",
            got=f"--mask with {len(ids)} ids",
            expected="--mask with one id",
            fix="Accept them one at a time.",
        )
    drawn = read_file(mask, "a mask") if mask else None
    for start in ids:
        item = review.accept(open_storage(store), name, start, as_, drawn, by=by or user())
        if odd := review.doubts(item.frame, as_, drawn):
            ui.warn(f"{item.frame.id}: {odd} Look at it again: {open_storage(store).url(item.picture_key)}")
        typer.echo(f"{item.frame.id}: accepted as {as_}")


@app.command("audit")
def audit(
    store: Store = "./store",
    name: Name = "defects",
    json_: Json = False,
) -> None:
    """List who decided what; exit with 2 where a line of the audit file was changed or taken out."""
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.audit import read_audit

    found = read_audit(open_storage(store), name)
    if json_:
        ui.print_json([entry.model_dump() for entry in found.entries])
    elif found.entries:
        rows = [(one.at[:19], one.by, one.frame[:12], one.verdict, one.mask[:12]) for one in found.entries]
        ui.table(("when (UTC)", "who", "frame", "decision", "mask"), rows, whole=("when (UTC)", "frame"))
    else:
        ui.console.print("nobody has decided anything yet")
    if found.broken:
        ui.warn(f"the audit file is broken: {found.broken}", bad=True)
        raise typer.Exit(2)


@app.command("export")
def export(
    source: Source,
    store: Store = "./store",
    name: Name = "defects",
) -> None:
    """Add the accepted frames to the labelled images; the next run learns from them."""
    from defectline.cli import ui
    from defectline.components.common.reporting.audit import note, user
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.review_export import export as export_frames

    target, opened = open_storage(source), open_storage(store)
    done = export_frames(opened, name, target, ui.say)
    if done.new:
        note(opened, "export", name, f"{len(done.new)} frames", user(), target.uri)
    for key in done.new:
        typer.echo(target.url(key))
    typer.echo(f"{len(done.new)} exported, {done.there} there already")
    if not (done.new or done.there or done.conflicts):
        typer.echo("No frame is accepted yet: `defectline review list` shows what waits.")
    for frame in done.conflicts:
        ui.warn(
            f"{frame}: left out, the source has it under the other label; remove it there first", bad=True
        )
    if done.conflicts:
        raise typer.Exit(2)


To = Annotated[ToolName, typer.Option("--to", help="The labelling tool.")]
Url = Annotated[str, typer.Option(help="Address of the tool's server.")]
Project = Annotated[str, typer.Option(help="Its project; else the name of the model.")]


@app.command("push")
def push(
    to: To,
    url: Url,
    project: Project = "",
    most: Most = 100,
    store: Store = "./store",
    name: Name = "defects",
) -> None:
    """Send open frames to a labelling tool, with the model's mask as the proposal.

    The tool's token comes from the environment: LABEL_STUDIO_API_KEY, CVAT_ACCESS_TOKEN.
    """
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.labelling.exchange import push as push_frames
    from defectline.pipeline.labelling.tools import open_tool

    tool = open_tool(to, url, project or name)
    done = push_frames(open_storage(store), name, tool, most, ui.warn)
    typer.echo(f"{done.new} frames sent, {done.there} there already: {tool.url}")


@app.command("pull")
def pull(
    to: To,
    url: Url,
    project: Project = "",
    store: Store = "./store",
    name: Name = "defects",
) -> None:
    """Take over what people decided about frames in a labelling tool; what is decided here stays."""
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.labelling.exchange import pull as pull_decisions
    from defectline.pipeline.labelling.tools import open_tool

    done = pull_decisions(open_storage(store), name, open_tool(to, url, project or name), ui.warn)
    for id, verdict in done.new:
        typer.echo(f"{id}: accepted as {verdict}")
    typer.echo(f"{len(done.new)} decisions taken over, {done.there} decided here before")
    for why in done.unusable:
        ui.warn(why, bad=True)
    if done.unusable:
        raise typer.Exit(2)


def show_review(items: Sequence["Item"]) -> None:
    """One line a frame, the oldest first."""
    from defectline.cli import ui
    from defectline.pipeline.catalog.review import WHY

    if not items:
        return ui.console.print("no frames for review")
    rows = [
        (
            item.frame.id[:12],
            f"{datetime.fromisoformat(item.frame.taken):%Y-%m-%d %H:%M:%S}",
            item.frame.prediction["verdict"],
            item.frame.prediction["score"],
            item.frame.threshold,
            WHY.get(item.frame.reason, "in doubt"),
            item.frame.version,
            item.state,
        )
        for item in items
    ]
    columns = ("id", "date", "verdict", "score", "threshold", "kept", "version", "state")
    ui.table(columns, rows, numbers=("score", "threshold"), whole=columns, below=("kept", "version"))
    ui.note("ids are cut short, which every command understands; dates are UTC")
