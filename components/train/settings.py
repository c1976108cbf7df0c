"""Every setting of a training run, in one place, saved beside the model.

Keras is not imported here: the command line checks these settings before anything starts.
"""

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from defectline.components.common.errors import SettingsError
from defectline.components.common.settings import checked, parse_pairs, select
from defectline.components.common.storage import Storage, open_storage

WEIGHTS = {
    "init_from": "the whole network's weights (.weights.h5), or a model.keras that defectline trained",
    "encoder_weights": "a Keras weights file of MobileNetV2 without its top (.h5 or .weights.h5)",
}
"""The settings that name a file to start from, and what it is expected to be."""
KEYWORDS = {"init_from": ("none",), "encoder_weights": ("none", "imagenet")}
"""What they may be instead of a file."""
FEW_DEFECTS = 256
"""Pictures with marked defects: with fewer, `auto` begins with synthetic ones. With 150 it still helps: see
docs/training.md."""
DecoderName = Literal["pix2pix", "light"]
DECODER: DecoderName = "pix2pix"
"""The one that a network has by default."""
WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
"""Widths of MobileNetV2 of which Keras has weights."""
FINE_TUNE_LEARNING_RATE = 5e-4
"""A learning rate at which weights that know the task already do not forget it."""


class _WhatParametersSet(BaseModel):
    """The settings of training that are parameters of the pipeline as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=60, ge=1, description="Epochs at most; training stops early by `patience`.")
    batch_size: int = Field(default=4, ge=1, description="Images a step, over all GPUs together.")
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**31,
        description="Fixes first weights, the order of images and their augmentation.",
    )
    encoder_weights: str = Field(
        default="none",
        description="What the encoder starts from: none, imagenet, or a path or URI of a weights file.",
    )
    init_from: str = Field(
        default="none",
        description="What the whole network starts from: none, or a path or URI of its weights.",
    )
    """Like `encoder_weights` perhaps with `#sha256=…`, to check the file."""
    pretraining: Literal["auto", "always", "none"] = Field(
        default="auto",
        description="Whether the network first learns synthetic defects in good images; auto: where fewer "
        f"than {FEW_DEFECTS} images to train on have a marked one.",
    )
    quantize: bool = Field(
        default=True, description="Export in INT8 as well; it is served where it loses nothing."
    )

    @model_validator(mode="after")
    def _one_start(self) -> Self:
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


class TrainParameters(_WhatParametersSet):
    """What the train step takes: some settings as they are, all others in one text."""

    training: str = Field(default="", description="More settings of training, as `key=value key=value …`.")


class Augmentation(BaseModel):
    """How training images are changed at random: as far as the product may look different, and no further."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flip: bool = Field(default=True, description="Half of the images mirrored, and half of them upside down.")
    turn: bool = Field(default=True, description="Images turned by a quarter, a half and three quarters.")
    rotation: float = Field(default=0.0, ge=0, le=180, description="Rotation by up to so many degrees.")
    zoom: float = Field(
        default=0.0, ge=0, le=1, description="Larger by up to this share, or smaller by as much."
    )
    brightness: float = Field(
        default=0.15, ge=0, le=1, description="Lighter or darker by up to this share of white."
    )
    contrast: float = Field(default=0.2, ge=0, lt=1, description="More or less contrast by up to this share.")
    gamma: float = Field(
        default=0.0, ge=0, le=2, description="Gamma of up to one and this share, or one by that."
    )
    blur: float = Field(
        default=0.0, ge=0, le=1, description="Up to this share of an image blurred by a pixel is mixed in."
    )
    noise: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Normal noise with a standard deviation of up to this share of white.",
    )
    jpeg: int = Field(
        default=100,
        ge=1,
        le=100,
        description="Lowest quality that images are compressed to as JPEG; 100: none.",
    )


DEFAULT_AUGMENTATION = Augmentation()


