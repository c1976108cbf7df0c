"""The pipeline's parameters, checked before anything starts."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from defectline.components.common.errors import SettingsError
from defectline.components.common.settings import GradeB, checked, unknown
from defectline.components.common.storage import open_storage
from defectline.components.train.settings import (
    KEYWORDS,
    OWN_PARAMETERS,
    WEIGHTS,
    read_settings,
    weights_file,
    write_options,
)

DEFAULT_NAME = "defects"


def _grey_or_colour(channels: int) -> int:
    if channels not in (1, 3):
        raise ValueError("1 for grey or 3 for colour")
    return channels


def _all_or_ng_only(masks: str) -> str:
    if masks not in ("all", "ng_only"):
        raise ValueError("all or ng_only")
    return masks


def _name(name: str) -> str:
    # What KServe makes of it must fit into one label of a host's name.
    if not re.fullmatch("[a-z]([-a-z0-9]{0,38}[a-z0-9])?", name):
        raise ValueError("at most 40 lowercase letters, digits and hyphens; a letter first, no hyphen last")
    return name


class Parameters(BaseModel):
    """Names, types and defaults are those of the pipeline; the limits are added here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    store: str
    model_name: Annotated[str, AfterValidator(_name)] = DEFAULT_NAME
    image_size: int = Field(default=224, ge=32, le=2048, multiple_of=32)
    channels: Annotated[int, AfterValidator(_grey_or_colour)] = 1
    enhance: bool = False
    epochs: int = Field(default=60, ge=1)
    batch_size: int = Field(default=4, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    encoder_weights: str = "none"
    min_new_images: int = Field(default=1, ge=1)
    max_rejected: float = Field(default=0.1, ge=0, le=1)
    min_iou: float = Field(default=0.5, ge=0, le=1)
    max_escape: float = Field(default=0.1, ge=0, le=1)
    max_overkill: float = Field(default=0.1, ge=0, le=1)
    force: bool = False
    masks: Annotated[str, AfterValidator(_all_or_ng_only)] = "all"
    tile: bool = False
    empty_tiles: float = Field(default=0.25, ge=0, le=1)
    escape_cost: float = Field(default=3.0, gt=0, allow_inf_nan=False)
    grade_a_px: int = Field(default=0, ge=0)
    grade_b_px: GradeB = 0
    quantize: bool = True
    init_from: str = "none"
    training: str = ""
    """More settings of training, as `key=value key=value …`: see TrainSettings."""


def parse(source: str, store: str, pairs: list[str], **others: Any) -> Parameters:
    """Parameters from `key=value` texts. Raises SettingsError naming the wrong one."""
    values: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(
                f"--set {pair} sets nothing.", got=pair, expected="key=value", fix=f"Write --set {key}=…"
            )
        _check_name(key)
        values[key] = value
    named = others.get("model_name", DEFAULT_NAME)
    if named != DEFAULT_NAME and values.get("model_name", named) != named:
        raise SettingsError(
            "The model is given two names.",
            got=f"--name {named} and --set model_name={values['model_name']}",
            expected="one name",
            fix="Leave one of them out.",
        )
    parameters = checked(Parameters, source=source, store=store, **{**others, **values})
    for uri in (parameters.source, parameters.store):
        open_storage(uri)
    own = {name: getattr(parameters, name) for name in OWN_PARAMETERS}
    # Written the same way, the same settings are nothing new to ingest.
    training = write_options(read_settings(parameters.training, **own))
    return parameters.model_copy(update={"training": training})


def check_weights(parameters: Parameters) -> None:
    """Raise SettingsError where a file to start from is not there: training would only find out after the
    steps before it."""
    for name in WEIGHTS:
        if (reference := getattr(parameters, name)) not in KEYWORDS[name]:
            weights_file(name, reference)


def check_reachable(parameters: Parameters) -> None:
    """Raise SettingsError where a cluster's pods could not reach the source or the store."""
    for name in ("source", "store"):
        uri = getattr(parameters, name)
        if not uri.startswith(("s3://", "gs://")):
            raise SettingsError(
                f"A cluster cannot reach the {name}.",
                got=uri,
                expected="s3://bucket/prefix or gs://bucket/prefix",
                fix=f"Put it into a bucket, and name that with --{name}.",
            )


def _check_name(key: str) -> None:
    if key in ("source", "store"):
        raise SettingsError(
            f"There is no parameter {key} to set.", got=key, expected=f"--{key} URI", fix=f"Use --{key}."
        )
    known = [name for name in Parameters.model_fields if name not in ("source", "store")]
    if key not in known:
        raise unknown(f"parameter {key}", key, known)
