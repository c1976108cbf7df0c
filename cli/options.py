"""Options that several commands share, each with one text."""

import os
from pathlib import Path
from typing import Annotated

import typer

from defectline.cli import completion

NODES_IDLE = "--node-selector and --toleration are for training on GPUs: without one they do nothing."
S3_SECRET_HELP = "Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
S3_ENDPOINT_HELP = "URL of an S3 server other than AWS."
S3_REGION_HELP = "Region of the S3 server."
GCS_SECRET_HELP = "Secret with key.json of a service account."
PULL_SECRET_HELP = "Secret for a private image registry."
RUN_AS_USER_HELP = "User id of the steps; 0: the cluster's choice, as on OpenShift."
SOURCE_HELP = "s3://, gs://, file:// or a folder of labelled images, as they are."

Source = Annotated[str, typer.Option(help=SOURCE_HELP)]
Store = Annotated[
    str, typer.Option(envvar="DEFECTLINE_STORE", help="Where snapshots, models and runs are kept.")
]
Name = Annotated[str, typer.Option(help="The model's name.", autocompletion=completion.models)]
Names = Annotated[
    list[str] | None,
    typer.Option("--name", help="The model's name; repeatable.", autocompletion=completion.models),
]


OWN = {
    "crossval": ("store",),
    # A file's is where the model serves, and not where pods search.
    "tune": ("namespace",),
}
"""What these commands have values of their own for, whatever the file of a run says."""


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make what the file says the defaults of the command's other options."""
    if path is None or context.resilient_parsing:
        return path
    from defectline.pipeline.config import REPEATABLE, as_pairs, read_config

    file, own = read_config(path), OWN.get(context.info_name or "", ())
    run = {name: getattr(file, name) for name in ("source", "store", "name") if name in file.model_fields_set}
    of_compile = {name: v for name, v in file.cluster.items() if name not in ("kserve", *REPEATABLE)}
    defaults = {"compile": of_compile, "tune": of_compile | run}.get(context.info_name or "", run)
    context.default_map = {name: value for name, value in defaults.items() if value != "" and name not in own}
    context.meta["set_"] = as_pairs({name: v for name, v in file.parameters.items() if name not in own})
    context.meta["kserve_"] = as_pairs(file.cluster.get("kserve", {}))
    context.meta.update(file.repeatable)
    return path


def _after_the_file(
    context: typer.Context, option: typer.CallbackParam, pairs: list[str] | None
) -> list[str]:
    """Of two pairs with the same key the last one counts."""
    return [*context.meta.get(option.name or "", []), *(pairs or [])]


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        is_eager=True,
        callback=_read_config,
        help="A file of settings, as `defectline config` prints one; options, variables and --set win.",
    ),
]
Configs = Annotated[
    list[Path] | None,
    typer.Option(
        "--config", help="A product's file of settings, or a folder of them; repeatable: one table over all."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        callback=_after_the_file,
        help="A pipeline parameter; repeatable.",
        autocompletion=completion.pairs,
    ),
]
KServe = Annotated[
    list[str] | None,
    typer.Option(
        "--kserve", metavar="KEY=VALUE", callback=_after_the_file, help="More of how KServe serves."
    ),
]
Resources = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        callback=_after_the_file,
        help="Of steps: small, or STEP=CPU,MEMORY with ,MEMORY_LIMIT and ,CPU_LIMIT; repeatable.",
    ),
]
NodeSelector = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        callback=_after_the_file,
        help="Label KEY=VALUE of the nodes to train on with GPUs; repeatable.",
    ),
]
Toleration = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        callback=_after_the_file,
        help="Taint KEY[=VALUE][:EFFECT] that such nodes may have; repeatable.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Train even where nothing is new.")]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEYS",
        help="A file or folder of public keys or identities whose signatures count; repeatable. "
        "Default: DEFECTLINE_TRUST.",
    ),
]
Version = Annotated[
    str,
    typer.Argument(
        metavar="VERSION", help="A version, or the start of one.", autocompletion=completion.versions
    ),
]
As = Annotated[str, typer.Option("--as", metavar="YOU", help="Who decides; it is kept.")]
Reason = Annotated[str, typer.Option(help="Why; asked for on a terminal.")]
Key = Annotated[
    str,
    typer.Option(envvar="DEFECTLINE_SIGN_KEY", help="File of your private key, to sign with, or `sigstore`."),
]
Json = Annotated[bool, typer.Option("--json", help="For other programs.")]
Host = Annotated[str, typer.Option(envvar="KFP_HOST", help="URL of the Kubeflow Pipelines API.")]
Namespace = Annotated[
    str, typer.Option(envvar="KFP_NAMESPACE", help="Profile namespace, on multi-user Kubeflow.")
]
ServedIn = Annotated[
    str, typer.Option("--namespace", help="Where KServe serves the model; else this machine.")
]
FailOnGate = Annotated[
    bool, typer.Option("--fail-on-gate", help="Exit with 3 where the gate refuses the model.")
]
Package = Annotated[Path, typer.Option(help="The compiled pipeline.")]
Workers = Annotated[
    int,
    typer.Option(
        min=1, help="Folds, or trials of a tune, at the same time; they share this machine's processors."
    ),
]
Experiment = Annotated[str, typer.Option(help="KFP experiment; made where it is missing.")]


def token() -> str:
    """The bearer token, from the environment: on the command line every user of the machine would see it."""
    return os.environ.get("KFP_TOKEN", "")
