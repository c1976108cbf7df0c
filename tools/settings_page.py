"""Tables of every setting, from the classes that check them."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from defectline.components.serve.settings import ServeSettings
from defectline.components.train.settings import TrainParameters, TrainSettings
from defectline.pipeline.config import BOUNDS, Setting, describe, describe_field

HEADINGS = {
    "run": "## Every run\n",
    "ingest": "## Ingest\n\nParameters, as those of the next three steps: below `parameters` in the file.\n",
    "cluster": "## The cluster\n\nOptions of `defectline compile`, or below `cluster` in the file.\n",
    "kserve": "## The endpoint on KServe\n\n`compile --kserve KEY=VALUE`, or `cluster.kserve` in the file.\n",
}
"""Of groups whose name alone does not say how they are set."""


def tables() -> Iterator[str]:
    """A section for each group of settings, as Markdown lines."""
    for step, settings in groupby(describe(), key=lambda setting: setting.step):
        yield HEADINGS.get(step, f"## {step.capitalize()}\n")
        yield from table(settings)
        if step == "train":
            others = TrainSettings.model_fields.keys() - TrainParameters.model_fields.keys()
            yield "### In the parameter training\n"
            yield from table(
                describe_field(name, step, field)
                for name, field in TrainSettings.model_fields.items()
                if name in others
            )
    yield "## The server\n"
    yield "Options of `python -m defectline.components.serve`, which is what the container image runs.\n"
    fields = ServeSettings.model_fields.items()
    yield from table(describe_field(f"--{name}", "serve", field) for name, field in fields)


def table(settings: Iterable[Setting]) -> Iterator[str]:
    yield "| setting | default | allowed | |\n|---|---|---|---|"
    for setting in settings:
        name = setting.key.rpartition(".")[2]
        sentence = setting.description[:1].upper() + setting.description[1:]
        cells = (f"`{name}`", _default(setting), _allowed(setting), sentence.rstrip(".") + ".")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _default(setting: Setting) -> str:
    value = setting.default
    if setting.key == "source":
        return "needed"
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, list):
        value = ",".join(map(str, value))
    return f"`{value}`" if value != "" else ""


def _allowed(setting: Setting) -> str:
    if setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices)
    if setting.type == "bool":
        return "`true`, `false`"
    bounds = setting.bounds
    texts = [f"{BOUNDS[name]} {value}" for name, value in bounds.items()]
    if {"ge", "le"} <= bounds.keys():
        rest = [f"{BOUNDS[name]} {value}" for name, value in bounds.items() if name not in ("ge", "le")]
        texts = [f"{bounds['ge']} to {bounds['le']}", *rest]
    return ", ".join(texts)
