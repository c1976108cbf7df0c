"""Every setting of a training run, in one place, saved beside the model.

Keras is not imported here: the command line checks these settings before anything starts.
"""

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from defectline.components.common.errors import SettingsError
from defectline.components.common.settings import checked, unknown
from defectline.components.common.storage import Storage, open_storage

WEIGHTS = {
    "init_from": "the whole network's weights (.weights.h5), or a model.keras that defectline trained",
    "encoder_weights": "a Keras weights file of MobileNetV2 without its top (.h5 or .weights.h5)",
}
"""The settings that name a file to start from, and what it is expected to be."""
KEYWORDS = {"init_from": ("none",), "encoder_weights": ("none", "imagenet")}
"""What they may be instead of a file."""
FINE_TUNE_LEARNING_RATE = 5e-4
"""A learning rate at which weights that know the task already do not forget it."""


class TrainSettings(BaseModel):
    """Defaults are for tens to hundreds of pictures from random weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=60, ge=1)
    batch_size: int = Field(default=4, ge=1)
    """Pictures a step, over all GPUs together."""
    seed: int = Field(default=0, ge=0)
    encoder_weights: str = "none"
    """`none`, `imagenet`, or a path or URI of a weights file, with `#sha256=…` to check it."""
    init_from: str = "none"
    """`none`, or a path or URI of the whole network's weights, with `#sha256=…` to check it."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """`sgd` with Nesterov momentum 0.9; it wants a learning rate about ten times as high."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """The highest, after the warm-up. From the weights of `init_from` the default is
    FINE_TUNE_LEARNING_RATE."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: half a cosine down to zero, or the same rate to the end."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps over which the learning rate rises from zero."""
    weight_decay: float = Field(default=1e-4, ge=0)
    batch_norm_momentum: float = Field(default=0.9, gt=0, lt=1)
    """Keras' MobileNetV2 has 0.999: over a few hundred steps its moving statistics never arrive, and a
    network that trains well predicts nothing."""
    freeze_encoder_until: str = ""
    """This layer of the encoder and all before it stay as they are, batch norm statistics included."""
    unfreeze_at_epoch: int = Field(default=0, ge=0)
    """From this epoch on all is trained; 0: never."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the network computes in; its weights are always float32."""
    patience: int = Field(default=30, ge=1)
    """Epochs without a better validation IoU before training stops, counted from
    `unfreeze_at_epoch` at the earliest."""
    quantize: bool = True
    """Export in INT8 as well; evaluate serves it where it loses nothing on validation pictures."""

    @model_validator(mode="before")
    @classmethod
    def _keep_what_was_learned(cls, values: dict[str, object]) -> dict[str, object]:
        start = values.get("init_from", "none")
        return values if start == "none" else {"learning_rate": FINE_TUNE_LEARNING_RATE, **values}

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.unfreeze_at_epoch and not self.freeze_encoder_until:
            raise ValueError("unfreeze_at_epoch only with freeze_encoder_until: nothing is frozen")
        if "none" not in (self.encoder_weights, self.init_from):
            raise ValueError("encoder_weights or init_from, not both: the latter has an encoder too")
        return self

    @field_validator(*WEIGHTS)
    @classmethod
    def _whole_digest(cls, reference: str) -> str:
        _, mark, digest = reference.partition("#sha256=")
        if mark and not re.fullmatch("[0-9a-fA-F]{64}", digest):
            raise ValueError(f"after #sha256= 64 hex digits, not {len(digest)} characters")
        return reference


def weights_file(setting: str, reference: str) -> tuple[Storage, str]:
    """The storage, and the key in it, of the file that one of WEIGHTS names: a path or URI, perhaps with
    `#sha256=…`. Raises SettingsError where nothing is there."""
    uri = reference.partition("#sha256=")[0]
    folder, slash, name = uri.rpartition("/")
    storage = open_storage(folder or slash or ".")
    if not name or not storage.exists(name):
        raise SettingsError(
            f"The file of {setting} is missing.",
            got=f"no file at {uri}" if uri else "an empty value",
            expected=WEIGHTS[setting],
            fix=f"Correct {setting}, or set it to none.",
        )
    return storage, name


OWN_PARAMETERS = ("epochs", "batch_size", "seed", "encoder_weights", "init_from", "quantize")
"""What the pipeline has parameters for; the other settings reach it in one text."""


def read_settings(text: str, **own: object) -> TrainSettings:
    """The settings from the `own` parameters and a text `key=value key=value …`, with spaces or commas
    between. Raises SettingsError that names the wrong one."""
    values = dict(own)
    for pair in filter(None, re.split(r"[\s,]+", text)):
        key, equals, value = pair.partition("=")
        if not equals or key in OWN_PARAMETERS:
            raise SettingsError(
                f"{pair} does not belong into training.",
                got=pair,
                expected="key=value, as in learning_rate=1e-3 patience=10",
                fix=f"Set {key} with --set {key}=… of its own."
                if key in OWN_PARAMETERS
                else f"Write {key}=…",
            )
        others = [name for name in TrainSettings.model_fields if name not in OWN_PARAMETERS]
        if key not in others:
            raise unknown(f"setting {key} of training", key, others)
        values[key] = value
    return checked(TrainSettings, **values)


def write_options(settings: TrainSettings) -> str:
    """What differs from the defaults, as a text for `read_settings`; one text for the same settings."""
    values = settings.model_dump()
    defaults = TrainSettings(**{key: values[key] for key in OWN_PARAMETERS}).model_dump()
    return " ".join(f"{key}={value}" for key, value in values.items() if value != defaults[key])
