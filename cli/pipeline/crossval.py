"""`defectline crossval`"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from defectline.cli.idle import is_typed, tell_idle
from defectline.cli.options import (
    SOURCE_HELP,
    Config,
    Experiment,
    Namespace,
    Set,
    Workers,
    token,
)
from defectline.components.common.errors import SettingsError

if TYPE_CHECKING:
    from defectline.components.common.storage import Storage
    from defectline.components.evaluate.collecting import Judged
    from defectline.pipeline.parameters import Parameters

NOT_TAKEN = "DEFECTLINE_STORE and the store in --config are those of runs, and stay free for them"


def crossval(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)] = "",
    source_: Annotated[str, typer.Option("--source", help=SOURCE_HELP)] = "",
    store: Annotated[
        str,
        typer.Option(
            help="Keeps the single folds, so that it goes on where it was. DEFECTLINE_STORE and the store in "
            "--config are not taken: they are those of runs, and stay free for them."
        ),
    ] = "./crossval",
    folds: Annotated[int, typer.Option(min=2, help="Each picture is judged in one of them.")] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="How many; the first is the parameter seed.")] = 1,
    workers: Workers = 1,
    config: Config = None,
    set_: Set = None,
    host: Annotated[
        str, typer.Option(help="Judge them on this Kubeflow Pipelines server instead, and wait for it.")
    ] = "",
    package: Annotated[
        Path, typer.Option(help="With --host: what `compile --what crossval` has written.")
    ] = Path("crossval.yaml"),
    experiment: Experiment = "defectline",
    namespace: Namespace = "",
    timeout: Annotated[float, typer.Option(help="With --host: seconds to wait.")] = 86_400.0,
) -> None:
    """Judge settings by cross-validation: every picture by a network that has not seen it."""
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.config import read_config
    from defectline.pipeline.crossval.validate import cross_validate
    from defectline.pipeline.local import INTERRUPTED, RunFailed
    from defectline.pipeline.parameters import parse

    parameters = parse(one_source(source, source_), store, set_ or [])
    numbers = range(parameters.seed, parameters.seed + seeds)
    if host:
        tell_idle(context, ["workers"], "folds on this machine", "with --host")
        on_cluster = OnCluster(host, package, experiment, namespace, timeout)
        judged = _on_cluster(on_cluster, parameters, folds, numbers)
        return show_cross_validation(judged, open_storage(parameters.store))
    tell_idle(context, ["package", "experiment", "namespace", "timeout"], "--host", "without that")
    in_file = config is not None and "store" in read_config(config).model_fields_set
    if (in_file or os.environ.get("DEFECTLINE_STORE")) and not is_typed(context, "store"):
        ui.say(f"the folds are kept in {store}: {NOT_TAKEN}")
    try:
        judged = cross_validate(parameters, folds, numbers, ui.say, workers)
    except RunFailed as error:
        ui.end_failed(error)
    except (KeyboardInterrupt, SystemExit):
        ui.say(INTERRUPTED)
        raise
    show_cross_validation(judged, open_storage(parameters.store))


class OnCluster(NamedTuple):
    """Where and how a server is asked."""

    host: str
    package: Path
    experiment: str
    namespace: str
    timeout_s: float


def _on_cluster(on: OnCluster, parameters: "Parameters", folds: int, seeds: Sequence[int]) -> "list[Judged]":
    """Run the compiled cross-validation to its end, and read from the store what it came to."""
    from datetime import UTC, datetime

    from defectline.cli import ui
    from defectline.cli.cluster.submit import live_steps, show_end
    from defectline.components.common.storage import open_storage
    from defectline.components.evaluate.collecting import read_judged
    from defectline.pipeline import CROSSVAL_PIPELINE
    from defectline.pipeline.crossval.validate import folds_of_head
    from defectline.pipeline.kfp_server import runs
    from defectline.pipeline.kfp_server.following import look_at_pods
    from defectline.pipeline.kfp_server.reasons import STEPS_RUN_IN
    from defectline.pipeline.parameters import check_reachable

    check_reachable(parameters, f"{NOT_TAKEN}.")
    with live_steps() as watch:
        done = runs.submit(
            on.package,
            host=on.host,
            name=f"crossval {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
            parameters={**parameters.model_dump(), "folds": folds, "seeds": len(seeds)},
            experiment=on.experiment,
            namespace=on.namespace,
            token=token(),
            wait=True,
            timeout_s=on.timeout_s,
            say=ui.say,
            watch=watch,
            look=look_at_pods(on.namespace or STEPS_RUN_IN),
            pipeline=CROSSVAL_PIPELINE,
        )
    show_end(done)
    store = open_storage(parameters.store)
    return read_judged(store, folds_of_head(store, parameters, folds, seeds, ui.say))


def one_source(argument: str, option: str) -> str:
    """The source, which may be typed as an argument or as an option. Raises SettingsError for two."""
    if argument and option and argument != option:
        raise SettingsError(
            "There are two sources.",
            got=f"{argument} and {option}",
            expected="one",
            fix="Leave one of them out.",
        )
    return argument or option


def show_cross_validation(judged: Sequence["Judged"], store: "Storage") -> None:
    """One line a seed, their mean and spread, the pictures that were judged wrong, and where all of it is."""
    from defectline.cli import ui
    from defectline.components.common import layout
    from defectline.components.evaluate.collecting import COLUMNS, name_missed, rows

    found = [(title, *(of[name] for name in COLUMNS)) for title, of in rows(judged)]
    titles = [name.replace("_", " ") for name in COLUMNS]
    ui.table(("seed", *titles), found, numbers=titles)
    for one in judged:
        pictures = f"{len(one.counts)} pictures: {name_missed(one)}"
        ui.facts([(f"seed {one.seed}, wrong or missed of", pictures)])
    ui.note("spread is the standard deviation over seeds; in brackets the score")
    ui.facts([("store", store.uri), ("all figures", store.url(layout.FRONT_PAGE))])
