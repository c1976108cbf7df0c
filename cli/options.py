"""Options that several commands share, each with one text."""

import os
from pathlib import Path
from typing import Annotated

import typer

SOURCE_HELP = "s3://, gs://, file:// or a folder with OK/ NG/ OK_MSK/ NG_MSK/."

Source = Annotated[str, typer.Option(help=SOURCE_HELP)]
Store = Annotated[str, typer.Option(help="Where snapshots, models and runs are kept.")]
Name = Annotated[str, typer.Option(help="The model's name.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A pipeline parameter.")]
Force = Annotated[bool, typer.Option("--force", help="Train even where nothing is new.")]
Pretrain = Annotated[
    bool, typer.Option("--pretrain", help="Start from weights of synthetic plates, made once in the store.")
]
Json = Annotated[bool, typer.Option("--json", help="For other programs.")]
Host = Annotated[str, typer.Option(envvar="KFP_HOST", help="URL of the Kubeflow Pipelines API.")]
Namespace = Annotated[str, typer.Option(help="Profile namespace, on multi-user Kubeflow.")]
ServedIn = Annotated[
    str, typer.Option("--namespace", help="Where KServe serves the model; else this machine.")
]
FailOnGate = Annotated[
    bool, typer.Option("--fail-on-gate", help="Exit with 3 where the gate refuses the model.")
]
Package = Annotated[Path, typer.Option(help="The compiled pipeline.")]
Experiment = Annotated[str, typer.Option(help="KFP experiment; made where it is missing.")]


def token() -> str:
    """The bearer token, from the environment: on the command line every user of the machine would see it."""
    return os.environ.get("KFP_TOKEN", "")
