"""`defectline compile`"""

from pathlib import Path
from typing import Annotated, Any, Literal

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
    Config,
    KServe,
    NodeSelector,
    Resources,
    Toleration,
)

OF_RUNS = (
    *("namespace", "service_account", "mode", "sign_secret", "push_secret", "shards", "at_once", "adopt"),
    *("kserve_", "pipeline_namespace"),
)
"""Options that the pipeline of a cross-validation, of which no model serves, has no use for."""


def compile_(
    context: typer.Context,
    output: Annotated[Path, typer.Option("-o", "--output", help="The YAML to write.")] = Path(
        "pipeline.yaml"
    ),
    what: Annotated[
        Literal["run", "crossval"],
        typer.Option(help="The pipeline of runs, or that of `crossval --host`."),
    ] = "run",
    parallel: Annotated[
        int,
        typer.Option(min=1, help="With --what crossval: folds at the same time, each in pods of its own."),
    ] = 4,
    images: Annotated[
        Path | None, typer.Option(help="Lock file with digests; default images.lock.json, if there.")
    ] = None,
    config: Config = None,
    namespace: Annotated[str, typer.Option(help="Where KServe serves the model.")] = "defectline",
    service_account: Annotated[str, typer.Option(help="Of the served pods.")] = "",
    mode: Annotated[
        Literal["Standard", "Knative"], typer.Option(case_sensitive=False, help="KServe's mode.")
    ] = "Standard",
    gpus: Annotated[int, typer.Option(min=0, help="For training.")] = 1,
    s3_secret: Annotated[str, typer.Option(help=S3_SECRET_HELP)] = "",
    s3_endpoint: Annotated[str, typer.Option(help=S3_ENDPOINT_HELP)] = "",
    s3_region: Annotated[str, typer.Option(help=S3_REGION_HELP)] = "",
    gcs_secret: Annotated[str, typer.Option(help=GCS_SECRET_HELP)] = "",
    pull_secret: Annotated[str, typer.Option(help=PULL_SECRET_HELP)] = "",
    sign_secret: Annotated[
        str, typer.Option(help="Secret with sign.key, and password if it has one: bundles are signed.")
    ] = "",
    push_secret: Annotated[
        str, typer.Option(help="Secret with a registry's login, for --kserve registry=….")
    ] = "",
    resources: Resources = None,
    node_selector: NodeSelector = None,
    toleration: Toleration = None,
    retries: Annotated[int, typer.Option(min=0, help="For a step whose pod is lost.")] = 2,
    shards: Annotated[
        int,
        typer.Option(min=1, help="Pods that read the source, prepare the dataset and judge the test images."),
    ] = 1,
    at_once: Annotated[int, typer.Option(min=0, help="Of these pods at the same time, at most; 0: all.")] = 0,
    nodes: Annotated[
        int, typer.Option(min=1, help="Pods that train one network together, with Kubeflow Trainer.")
    ] = 1,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over an InferenceService that another tool made.")
    ] = False,
    kserve_: KServe = None,
    run_as_user: Annotated[int, typer.Option(min=0, help=RUN_AS_USER_HELP)] = 1000,
    gitops: Annotated[
        Path | None, typer.Option(help="Also write the pipeline as Kubernetes objects, to this YAML.")
    ] = None,
    pipeline_namespace: Annotated[str, typer.Option(help="Of those objects: where KFP looks.")] = "kubeflow",
) -> None:
    """Compile the pipeline for a cluster."""
    from defectline.components.common.errors import SettingsError
    from defectline.components.common.settings import checked, select
    from defectline.components.deploy.kserve.settings import NAMESPACE_FORM, KServeSettings, is_namespace
    from defectline.components.train.settings import TrainParameters, even
    from defectline.pipeline.compiling import (
        compile_crossval,
        compile_manifests,
        compile_pipeline,
        parse_kserve,
    )
    from defectline.pipeline.config import read_config
    from defectline.pipeline.images import LOCK
    from defectline.pipeline.needs import check_name
    from defectline.pipeline.nodes import parse_node_selector, parse_tolerations
    from defectline.pipeline.resources import parse_resources
    from defectline.pipeline.targets import Target, check_option

    kserve: dict[str, Any] = {
        "namespace": namespace,
        "service_account": service_account,
        "deployment_mode": mode,
        **({"adopt": True} if adopt else {}),
        **parse_kserve(kserve_ or []),
    }
    file = read_config(config) if config else None
    if file and "name" in file.model_fields_set:
        check_name(file.name, kserve)
    target = Target(
        name="cluster",
        kserve=kserve,
        gpus=gpus,
        s3_secret=s3_secret,
        s3_endpoint=s3_endpoint,
        s3_region=s3_region,
        gcs_secret=gcs_secret,
        sign_secret=sign_secret,
        push_secret=push_secret,
        pull_secret=pull_secret,
        resources=parse_resources(resources or ()),
        node_selector=parse_node_selector(node_selector or ()),
        tolerations=parse_tolerations(toleration or ()),
        retries=retries,
        shards=shards,
        at_once=at_once,
        nodes=nodes,
        run_as_user=run_as_user,
    )
    check_option("pipeline_namespace", pipeline_namespace, is_namespace, NAMESPACE_FORM)
    if what == "crossval" and gitops:
        raise SettingsError(
            "A cross-validation is not written as Kubernetes objects.",
            got=f"--what crossval --gitops {gitops}",
            expected="one of them",
            fix="Leave out --gitops: `defectline crossval --host` starts the compiled pipeline itself.",
        )
    if what == "crossval" and nodes > 1:
        raise SettingsError(
            "The folds of a cross-validation train on one node each.",
            got=f"--what crossval --nodes {nodes}",
            expected="--nodes 1",
            fix="Leave out --nodes; --parallel says how many folds run at the same time.",
        )
    if what == "crossval":
        named = compile_crossval(output, images, target, parallel)
    else:
        named = compile_pipeline(output, images, target)
    each = f" on each of {nodes} nodes" if nodes > 1 else ""
    typer.echo(f"{output}: compiled for {namespace}, {gpus or 'no'} GPU for training{each}, with the images")
    for image in vars(named).values():
        typer.echo(f"  {image}")
    if what == "crossval":
        tell_idle(context, OF_RUNS, "the pipeline of runs", "with --what crossval")
    else:
        tell_idle(context, ["parallel"], "--what crossval", "without that")
        if shards == 1:
            tell_idle(context, ["at_once"], "the pods of --shards", "without that")
        if not gitops:
            tell_idle(context, ["pipeline_namespace"], "the objects of --gitops", "without that")
    if not gpus and (target.node_selector or target.tolerations):
        typer.echo(NODES_IDLE)
    if what == "run" and push_secret and not kserve.get("registry"):
        typer.echo("--push-secret is for --kserve registry=…: without one nothing is pushed.")
    training = checked(TrainParameters, **select(TrainParameters, file.parameters if file else {}))
    devices = nodes * max(gpus, 1)
    if training.batch_size % devices:
        typer.echo(
            f"{devices} {'GPUs' if gpus else 'nodes'} share each batch, and {training.batch_size} images are "
            f"not a multiple of that: run with --set batch_size={even(training.batch_size, devices)}."
        )
    if training.quantize and KServeSettings(**kserve, image=named.serve).gpu:
        typer.echo(
            "A GPU serves the float32 network, while the gate may decide on INT8: answers may then differ by "
            "more than deploy allows. Run with --set quantize=false."
        )
    if not (images or LOCK.exists()):
        typer.echo(
            f"There is no {LOCK}: these are names of this version, and such images may not exist. "
            "`make images PUSH=1`, in a clone, builds them and writes it."
        )
    if gitops:
        version = compile_manifests(gitops, output, images, target, pipeline_namespace)
        typer.echo(f"{gitops}: the pipeline and its version {version}, for namespace {pipeline_namespace}")
