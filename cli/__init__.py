"""The `defectline` command. Heavy packages are imported by the commands that need them."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from defectline.cli import cluster_commands, commands
from defectline.cli.options import FailOnGate, Force, Json, Name, Set, Source, Store
from defectline.cli.rollback import rollback
from defectline.cli.status import status
from defectline.components.common.errors import DefectlineError, SettingsError

app = typer.Typer(
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    help="Labelled product images become a gated defect-segmentation endpoint.",
)
app.add_typer(cluster_commands.schedule, name="schedule")
review = typer.Typer(no_args_is_help=True, help="Frames that the endpoint kept for people to look at.")
app.add_typer(review, name="review")
Pretrain = Annotated[
    bool, typer.Option("--pretrain", help="Start from weights of drawn plates, made once in the store.")
]


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="The versions that matter, and exit.")
    ] = False,
) -> None:
    if version:
        from defectline.pipeline.versions import versions

        for name, found in versions():
            typer.echo(f"{name:11} {found or 'not installed'}")
        raise typer.Exit


@app.command()
def run(
    source: Source,
    store: Store = "./store",
    name: Name = "defects",
    set_: Set = None,
    force: Force = False,
    pretrain: Pretrain = False,
    fail_on_gate: FailOnGate = False,
) -> None:
    """Run the whole pipeline on this machine."""
    from defectline.cli import screen
    from defectline.pipeline.local import RunFailed, run_locally
    from defectline.pipeline.parameters import parse
    from defectline.pipeline.pretraining import with_pretrained_weights

    parameters = parse(source, store, set_ or [], model_name=name, force=force)
    try:
        if pretrain:
            parameters = with_pretrained_weights(parameters, screen.say)
        done = run_locally(parameters, screen.say)
    except RunFailed as error:
        screen.show_failure(error)
        raise typer.Exit(1) from None
    screen.show_run(done, parameters)
    if fail_on_gate and done.outcome.state == "refused":
        raise typer.Exit(3)


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    pairs: Annotated[int, typer.Option(min=12, help="In total; half of them are NG.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed draws the same images.")] = 0,
    size: Annotated[int, typer.Option(max=4096, help="Side of an image in pixels.")] = 224,
) -> None:
    """Draw light-guide-plate images with masks, to try everything out."""
    from defectline.components.common.sample import generate_samples

    generate_samples(folder, pairs=pairs, seed=seed, size=size)
    typer.echo(f"{folder}: {pairs} pairs drawn")


@app.command()
def crossval(
    source: Annotated[str, typer.Argument(help="s3://, gs://, file:// or a folder with labelled images.")],
    store: Annotated[str, typer.Option(help="Keeps the single folds, so that it goes on where it was.")] = (
        "./crossval"
    ),
    folds: Annotated[int, typer.Option(min=2, help="Each picture is judged in one of them.")] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="How many; the first is the parameter seed.")] = 1,
    set_: Set = None,
    pretrain: Pretrain = False,
) -> None:
    """Judge settings by cross-validation: every picture by a network that has not seen it."""
    from defectline.cli import screen
    from defectline.pipeline.crossval import cross_validate
    from defectline.pipeline.local import RunFailed
    from defectline.pipeline.parameters import parse
    from defectline.pipeline.pretraining import with_pretrained_weights

    parameters = parse(source, store, set_ or [])
    numbers = range(parameters.seed, parameters.seed + seeds)
    try:
        if pretrain:
            parameters = with_pretrained_weights(parameters, screen.say)
        judged = cross_validate(parameters, folds, numbers, screen.say)
    except RunFailed as error:
        screen.show_failure(error)
        raise typer.Exit(1) from None
    screen.show_cross_validation(judged)


@app.command("pretrain")
def make_weights(
    store: Store = "./store",
    pairs: Annotated[int, typer.Option(min=20, help="Drawn light guide plates to train on.")] = 6000,
    set_: Set = None,
) -> None:
    """Train on drawn samples, for weights to start from; prints what `init_from` takes."""
    from defectline.cli import screen
    from defectline.pipeline.local import RunFailed
    from defectline.pipeline.parameters import parse
    from defectline.pipeline.pretraining import DEFAULTS, pretrain

    parameters = parse("drawn", store, [*DEFAULTS, *(set_ or [])])
    try:
        made = pretrain(parameters, pairs, screen.say)
    except RunFailed as error:
        screen.show_failure(error)
        raise typer.Exit(1) from None
    typer.echo(f"init_from={made}")


@app.command()
def serve(
    store: Store = "./store",
    name: Name = "defects",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
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
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="At /, a page on which people inspect pictures.")
    ] = True,
) -> None:
    """Serve the champion on this machine, and the next one once there is one, until interrupted."""
    from defectline.components.common.ports import check_port
    from defectline.components.serve.sources import fetch_champion

    _, version = fetch_champion(store, name)
    check_port(port)
    url = f"http://localhost:{port}"
    typer.echo(f"Serving {name} {version} on {url} (ready in some seconds). Try:")
    typer.echo(f"  defectline inspect IMAGE --url {url} --name {name}")
    if page:
        typer.echo(f"or open {url} in a browser.")
    sys.stdout.flush()
    command = [sys.executable, "-m", "defectline.components.serve", "--store", store, "--model_name", name]
    command += ["--http_port", str(port), "--watch", str(watch), "--engine", engine]
    if review:
        command += ["--review", store]
    if not page:
        command += ["--no_page"]
    if grpc_port:
        command += ["--enable_grpc", "true", "--grpc_port", str(grpc_port)]
    for other in alias or []:
        command += ["--alias", other]
    # The predictor takes this process over, so that a signal reaches it directly.
    os.execv(sys.executable, command)


@app.command()
def inspect(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE…", help="Picture files, folders of them, or patterns.")
    ],
    url: Annotated[str, typer.Option(help="Where the endpoint answers.")] = "http://localhost:8080",
    name: Name = "defects",
    overlays: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the pictures with the findings; default inspected/, with --csv or --json none."
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write a row a picture to this file; - prints them.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON object a picture.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Pictures at once.")] = 4,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one try.")] = 30.0,
) -> None:
    """Ask the endpoint about pictures; print what it found and draw it.

    Exit status 0: all were answered, whatever the verdicts. 2: a picture or the endpoint failed; the others
    are answered all the same, and the bad ones named at the end.
    """
    from defectline.cli import screen
    from defectline.client.batch import (
        as_lines,
        check_csv,
        find_pictures,
        inspect_all,
        write_csv,
        write_rows,
    )
    from defectline.client.client import Client

    print_rows = csv == Path("-")
    if print_rows and json_:
        raise SettingsError(
            "Rows and JSON would be printed into one another.",
            got="--csv - with --json",
            expected="one of them, or a file for --csv",
            fix="Name a file with --csv, or leave --json out.",
        )
    if overlays is None and not (csv or json_):
        overlays = Path("inspected")
    pictures = find_pictures(images)
    if csv and not print_rows:
        check_csv(csv, pictures)
    with (
        Client(url, name, timeout_s=timeout, deadline_s=2 * timeout) as client,
        screen.progress("inspecting", len(pictures)) as advance,
    ):
        client.check_reachable()
        inspected = inspect_all(client, pictures, jobs, overlays, advance)
    if csv and not print_rows:
        write_csv(inspected.done, csv)
    if print_rows:
        write_rows(inspected.done, sys.stdout)
    elif json_:
        for line in as_lines(inspected.done):
            typer.echo(line)
    else:
        screen.show_predictions(inspected.done, overlays, csv)
    bad = [one for one in inspected.done if one.error]
    for one in bad:
        typer.secho(f"{one.picture}: {one.error}", err=True, fg=typer.colors.RED)
    if inspected.stopped:
        left = len(pictures) - len(inspected.done)
        if inspected.done:
            typer.secho(f"stopped with {left} of {len(pictures)} pictures left", err=True)
        raise inspected.stopped
    if bad:
        typer.secho(f"{len(bad)} of {len(pictures)} pictures failed", err=True, fg=typer.colors.RED)
        raise typer.Exit(2)


@app.command()
def snapshots(
    store: Store = "./store",
    diff: Annotated[
        tuple[str, str] | None, typer.Option(metavar="A B", help="What B has other than A; starts of ids do.")
    ] = None,
    json_: Json = False,
) -> None:
    """List the snapshots of a store, or compare two of them."""
    from defectline.cli import screen, tables
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.snapshots import compare, summarize

    if diff:
        before, after, changes = compare(open_storage(store), *diff)
        if json_:
            changed = [change._asdict() for change in changes]
            tables.print_json({"before": before, "after": after, "changes": changed})
        else:
            screen.show_difference(before, after, changes)
    else:
        rows = summarize(open_storage(store), tables.complain if json_ else screen.say)
        if json_:
            tables.print_json(
                [
                    {**row.snapshot.model_dump(), "new": row.new, "models": row.models, "newest": row.head}
                    for row in rows
                ]
            )
        else:
            screen.show_snapshots(rows)


@review.command("list")
def review_list(
    store: Store = "./store",
    name: Name = "defects",
    json_: Annotated[bool, typer.Option("--json", help="One JSON array, for other programs.")] = False,
) -> None:
    """List the frames of a model, and what was decided about them."""
    from defectline.cli import tables
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.review import as_rows, list_frames

    opened = open_storage(store)
    items = list_frames(opened, name, lambda text: typer.echo(text, err=True))
    if json_:
        typer.echo(json.dumps(as_rows(opened, items), indent=2))
    else:
        tables.show_review(items)


@review.command("accept")
def review_accept(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Starts of ids do.")],
    as_: Annotated[Literal["OK", "NG"], typer.Option("--as", help="What the part really is.")],
    mask: Annotated[
        Path | None, typer.Option(help="Its defects, white on black; otherwise the predicted mask is taken.")
    ] = None,
    store: Store = "./store",
    name: Name = "defects",
) -> None:
    """Say what the part in a frame is, so that `export` adds it to the labelled images."""
    from defectline.components.common.errors import SettingsError
    from defectline.components.common.files import read_file
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.review import accept

    if mask and len(ids) > 1:
        raise SettingsError(
            "One mask does not fit several frames.",
            got=f"--mask with {len(ids)} ids",
            expected="--mask with one id",
            fix="Accept them one at a time.",
        )
    drawn = read_file(mask, "a mask") if mask else None
    for start in ids:
        item = accept(open_storage(store), name, start, as_, drawn)
        typer.echo(f"{item.frame.id}: accepted as {as_}")


@review.command("export")
def review_export(
    source: Source,
    store: Store = "./store",
    name: Name = "defects",
) -> None:
    """Add the accepted frames to the labelled images; the next run learns from them."""
    from defectline.cli import screen
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.review import export

    target = open_storage(source)
    done = export(open_storage(store), name, target, screen.say)
    for key in done.new:
        typer.echo(target.url(key))
    typer.echo(f"{len(done.new)} exported, {done.there} there already")
    for frame in done.conflicts:
        typer.secho(
            f"{frame}: left out, the source has it under the other label; remove it there first",
            err=True,
            fg=typer.colors.RED,
        )
    if done.conflicts:
        raise typer.Exit(2)


app.command("compile")(cluster_commands.compile_)
for command in (cluster_commands.submit, status, rollback, *commands.ALL):
    app.command()(command)


def main() -> None:
    """Exit status: 0 done, 2 the user can mend it, 3 refused with --fail-on-gate, 1 a fault of ours."""
    # So that a run that is told to end takes its steps and its temporary files with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app()
    except DefectlineError as error:
        typer.secho(str(error), err=True, fg=typer.colors.RED)
        raise SystemExit(2) from None