class TrainSettings(_WhatParametersSet, Augmentation):
    """Defaults are for tens to hundreds of images from random weights."""

    decoder: DecoderName = Field(
        default=DECODER,
        description="What finds the pixels: pix2pix, or light, which takes a third of the work.",
    )
    encoder_width: float = Field(
        default=1.0,
        description=f"Share of MobileNetV2's channels that the encoder has: {', '.join(map(str, WIDTHS))}.",
    )
    optimizer: Literal["adamw", "sgd"] = Field(
        default="adamw", description="AdamW, or SGD with Nesterov momentum 0.9."
    )
    """SGD wants a learning rate about ten times as high."""
    learning_rate: float = Field(
        default=2e-3,
        gt=0,
        description=f"Highest rate, after the warm-up; {FINE_TUNE_LEARNING_RATE} with init_from by default.",
    )
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine",
        description="After the warm-up, half a cosine down to zero, or the same rate to the end.",
    )
    warmup: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of all steps over which the learning rate rises from zero.",
    )
    weight_decay: float = Field(default=1e-4, ge=0, description="How strongly weights are drawn to zero.")
    batch_norm_momentum: float = Field(
        default=0.9, gt=0, lt=1, description="How slowly the moving statistics of batch norm follow."
    )
    """Keras' MobileNetV2 has 0.999: over a few hundred steps its moving statistics never arrive, and a
    network that trains well predicts nothing."""
    freeze_encoder_until: str = Field(
        default="",
        description="This layer of the encoder and all before it stay as they are, batch norm included.",
    )
    unfreeze_at_epoch: int = Field(
        default=0, ge=0, description="From this epoch on all is trained; 0 for never."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="What the network computes in; its weights are always float32."
    )
    patience: int = Field(
        default=30, ge=1, description="Epochs without a better validation IoU before training stops."
    )
    """Counted from `unfreeze_at_epoch` at the earliest."""
    pretraining_steps: int = Field(
        default=600,
        ge=1,
        description="Steps of pretraining at most; fewer where nothing gets better.",
    )
    synthetic: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Share of the good images that still get synthetic defects after pretraining.",
    )

    cross_fit: int = Field(
        default=0,
        ge=0,
        le=10,
        description="So many networks more are trained, each without its share of the training images, which "
        "it judges: so they choose the threshold as well; 0, or 2 and more.",
    )

    @field_validator("encoder_width")
    @classmethod
    def _known_width(cls, width: float) -> float:
        if width not in WIDTHS:
            raise ValueError(f"encoder_width={width:g} is not one of {', '.join(map(str, WIDTHS))}")
        return width

    @field_validator("cross_fit")
    @classmethod
    def _several(cls, networks: int) -> int:
        if networks == 1:
            raise ValueError("cross_fit=1 would leave nothing to train on: 0, or 2 and more")
        return networks

    @model_validator(mode="before")
    @classmethod
    def _keep_what_was_learned(cls, values: dict[str, object]) -> dict[str, object]:
        start = values.get("init_from", "none")
        return values if start == "none" else {"learning_rate": FINE_TUNE_LEARNING_RATE, **values}

    @model_validator(mode="after")
    def _frozen_first(self) -> Self:
        if self.unfreeze_at_epoch and not self.freeze_encoder_until:
            raise ValueError("unfreeze_at_epoch only with freeze_encoder_until: nothing is frozen")
        return self


TRAINING = [name for name in TrainSettings.model_fields if name not in TrainParameters.model_fields]
"""The settings that the text `training` holds."""


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


def read_settings(training: str = "", **others: object) -> TrainSettings:
    """All settings of training from the fields of TrainParameters, of which `training` is a text
    `key=value key=value …` with spaces or commas between. Raises SettingsError that names the wrong one."""
    pairs = list(filter(None, re.split(r"[\s,]+", training)))
    for key in (pair.partition("=")[0] for pair in pairs):
        if key in TrainParameters.model_fields:
            raise SettingsError(
                f"The parameter {key} does not belong into training.",
                got=f"training={training}",
                expected="key=value, as in learning_rate=1e-3 patience=10",
                fix=f"Set {key} with --set {key}=… of its own.",
            )
    values = parse_pairs(pairs, TRAINING, written="", what="setting {} of training")
    return checked(TrainSettings, **others, **values)


def write_options(settings: TrainSettings) -> str:
    """What differs from the defaults, as a text for `read_settings`; one text for the same settings."""
    values = settings.model_dump()
    defaults = TrainSettings(**select(_WhatParametersSet, settings)).model_dump()
    return " ".join(f"{key}={value}" for key, value in values.items() if value != defaults[key])


def even(batch_size: int, devices: int) -> int:
    """The batch size, or the next one that so many devices can share."""
    return -(-batch_size // devices) * devices
