"""What a tune came to, for people: the rows of its table, and a page with table, plot and settings."""

import html
import json

from defectline.components.common.layout import FRONT_PAGE, tuning_key
from defectline.components.common.reporting.front_page import rewrite
from defectline.components.common.storage import Storage
from defectline.pipeline.parameters import Parameters
from defectline.pipeline.tuning.config_file import config_text
from defectline.pipeline.tuning.options import STATES, Tuned, differences
from defectline.pipeline.tuning.plot import plot
from defectline.pipeline.tuning.space import values_in
from defectline.pipeline.tuning.trials import ranked

CONFIG, PAGE = "config.yaml", FRONT_PAGE
COLUMNS = ("trial", "ended", "cost", "±", "IoU", "ms", "MB", "settings")
NUMBERS = ("trial", "cost", "±", "IoU", "ms", "MB")
NOTE = (
    "Cost: escapes and overkills of a picture, by escape_cost. ±: the standard deviation over the folds. ms "
    "and MB: an inspection's on the machine that tried it, comparable only where nothing else ran there."
)
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 24px; overflow-wrap: anywhere; } h2 { font-size: 19px; } .quiet { opacity: .75; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #8884; }
.n { text-align: right; }
.best td { font-weight: 600; }
svg { max-width: 100%; height: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def write_result(store: Storage, tuned: Tuned, parameters: Parameters, every_picture: bool) -> str:
    """Write the page and, where there is a best trial, its settings; returns these, or ""."""
    config = config_text(tuned, parameters, every_picture) if tuned.best else ""
    if config:
        store.write(tuning_key(tuned.study.id, CONFIG), config.encode())
    store.write(tuning_key(tuned.study.id, PAGE), page(tuned, parameters, config).encode())
    rewrite(store)
    return config


def rows(tuned: Tuned, parameters: Parameters) -> list[tuple[object, ...]]:
    """A row a trial of COLUMNS, the best first. Pure."""
    usual = values_in(parameters, tuned.space)
    return [
        (
            trial.number,
            STATES[trial.state],
            trial.cost,
            trial.spread("cost"),
            trial.iou,
            trial.footprint and f"{trial.footprint.latency_ms:.1f}",
            trial.footprint and round(trial.footprint.memory_mb),
            (differences(trial.values, usual) if trial.number else "as they are")
            + (f" – {trial.reason}" if trial.state in ("infeasible", "failed") else ""),
        )
        for trial in ranked(tuned.trials, tuned.study.objective)
    ]


def page(tuned: Tuned, parameters: Parameters, config: str) -> str:
    """A page without scripts, in light and in dark. Pure."""
    head = "".join(f"<th{_right(name)}>{html.escape(name)}</th>" for name in COLUMNS)
    lines = []
    for row in rows(tuned, parameters):
        best = ' class="best"' if tuned.best and row[0] == tuned.best.number else ""
        cells = "".join(
            f"<td{_right(name)}>{html.escape(_cell(value))}</td>"
            for name, value in zip(COLUMNS, row, strict=True)
        )
        lines.append(f"<tr{best}>{cells}</tr>")
    study, asked = tuned.study, json.dumps(tuned.study.model_dump(mode="json"), indent=2)
    usual = html.escape(differences(values_in(parameters, tuned.space), {}))
    told = (
        f"<h2>config.yaml</h2><pre>{html.escape(config)}</pre>"
        if config
        else "<p>No trial keeps the limits.</p>"
    )
    name = html.escape(parameters.model_name)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: tune {study.id}</title><style>{STYLE}</style><h1>{name}: tune</h1>"
        f"<p class=quiet>Study {study.id} of {html.escape(parameters.source)}</p>{plot(tuned)}"
        f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'
        f"<p class=quiet>{NOTE} Trial 0 is the settings as they are: <code>{usual}</code>.</p>{told}"
        f"<details><summary>What was asked</summary><pre>{html.escape(asked)}</pre></details></html>"
    )


def _right(name: str) -> str:
    return ' class="n"' if name in NUMBERS else ""


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
