"""Which settings a tune may change, and how far."""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic.fields import FieldInfo

from defectline.components.common.settings import checked, select
from defectline.components.preprocess.settings import PreprocessSettings
from defectline.components.train.settings import (
    TRAINING,
    DecoderName,
    TrainParameters,
    TrainSettings,
    read_settings,
    write_options,
)
from defectline.pipeline.parameters import Parameters

Value = bool | int | float | str
Space = Mapping[str, BaseDistribution]

BOTH = (False, True)
SPACE: Space = {
    "learning_rate": FloatDistribution(5e-4, 8e-3, log=True),
    "schedule": CategoricalDistribution(("cosine", "constant")),
    "warmup": FloatDistribution(0.0, 0.3),
    "weight_decay": FloatDistribution(1e-5, 1e-2, log=True),
    "batch_size": CategoricalDistribution((2, 4, 8)),
    "decoder": CategoricalDistribution(get_args(DecoderName)),
    "encoder_width": CategoricalDistribution((0.35, 0.5, 0.75, 1.0)),
    "image_size": IntDistribution(160, 320, step=32),
    "tile": CategoricalDistribution(BOTH),
    "enhance": CategoricalDistribution(BOTH),
    "synthetic": FloatDistribution(0.0, 0.6),
    "rotation": FloatDistribution(0.0, 15.0),
    "zoom": FloatDistribution(0.0, 0.2),
    "brightness": FloatDistribution(0.0, 0.3),
    "contrast": FloatDistribution(0.0, 0.4),
    "noise": FloatDistribution(0.0, 0.05),
}
"""What is searched where nobody says anything else."""
FIXED = ("seed", "training")
"""Settings of training that cannot be searched: the seed is the same for all that is compared."""
FIELDS: dict[str, FieldInfo] = {
    name: field
    for name, field in {**PreprocessSettings.model_fields, **TrainSettings.model_fields}.items()
    if name not in FIXED
}
"""What can be searched."""
DIGITS = 4


def apply(parameters: Parameters, values: Mapping[str, Value]) -> Parameters:
    """The parameters with these values. Raises SettingsError where they do not go together."""
    plain = {name: value for name, value in values.items() if name not in TRAINING}
    pairs = [f"{name}={value}" for name, value in values.items() if name in TRAINING]
    training = " ".join(filter(None, [parameters.training, *pairs]))
    made = checked(Parameters, **{**parameters.model_dump(), **plain, "training": training})
    whole = read_settings(**select(TrainParameters, made))
    return made.model_copy(update={"training": write_options(whole)})


def values_in(parameters: Parameters, names: Iterable[str]) -> dict[str, Value]:
    """What these settings are in the parameters."""
    settings: dict[str, Any] = {
        **read_settings(**select(TrainParameters, parameters)).model_dump(),
        **select(PreprocessSettings, parameters),
    }
    return {name: settings[name] for name in names}


def rounded(values: Mapping[str, Any], space: Space) -> dict[str, Value]:
    """Numbers of a few digits, within their ranges: they are read, typed and compared."""
    found: dict[str, Value] = {}
    for name, value in values.items():
        one = space[name]
        if isinstance(one, FloatDistribution):
            value = min(max(float(f"{value:.{DIGITS}g}"), one.low), one.high)
        found[name] = value
    return found
