"""The commands that speak to a cluster: compile for it, start runs on it, keep schedules on it.

Heavy packages are imported by the commands that need them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from defectline.cli.options import (
    Experiment,
    FailOnGate,
    Force,
    Host,
    Json,
    Name,
    Namespace,
    Package,
    Set,
    Source,
    Store,
    token,
)

if TYPE_CHECKING:
    from defectline.pipeline.kfp_server.schedules import Schedule

schedule = typer.Typer(no_args_is_help=True, help="Recurring runs on a Kubeflow Pipelines server.")
Zone = Annotated[
    str, typer.Option("--time-zone", help="That of KFP's controller (CRON_SCHEDULE_TIMEZONE there).")
]


def compile_(
    output: Annotated[Path, typer.Option("-o", "--output", help="The YAML to write.")] = Path(
        "pipeline.yaml"
    ),
    images: Annotated[
        Path | None, typer.Option(help="Lock file with digests; default images.lock.json, if there.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Where KServe serves the model.")] = "defectline",
    service_account: Annotated[str, typer.Option(help="Of the served pods.")] = "",
    mode: Annotated[str, typer.Option(help="KServe's mode: Standard or Knative.")] = "Standard",
    gpus: Annotated[int, typer.Option(min=0, help="For training.")] = 1,
    s3_secret: Annotated[
        str, typer.Option(help="Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    ] = "",
    s3_endpoint: Annotated[str, typer.Option(help="URL of an S3 server other than AWS.")] = "",
    s3_region: Annotated[str, typer.Option()] = "",
    gcs_secret: Annotated[str, typer.Option(help="Secret with key.json of a service account.")] = "",
    pull_secret: Annotated[str, typer.Option(help="Secret for a private image registry.")] = "",
    retries: Annotated[int, typer.Option(min=0, help="For a step that fails.")] = 2,
    shards: Annotated[int, typer.Option(min=1, help="Pods that prepare the dataset at the same time.")] = 1,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over an InferenceService that somebody else made.")
    ] = False,
    kserve_: Annotated[
        list[str] | None, typer.Option("--kserve", metavar="KEY=VALUE", help="More of how KServe serves.")
    ] = None,
    run_as_user: Annotated[
        int, typer.Option(min=0, help="User id of the steps; 0: the cluster's choice, as on OpenShift.")
    ] = 1000,
    gitops: Annotated[
        Path | None, typer.Option(help="Also write the pipeline as Kubernetes objects, to this YAML.")
    ] = None,
    pipeline_namespace: Annotated[str, typer.Option(help="Of those objects: where KFP looks.")] = "kubeflow",
) -> None:
    """Compile the pipeline for a cluster."""
    from defectline.pipeline.compiling import compile_manifests, compile_pipeline, parse_kserve
    from defectline.pipeline.targets import Target

    kserve: dict[str, Any] = {
        "namespace": namespace,
        "service_account": service_account,
        "deployment_mode": mode,
        **({"adopt": True} if adopt else {}),
        **parse_kserve(kserve_ or []),
    }
    target = Target(
        name="cluster",
        kserve=kserve,
        gpus=gpus,
        s3_secret=s3_secret,
        s3_endpoint=s3_endpoint,
        s3_region=s3_region,
        gcs_secret=gcs_secret,
        pull_secret=pull_secret,
        retries=retries,
        shards=shards,
        run_as_user=run_as_user,
    )
    named = compile_pipeline(output, images, target)
    typer.echo(f"{output}: compiled for {namespace}, {gpus or 'no'} GPU for training, with the images")
    for image in vars(named).values():
        typer.echo(f"  {image}")
    if gitops:
        version = compile_manifests(gitops, output, images, target, pipeline_namespace)
        typer.echo(f"{gitops}: the pipeline and its version {version}, for namespace {pipeline_namespace}")


def submit(
    host: Host,
    source: Source,
    store: Store,
    name: Name = "defects",
    set_: Set = None,
    force: Force = False,
    package: Package = Path("pipeline.yaml"),
    experiment: Experiment = "defectline",
    namespace: Namespace = "",
    wait: Annotated[bool, typer.Option("--wait", help="Until the run has ended.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 86_400.0,
    fail_on_gate: FailOnGate = False,
) -> None:
    """Start a run on a Kubeflow Pipelines server. KFP_TOKEN holds the bearer token, if one is needed.

    With --wait the exit status is 0 for a run that succeeded and 1 for one that failed or was cancelled;
    with --fail-on-gate it waits too, and reads from the store what the gate said.
    """
    from defectline.cli import screen
    from defectline.pipeline.kfp_server import runs as cluster
    from defectline.pipeline.parameters import check_reachable, parse

    parameters = parse(source, store, set_ or [], model_name=name, force=force)
    check_reachable(parameters)
    wait = wait or fail_on_gate
    with screen.live_steps() as watch:
        done = cluster.submit(
            package,
            host=host,
            name=f"{name}-run",
            parameters=parameters.model_dump(),
            experiment=experiment,
            namespace=namespace,
            token=token(),
            wait=wait,
            timeout_s=timeout,
            say=screen.say,
            watch=watch,
        )
    if not wait:
        return
    screen.say(f"run {done.run_id} ended as {done.state}: {done.url}")
    if done.state != "SUCCEEDED":
        raise typer.Exit(1)
    if fail_on_gate:
        _end_by_gate(store, done.run_id)


def _end_by_gate(store: str, run: str) -> None:
    from defectline.cli import screen
    from defectline.components.common.errors import StoreError
    from defectline.components.common.layout import OUTCOME, run_key
    from defectline.components.common.records import read_outcome
    from defectline.components.common.storage import open_storage

    opened = open_storage(store)
    outcome = read_outcome(opened, run)
    if outcome is None:
        raise StoreError(
            f"The run {run} left no outcome in the store.",
            got=f"nothing at {opened.url(run_key(run, OUTCOME))}",
            expected="what the gate said",
            fix="Name the store that the run wrote to, or leave out --fail-on-gate.",
        )
    screen.say(f"{outcome.state}: {outcome.reason}")
    if outcome.state == "refused":
        raise typer.Exit(3)


@schedule.command("apply")
def schedule_apply(
    host: Host,
    source: Source,
    store: Store,
    cron: Annotated[str, typer.Option(help="Five fields, in the time zone of KFP's controller.")],
    name: Name = "defects",
    set_: Set = None,
    package: Package = Path("pipeline.yaml"),
    latest: Annotated[
        bool, typer.Option("--latest", help="Run the newest version of the pipeline at each time.")
    ] = False,
    time_zone: Zone = "UTC",
    experiment: Experiment = "defectline",
    namespace: Namespace = "",
    json_: Json = False,
) -> None:
    """Make or change the recurring run of a model: no catch-up, one at a time."""
    from defectline.cli import tables
    from defectline.pipeline.kfp_server import schedules
    from defectline.pipeline.parameters import check_reachable, parse

    zone = schedules.read_zone(time_zone)
    parameters = parse(source, store, set_ or [], model_name=name)
    check_reachable(parameters)
    made = schedules.apply_schedule(
        package,
        host=host,
        name=name,
        cron=cron,
        parameters=parameters.model_dump(),
        latest=latest,
        zone=zone,
        experiment=experiment,
        namespace=namespace,
        token=token(),
        say=tables.complain,
    )
    _show([made], time_zone, json_)


@schedule.command("list")
def schedule_list(
    host: Host, time_zone: Zone = "UTC", namespace: Namespace = "", json_: Json = False
) -> None:
    """List the recurring runs, each with its next three times."""
    from defectline.pipeline.kfp_server import schedules

    zone = schedules.read_zone(time_zone)
    found = schedules.list_schedules(host=host, namespace=namespace, token=token(), zone=zone)
    _show(found, time_zone, json_)


@schedule.command("pause")
def schedule_pause(host: Host, name: Name = "defects", namespace: Namespace = "") -> None:
    """Start no more runs until it is resumed; one that is under way goes on."""
    from defectline.pipeline.kfp_server import schedules

    schedules.switch_schedule(host=host, name=name, enabled=False, namespace=namespace, token=token())
    typer.echo(f"schedule {name} paused; `defectline schedule resume` goes on with it")


@schedule.command("resume")
def schedule_resume(
    host: Host,
    name: Name = "defects",
    time_zone: Zone = "UTC",
    namespace: Namespace = "",
    json_: Json = False,
) -> None:
    """Go on with a paused one; times that passed meanwhile are left out."""
    from defectline.pipeline.kfp_server import schedules

    zone = schedules.read_zone(time_zone)
    found = schedules.switch_schedule(
        host=host, name=name, enabled=True, namespace=namespace, token=token(), zone=zone
    )
    _show(found, time_zone, json_)


@schedule.command("request")
def schedule_request(host: Host, name: Name = "defects", namespace: Namespace = "") -> None:
    """Print the JSON that starts a run of this schedule at once when it is posted to the server's runs."""
    from defectline.cli import tables
    from defectline.pipeline.kfp_server import schedules

    tables.print_json(schedules.run_request(host=host, name=name, namespace=namespace, token=token()))


@schedule.command("delete")
def schedule_delete(host: Host, name: Name = "defects", namespace: Namespace = "") -> None:
    """Delete a model's recurring run."""
    from defectline.pipeline.kfp_server import schedules

    schedules.delete_schedule(host=host, name=name, namespace=namespace, token=token())
    typer.echo(f"schedule {name} deleted")


def _show(found: list["Schedule"], time_zone: str, as_json: bool) -> None:
    from dataclasses import asdict

    from defectline.cli import screen, tables

    if as_json:
        facts = [asdict(one) | {"next_times": [time.isoformat() for time in one.next_times]} for one in found]
        tables.print_json(facts)
    else:
        screen.show_schedules(found, time_zone)
