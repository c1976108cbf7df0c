"""Tables of every setting, from the classes that check them."""

from collections.abc import Collection, Iterator
from typing import Any

from pydantic import BaseModel

from defectline.components.deploy.kserve.settings import KServeSettings
from defectline.components.evaluate.settings import EvaluateSettings
from defectline.components.ingest.settings import IngestSettings
from defectline.components.preprocess.settings import PreprocessSettings
from defectline.components.serve.settings import ServeSettings
from defectline.components.train.settings import TrainParameters, TrainSettings
from defectline.pipeline.parameters import Parameters

STEPS: dict[str, type[BaseModel]] = {
    "ingest": IngestSettings,
    "preprocess": PreprocessSettings,
    "train": TrainParameters,
    "evaluate": EvaluateSettings,
}
BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
}


def tables() -> Iterator[str]:
    """A section for each group of settings, as Markdown lines."""
    of_a_step = {name for settings in STEPS.values() for name in settings.model_fields}
    yield "## Every run\n"
    yield from table(Parameters, [n for n in Parameters.model_fields if n not in of_a_step])
    for step, settings in STEPS.items():
        yield f"## {step.capitalize()}\n"
        yield from table(settings, settings.model_fields)
        if settings is TrainParameters:
            others = [name for name in TrainSettings.model_fields if name not in settings.model_fields]
            yield "### In the parameter training\n"
            yield from table(TrainSettings, others)
    yield "## The endpoint on KServe\n"
    yield "Keys of `defectline compile --kserve KEY=VALUE`; some have an option of their own there.\n"
    yield from table(KServeSettings, KServeSettings.model_fields)
    yield "## The server\n"
    yield "Options of `python -m defectline.components.serve`, which is what the container image runs.\n"
    yield from table(ServeSettings, ServeSettings.model_fields, "--")


def table(settings: type[BaseModel], names: Collection[str], before: str = "") -> Iterator[str]:
    """The fields with these names, as a Markdown table; `before` each name stands on the command line."""
    described = settings.model_json_schema()["properties"]
    yield "| setting | default | allowed | |\n|---|---|---|---|"
    for name in names:
        field = described[name]
        cells = (f"`{before}{name}`", _default(field), _allowed(field), _sentence(field))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "needed"
    value = field["default"]
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        value = ",".join(map(str, value))
    return f"`{value}`" if value != "" else ""


def _allowed(field: dict[str, Any]) -> str:
    if choices := field.get("enum"):
        return ", ".join(f"`{choice}`" for choice in choices)
    if field.get("type") == "boolean":
        return "`true`, `false`"
    bounds = [text.format(_number(field[key])) for key, text in BOUNDS.items() if key in field]
    if {"minimum", "maximum"} <= field.keys():
        bounds = [f"{_number(field['minimum'])} to {_number(field['maximum'])}", *bounds[2:]]
    return ", ".join(bounds)


def _number(value: float) -> str:
    return str(int(value) if value == int(value) else value)


def _sentence(field: dict[str, Any]) -> str:
    text = " ".join(field.get("description", "").split()).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}." if text else ""
