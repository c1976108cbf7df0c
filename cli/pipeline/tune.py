"""`defectline tune`"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from defectline.cli.idle import tell_idle
from defectline.cli.options import (
    GCS_SECRET_HELP,
    NODES_IDLE,
    PULL_SECRET_HELP,
    RUN_AS_USER_HELP,
    S3_ENDPOINT_HELP,
    S3_REGION_HELP,
    S3_SECRET_HELP,
    SOURCE_HELP,
    Config,
    NodeSelector,
    Resources,
    Set,
    Store,
    Toleration,
    Workers,
)

if TYPE_CHECKING:
    from defectline.pipeline.parameters import Parameters
    from defectline.pipeline.targets import Target
    from defectline.pipeline.tuning.options import Options, Tuned
    from defectline.pipeline.tuning.study import Trial

OF_PODS = (
    *("image", "namespace", "gpus", "s3_secret", "s3_endpoint", "s3_region", "gcs_secret", "pull_secret"),
    *("resources", "node_selector", "toleration", "run_as_user"),
)
PODS = "Pods of --job and --katib"


def tune(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)] = "",
    source_: Annotated[str, typer.Option("--source", help=SOURCE_HELP)] = "",
    store: Store = "./store",
    trials: Annotated[int, typer.Option(min=1, help="In all, with those that are there already.")] = 20,
    folds: Annotated[int, typer.Option(min=2, help="Each trial trains and is judged so many times.")] = 4,
    objective: Annotated[
        Literal["cost", "iou"],
        typer.Option(help="The cost of escapes and overkills, by escape_cost; or the defect IoU."),
    ] = "cost",
    max_latency: Annotated[
        float, typer.Option(min=0, metavar="MS", help="Longest inspection of an image on this machine.")
    ] = 0.0,
    max_memory: Annotated[
        float, typer.Option(min=0, metavar="MB", help="Most memory of the process that inspects.")
    ] = 0.0,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW..HIGH|A,B",
            help="What to search, instead of all: a range, choices, or a name alone; repeatable.",
        ),
    ] = None,
    all_pictures: Annotated[
        bool,
        typer.Option(
            "--all-pictures", help="Also use the test split, which the gate then has not to itself."
        ),
    ] = False,
    workers: Workers = 1,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the best settings to this file, too.")
    ] = None,
    try_: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            metavar="NAME=VALUE",
            help="Judge these values alone, and print what they come to; repeatable.",
        ),
    ] = None,
    katib: Annotated[
        Path | None, typer.Option(help="Write a Katib Experiment that does it, to this YAML, and do nothing.")
    ] = None,
    job: Annotated[
        Path | None,
        typer.Option(
            help="Write a Job whose pods are the --workers of the study, to this YAML, and do nothing."
        ),
    ] = None,
    image: Annotated[
        str,
        typer.Option(help="Instead of that of images.lock.json for local.", rich_help_panel=PODS),
    ] = "",
    namespace: Annotated[str, typer.Option(help="Where they run.", rich_help_panel=PODS)] = "",
    gpus: Annotated[
        int, typer.Option(min=0, help="Of each; above 0 the image is local-gpu.", rich_help_panel=PODS)
    ] = 0,
    s3_secret: Annotated[str, typer.Option(help=S3_SECRET_HELP, rich_help_panel=PODS)] = "",
    s3_endpoint: Annotated[str, typer.Option(help=S3_ENDPOINT_HELP, rich_help_panel=PODS)] = "",
    s3_region: Annotated[str, typer.Option(help=S3_REGION_HELP, rich_help_panel=PODS)] = "",
    gcs_secret: Annotated[str, typer.Option(help=GCS_SECRET_HELP, rich_help_panel=PODS)] = "",
    pull_secret: Annotated[str, typer.Option(help=PULL_SECRET_HELP, rich_help_panel=PODS)] = "",
    resources: Resources = None,
    node_selector: NodeSelector = None,
    toleration: Toleration = None,
    run_as_user: Annotated[int, typer.Option(min=0, help=RUN_AS_USER_HELP, rich_help_panel=PODS)] = 1000,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Search settings by cross-validation: the best become a file for `run --config`.

    Trial 0 are the settings as they are. What --set and --config name is not searched, unless --search names
    it. The same command goes on where it was cut off.
    """
    from defectline.cli import ui
    from defectline.cli.pipeline.crossval import one_source
    from defectline.components.common.errors import SettingsError
    from defectline.components.common.files import explained, make_room, replaced
    from defectline.components.common.layout import tuning_key
    from defectline.components.common.storage import open_storage
    from defectline.pipeline.local import INTERRUPTED, RunFailed
    from defectline.pipeline.nodes import parse_node_selector, parse_tolerations
    from defectline.pipeline.parameters import parse
    from defectline.pipeline.resources import parse_resources
    from defectline.pipeline.targets import Target
    from defectline.pipeline.tuning.options import Options
    from defectline.pipeline.tuning.page import CONFIG, PAGE, write_result
    from defectline.pipeline.tuning.search import parse_values
    from defectline.pipeline.tuning.tuner import try_values, tune

    pairs = set_ or []
    parameters = parse(one_source(source, source_), store, pairs)
    options = Options(
        trials,
        folds,
        objective,
        max_latency,
        max_memory,
        search or (),
        named(pairs),
        all_pictures,
        workers,
    )
    if katib or job:
        tell_idle(context, ["output", "try_"], "tuning on this machine", "with --job or --katib")
        target = Target(
            "cluster",
            gpus=gpus,
            s3_secret=s3_secret,
            s3_endpoint=s3_endpoint,
            s3_region=s3_region,
            gcs_secret=gcs_secret,
            pull_secret=pull_secret,
            resources=parse_resources(resources or ()),
            node_selector=parse_node_selector(node_selector or ()),
            tolerations=parse_tolerations(toleration or ()),
            run_as_user=run_as_user,
        )
        return _write_objects(katib, job, parameters, options, image, namespace, target)
    tell_idle(context, OF_PODS, "--job or --katib", "without one")
    if try_:
        tell_idle(context, ["trials", "search", "workers", "output"], "a search", "with --try")
    elif output:
        make_room(output, "--output")
    try:
        if try_:
            return _print_trial(try_values(parameters, options, parse_values(try_), ui.say))
        tuned = tune(parameters, options, ui.say)
    except RunFailed as error:
        ui.end_failed(error)
    except (KeyboardInterrupt, SystemExit):
        ui.say(INTERRUPTED)
        raise
    text = write_result(open_storage(parameters.store), tuned, parameters, all_pictures)
    show_tuned(tuned, parameters)
    opened = open_storage(parameters.store)
    if tuned.best is None:
        raise SettingsError(
            "No trial keeps the limits.",
            got=f"{len(tuned.trials)} trials: {opened.url(tuning_key(tuned.study.id, PAGE))}",
            expected="at least one within --max-latency and --max-memory",
            fix="Allow more, or search settings that make a smaller network: decoder=light, image_size.",
        )
    if output:
        with (
            explained(
                f"{output} cannot be written.", expected="a file's name", fix="Choose another --output."
            ),
            replaced(output.absolute()) as partial,
        ):
            partial.write_text(text, encoding="utf-8")
    ui.facts(
        [
            ("best", f"trial {tuned.best.number}"),
            ("settings", output or opened.url(tuning_key(tuned.study.id, CONFIG))),
            ("page", opened.url(tuning_key(tuned.study.id, PAGE))),
        ]
    )
    if tuned.best.iou is not None and round(tuned.best.iou, 2) == 0:
        ui.warn("no trial found a defect: take more epochs, pretraining=always, or weights to start from")
    ui.note(
        "the best of many was lucky, too: judge it again with crossval and another seed, and by a run's gate"
    )


