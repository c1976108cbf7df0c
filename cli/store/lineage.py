"""`defectline lineage`"""

from typing import TYPE_CHECKING, Annotated

import typer

from defectline.cli import completion
from defectline.cli.options import Json, Store

if TYPE_CHECKING:
    from defectline.pipeline.catalog.lineage import ImageLineage, ModelLineage


def lineage(
    what: Annotated[
        str,
        typer.Argument(
            metavar="VERSION|IMAGE",
            help="A model's version; or a picture: the pair's id, its key in the source, a file, or its "
            "SHA-256. Prefixes of versions and checksums are accepted. Default: the latest champion, or the "
            "latest version where there is none.",
            autocompletion=completion.versions,
        ),
    ] = "",
    store: Store = "./store",
    images: Annotated[bool, typer.Option("--images", help="Of a version: list its pictures.")] = False,
    json_: Json = False,
) -> None:
    """Show what a model was made of, or what a picture went into."""
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.catalog.lineage import (
        as_json,
        is_version,
        trace_image,
        trace_model,
    )

    opened = open_storage(store)
    if not what or is_version(what):
        origin = trace_model(opened, what, ui.warn)
        if json_:
            ui.print_json(as_json(origin, images))
        else:
            show_origin(origin, images)
    else:
        traces = trace_image(opened, what, ui.warn)
        if json_:
            ui.print_json(
                {name: [one._asdict() for one in found] for name, found in traces._asdict().items()}
            )
        else:
            show_traces(traces)


def show_origin(origin: "ModelLineage", images: bool) -> None:
    """A model's run, snapshot, pictures and gate."""
    from defectline.cli import ui
    from defectline.pipeline.catalog.lineage import count

    model, run, snapshot = origin.model, origin.run, origin.snapshot
    ui.facts(
        [
            ("model", f"{model.name} {model.version}"),
            ("state", model.state + (f", serves on {', '.join(model.served_by)}" if model.served_by else "")),
            ("run", f"{run.id}, {ui.day(run.began)} to {ui.day(run.ended)} UTC" if run else "gone"),
            ("outcome", run.outcome.reason if run and run.outcome else ""),
            ("compared with", run.metrics.get("champion") if run else ""),
            ("snapshot", snapshot.id if snapshot else f"{model.snapshot or 'not known'} (gone)"),
            ("taken", f"{ui.day(snapshot.created)} UTC" if snapshot else ""),
            ("source", ", ".join(snapshot.sources) if snapshot else ""),
        ]
    )
    if snapshot:
        ui.console.print()
        rows = [(split, *labels.values()) for split, labels in count(origin.pictures).items()]
        ui.table(("pictures", "OK", "NG"), rows, numbers=("OK", "NG"))
    if run and run.gate:
        ui.console.print()
        ui.gate_table(run.gate)
    if images:
        ui.console.print()
        ui.table(
            ("pair", "split", "SHA-256", "verdict", "score"),
            [
                (
                    one.id,
                    one.split,
                    one.image_sha256[:12],
                    one.verdict,
                    "" if one.score is None else one.score,
                )
                for one in origin.pictures
            ],
            numbers=("score",),
            whole=("split", "SHA-256"),
        )


def show_traces(traces: "ImageLineage") -> None:
    """The snapshots, models and frame of a picture."""
    from defectline.cli import ui
    from defectline.pipeline.catalog.review import WHY

    if traces.snapshots:
        ui.table(
            ("", "snapshot", "date", "pair", "split", "SHA-256"),
            [
                (
                    "→" if one.newest else "",
                    one.snapshot,
                    ui.day(one.created),
                    one.id,
                    one.split
                    if one.status == "accepted"
                    else f"{one.status}: {one.reason}"
                    if one.reason
                    else one.status,
                    one.image_sha256[:12],
                )
                for one in traces.snapshots
            ],
            whole=("snapshot", "date", "SHA-256"),
        )
    else:
        ui.console.print("in no snapshot")
    ui.console.print()
    if traces.models:
        ui.table(
            ("model", "version", "state", "was", "verdict", "score"),
            [
                (
                    one.name or ui.NOTHING,
                    one.version,
                    one.state,
                    one.use,
                    one.verdict,
                    "" if one.score is None else one.score,
                )
                for one in traces.models
            ],
            numbers=("score",),
            whole=("version", "state"),
        )
    else:
        ui.console.print("no model was trained or judged on it")
    for frame in traces.frames:
        ui.console.print()
        ui.facts(
            [
                ("frame", f"{frame.id} of {ui.day(frame.taken)} UTC"),
                ("answer", f"{frame.verdict} by {frame.model} {frame.version}"),
                ("kept", WHY.get(frame.reason, "in doubt")),
                ("decided", frame.decided or "not yet"),
                ("exported", ", ".join(frame.exported)),
            ]
        )
