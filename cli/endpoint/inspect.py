"""`defectline inspect`"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defectline.cli.options import Name
from defectline.components.common.errors import SettingsError

if TYPE_CHECKING:
    from defectline.client import Region
    from defectline.client.batch import Inspected

REGIONS = "regions: x, y, width, height, area px"
SHOWN_REGIONS = 5
"""Of an image, in the table; --json has all."""


def inspect(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE…", help="Picture files, folders of them, or patterns.")
    ],
    url: Annotated[str, typer.Option(help="Where the endpoint answers.")] = "http://localhost:8080",
    name: Name = "defects",
    overlays: Annotated[
        Path | None,
        typer.Option(help="Also draw the findings, into this folder."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write a row a picture to this file; - prints them.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON object a picture.")] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(help="Send the first token of this file.", envvar="DEFECTLINE_TOKEN_FILE"),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Pictures at once.")] = 4,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one try.")] = 30.0,
) -> None:
    """Ask the endpoint about images; print what it found, and how many are OK and NG.

    Nothing is drawn unless --overlays names a folder.

    Exit status 0: all were answered, whatever the verdicts. 2: an image or the endpoint failed; the others
    are answered all the same, and the bad ones named at the end.
    """
    from defectline.cli import ui
    from defectline.client import Client
    from defectline.client.batch import (
        as_lines,
        check_csv,
        find_images,
        inspect_all,
        write_csv,
        write_rows,
    )

    print_rows = csv == Path("-")
    if print_rows and json_:
        raise SettingsError(
            "Rows and JSON would be printed into one another.",
            got="--csv - with --json",
            expected="one of them, or a file for --csv",
            fix="Name a file with --csv, or leave --json out.",
        )
    pictures = find_images(images)
    if csv and not print_rows:
        check_csv(csv, pictures)
    with (
        Client(url, name, timeout_s=timeout, deadline_s=2 * timeout, token_file=token_file) as client,
        ui.progress("inspecting", len(pictures)) as advance,
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
        show_predictions(inspected.done, overlays, csv)
    said = summary(inspected.done, len(pictures))
    # Where programs read stdout, people read stderr.
    ui.warn(said) if print_rows or json_ else typer.echo(said)
    bad = [one for one in inspected.done if one.error]
    for one in bad:
        ui.warn(f"{one.image}: {one.error}", bad=True)
    if inspected.stopped:
        left = len(pictures) - len(inspected.done)
        if inspected.done:
            ui.warn(f"stopped with {left} of {len(pictures)} images left")
        raise inspected.stopped
    if bad:
        ui.warn(f"{len(bad)} of {len(pictures)} images failed", bad=True)
        raise typer.Exit(2)


def summary(done: Sequence["Inspected"], asked: int) -> str:
    """`50 images: 48 NG, 2 OK`, or `30 of 50 images: …` where the others were not reached."""
    counts = Counter(one.prediction.verdict if one.prediction else "failed" for one in done)
    kinds = [f"{counts[kind]:,} {kind}" for kind in ("NG", "LOOK", "OK", "failed") if counts[kind]]
    reached = f"{len(done):,} of {asked:,}" if len(done) < asked else f"{asked:,}"
    return f"{reached} image{'' if asked == 1 else 's'}: {', '.join(kinds) or 'none answered'}"


def show_predictions(done: Sequence["Inspected"], overlays: Path | None, csv: Path | None = None) -> None:
    """One line a picture with its regions, and where the drawn findings lie."""
    from defectline.cli import ui

    answered = [(one.image, one.prediction) for one in done if one.prediction]
    if answered:
        graded = any(found.grade for _, found in answered)
        rows = [
            (
                f"{picture.absolute().parent.name}/{picture.name}",
                found.verdict,
                float(found.score),
                *[found.grade or ""] * graded,
                found.defect_area_px,
                _largest(found.regions),
            )
            for picture, found in answered
        ]
        columns = ("image", "verdict", "score", *["grade"] * graded, "area px", REGIONS)
        ui.table(columns, rows, numbers=("score", "area px"))
    found_in = [("drawn in", f"{overlays}/" if answered and overlays else ""), ("table in", csv or "")]
    if any(where for _, where in found_in):
        ui.facts(found_in)


def _largest(regions: "Sequence[Region]") -> str:
    """A line each for the largest regions, and how many more there are."""
    ordered = sorted(regions, key=lambda region: -region.area_px)
    lines = [
        ", ".join(map(str, [*r.bbox, r.area_px, *([r.class_] if r.class_ else [])]))
        for r in ordered[:SHOWN_REGIONS]
    ]
    if len(ordered) > SHOWN_REGIONS:
        lines.append(f"and {len(ordered) - SHOWN_REGIONS:,} smaller; --json has all")
    return "\n".join(lines)
