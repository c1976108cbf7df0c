"""The pipeline's parameters, checked before anything starts."""

import re
from typing import Annotated, Any, get_args
from urllib.parse import quote

from pydantic import AfterValidator, Field

from defectline.components.common.errors import SettingsError
from defectline.components.common.settings import checked, parse_pairs, select
from defectline.components.common.storage import open_storage
from defectline.components.evaluate.settings import EvaluateSettings, Limit
from defectline.components.ingest.settings import IngestSettings
from defectline.components.preprocess.settings import PreprocessSettings
from defectline.components.train.settings import (
    KEYWORDS,
    TRAINING,
    WEIGHTS,
    TrainParameters,
    read_settings,
    weights_file,
    write_options,
)

DEFAULT_NAME = "defects"


def _name(name: str) -> str:
    # What KServe makes of it must fit into one label of a host's name.
    if not re.fullmatch("[a-z]([-a-z0-9]{0,38}[a-z0-9])?", name):
        raise ValueError("at most 40 lowercase letters, digits and hyphens; a letter first, no hyphen last")
    return name


class Parameters(EvaluateSettings, TrainParameters, PreprocessSettings, IngestSettings):
    """Everything that a run can be told. Bounds, defaults and texts are those of the steps."""

    source: str = Field(description="Labelled images: s3://, gs://, file:// or a folder.")
    store: str = Field(
        description="Where snapshots, models and runs are kept: s3://, gs://, file:// or a folder."
    )
    model_name: Annotated[str, AfterValidator(_name)] = Field(
        default=DEFAULT_NAME, description="The model's name, which its endpoint has as well."
    )


SETTABLE = [name for name in Parameters.model_fields if name not in ("source", "store")]
"""The parameters that `--set` takes, besides the settings that `training` holds."""


def parse(source: str, store: str, pairs: list[str], **others: Any) -> Parameters:
    """Parameters from `key=value` texts. Raises SettingsError naming the wrong one."""
    for key in (pair.partition("=")[0] for pair in pairs):
        if key in ("source", "store"):
            raise SettingsError(
                f"There is no parameter {key} to set.", got=key, expected=f"--{key} URI", fix=f"Use --{key}."
            )
    if not source.strip():
        raise SettingsError(
            "No source is given.",
            got="nothing",
            expected="labelled images: s3://, gs://, file:// or a folder",
            fix="Give --source, or write `source:` into the file that --config names.",
        )
    of_classes = [pair.strip() for pair in pairs if pair.strip().partition(".")[0] in get_args(Limit)]
    pairs = [pair for pair in pairs if pair.strip() not in of_classes]
    values = parse_pairs(pairs, [*SETTABLE, *TRAINING], what="parameter {}")
    if of_classes:
        # A record of settings as key=value has spaces between them.
        quoted = [quote(pair, safe="=.-_") for pair in of_classes]
        values["by_class"] = ",".join(filter(None, [values.get("by_class", ""), *quoted]))
    single = [f"{key}={values.pop(key)}" for key in TRAINING if key in values]
    if single:
        # Of two values for the same setting the last one counts.
        values["training"] = " ".join([values.get("training", ""), *single]).strip()
    named = others.get("model_name", DEFAULT_NAME)
    if named != DEFAULT_NAME and values.get("model_name", named) != named:
        raise SettingsError(
            "The model is given two names.",
            got=f"--name {named} and --set model_name={values['model_name']}",
            expected="one name",
            fix="Leave one of them out.",
        )
    if others.get("force"):
        values.pop("force", None)
    parameters = checked(Parameters, source=source, store=store, **{**others, **values})
    for uri in (parameters.source, parameters.store):
        open_storage(uri)
    # Written the same way, the same settings are nothing new to ingest.
    training = write_options(read_settings(**select(TrainParameters, parameters)))
    return parameters.model_copy(update={"training": training})


def check_weights(parameters: Parameters) -> None:
    """Raise SettingsError where a file to start from is not there: training would only find out after the
    steps before it."""
    for name in WEIGHTS:
        if (reference := getattr(parameters, name)) not in KEYWORDS[name]:
            weights_file(name, reference)


def check_reachable(parameters: Parameters, of_store: str = "") -> None:
    """Raise SettingsError where a cluster's pods could not reach the source or the store; of a store it also
    says `of_store`."""
    for name in ("source", "store"):
        uri = getattr(parameters, name)
        if not uri.startswith(("s3://", "gs://")):
            raise SettingsError(
                f"A cluster cannot reach the {name}.",
                got=uri,
                expected="s3://bucket/prefix or gs://bucket/prefix",
                fix=f"Put it into a bucket, and name that with --{name}."
                + (f" {of_store}" if of_store and name == "store" else ""),
            )
