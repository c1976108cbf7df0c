"""`defectline crossval`"""

from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, Annotated, Any

import typer

from defectline.cli.options import SOURCE_HELP, Config, Set
from defectline.components.common.errors import SettingsError

if TYPE_CHECKING:
    from defectline.pipeline.crossval import Judged

METRICS = ("iou", "dice", "image_iou", "region_recall", "image_auroc", "escape", "overkill")


def crossval(
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)] = "",
    source_: Annotated[str, typer.Option("--source", help=SOURCE_HELP)] = "",
    store: Annotated[str, typer.Option(help="Keeps the single folds, so that it goes on where it was.")] = (
        "./crossval"
    ),
    folds: Annotated[int, typer.Option(min=2, help="Each picture is judged in one of them.")] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="How many; the first is the parameter seed.")] = 1,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Judge settings by cross-validation: every picture by a network that has not seen it."""
    from defectline.cli import ui
    from defectline.pipeline.crossval import cross_validate
    from defectline.pipeline.local import RunFailed
    from defectline.pipeline.parameters import parse

    if source and source_ and source != source_:
        raise SettingsError(
            "There are two sources.",
            got=f"{source} and {source_}",
            expected="one",
            fix="Leave one of them out.",
        )
    parameters = parse(source or source_, store, set_ or [])
    numbers = range(parameters.seed, parameters.seed + seeds)
    try:
        judged = cross_validate(parameters, folds, numbers, ui.say)
    except RunFailed as error:
        ui.end_failed(error)
    show_cross_validation(judged)


def show_cross_validation(judged: Sequence["Judged"]) -> None:
    """One line a seed, their mean and spread, and the pictures that were judged wrong."""
    from defectline.cli import ui

    metrics = [one.metrics for one in judged]
    rows = [
        (str(one.seed), *(found[name] for name in METRICS))
        for one, found in zip(judged, metrics, strict=True)
    ]
    if len(judged) > 1:
        rows += [
            (title, *(_over(of, metrics, name) for name in METRICS))
            for title, of in (("mean", mean), ("spread", stdev))
        ]
    titles = [name.replace("_", " ") for name in METRICS]
    ui.table(("seed", *titles), rows, numbers=titles)
    for one in judged:
        wrong = [f"{c.id} ({c.score:.2f})" for c in one.counts if c.missed]
        pictures = f"{len(one.counts)} pictures: {', '.join(wrong) or 'none'}"
        ui.facts([(f"seed {one.seed}, wrong or missed of", pictures)])
    ui.note("spread is the standard deviation over seeds; in brackets the score")


def _over(
    of: Callable[[list[float]], float], metrics: Sequence[Mapping[str, Any]], name: str
) -> float | None:
    values = [found[name] for found in metrics]
    return None if None in values else float(of(values))