def _print_trial(trial: "Trial") -> None:
    """A line a figure, as Katib's collector reads it; exit with 1 where the trial does not keep a limit."""
    found = {"cost": trial.cost, "iou": trial.iou}
    if trial.footprint:
        found |= {"latency_ms": trial.footprint.latency_ms, "memory_mb": trial.footprint.memory_mb}
    if trial.state != "complete":
        typer.echo(f"{trial.state}: {trial.reason}")
        raise typer.Exit(1)
    for name, value in found.items():
        if value is not None:
            typer.echo(f"{name}={value:.6f}")


def _write_objects(
    katib: Path | None,
    job: Path | None,
    parameters: "Parameters",
    options: "Options",
    image: str,
    namespace: str,
    target: "Target",
) -> None:
    from defectline.components.common.files import make_room
    from defectline.components.deploy.kserve.settings import NAMESPACE_FORM, is_namespace
    from defectline.pipeline.images import LOCAL_GPU_TARGET, LOCAL_TARGET, load_images
    from defectline.pipeline.parameters import check_reachable
    from defectline.pipeline.targets import check_option
    from defectline.pipeline.tuning.jobs import workers, write_object
    from defectline.pipeline.tuning.katib import experiment
    from defectline.pipeline.tuning.options import Pods
    from defectline.pipeline.tuning.search import make_space

    check_reachable(parameters)
    check_option("namespace", namespace, is_namespace, NAMESPACE_FORM)
    built = LOCAL_GPU_TARGET if target.gpus else LOCAL_TARGET
    pods = Pods(image or load_images([built])[built], namespace, target)
    if not target.gpus and (target.node_selector or target.tolerations):
        typer.echo(NODES_IDLE)
    # Katib refuses more at the same time than in all; of a Job's, the others would have nothing to do.
    options = options._replace(workers=min(options.workers, options.trials))
    space = make_space(options.search, options.given)
    trials = "1 trial" if options.trials == 1 else f"{options.trials} trials"
    settings = "1 setting" if len(space) == 1 else f"{len(space)} settings"
    said = f"{trials} of {settings} in {pods.image}"
    for file, option in ((katib, "--katib"), (job, "--job")):
        if file:
            make_room(file, option)
    if katib:
        write_object(katib, experiment(parameters, options, space, pods), "--katib")
        typer.echo(f"{katib}: {said}; `kubectl create -f {katib}` starts it")
    if job:
        write_object(job, workers(parameters, options, space, pods), "--job")
        number = "1 worker" if options.workers == 1 else f"{options.workers} workers"
        typer.echo(f"{job}: {said}, {number}; `kubectl create -f {job}` starts it")


def named(pairs: list[str]) -> set[str]:
    """The settings that `key=value` texts set, with those in the text of training."""
    found = {pair.partition("=")[0].strip() for pair in pairs}
    for pair in pairs:
        if pair.strip().startswith("training="):
            text = pair.partition("=")[2].replace(",", " ")
            found |= {one.partition("=")[0] for one in text.split()}
    return found


def show_tuned(tuned: "Tuned", parameters: "Parameters") -> None:
    """A line a trial, the best first."""
    from defectline.cli import ui
    from defectline.pipeline.tuning.page import COLUMNS, NUMBERS, rows

    ui.console.print()
    ui.table(COLUMNS, rows(tuned, parameters), numbers=NUMBERS, below=("settings",))
    ui.console.print()
