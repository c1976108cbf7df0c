"""The front page of a store: index.html, which needs no script and no network.

Its products with their champions and what those promise, how champions changed, what settings were compared,
and the runs with links to their reports. Each run writes it again when it ends; links are relative, so the
store may be moved or served.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from pydantic import ValidationError

from defectline.components.common import layout
from defectline.components.common.bundle import Promise
from defectline.components.common.errors import DefectlineError
from defectline.components.common.records import (
    ChampionRecord,
    Outcome,
    read_champion,
    write_outcome,
)
from defectline.components.common.reporting.ended_runs import Ended, read_json, read_runs
from defectline.components.common.reporting.standings import Standing, compare, draw_chart
from defectline.components.common.steps import say
from defectline.components.common.storage import Storage

CHAMPIONS = 12
"""The last champions of a model that are compared."""

COMPARISONS = 12
"""The last cross-validations, and tunes, that are told."""

STYLE = """
:root { color-scheme: light dark; --text: #1d2329; --quiet: #5b6570; --line: #dde2e7; --paper: #fff;
  --soft: #f5f7f9; --good: #20693f; --bad: #a93226; --mark: #2e6f9e; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ec; --quiet: #9aa5b0; --line: #3a434c;
  --paper: #14181c; --soft: #1e242a; --good: #6cc48e; --bad: #f0887b; --mark: #7db7dd; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--paper); margin: 0 auto;
  max-width: 1040px; padding: 24px; }
h1 { font-size: 24px; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 20px; margin: 36px 0 8px; }
h3 { font-size: 15px; margin: 20px 0 4px; } p { margin: 4px 0; } .quiet { color: var(--quiet); }
a { color: var(--mark); } code { font-size: 13px; overflow-wrap: anywhere; }
.champion { border-left: 6px solid var(--good); background: var(--soft); padding: 10px 16px; margin: 12px 0; }
.champion.none { border-color: var(--line); } .champion.unpromised { border-color: #c98a00; }
.charts { display: flex; flex-wrap: wrap; gap: 12px 28px; } figure { margin: 0; }
figcaption { font-size: 13px; color: var(--quiet); } svg { display: block; max-width: 100%; height: auto; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; margin: 8px 0; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--quiet); font-weight: 600; } .n { text-align: right; white-space: nowrap; }
td.time, td.links { white-space: nowrap; } td.why { min-width: 220px; overflow-wrap: anywhere; }
.deployed { color: var(--good); font-weight: 600; } .kept { font-weight: 600; }
.refused, .failed { color: var(--bad); font-weight: 600; }
@media (max-width: 600px) {
  body { padding: 14px; } thead { display: none; } tr { display: block; padding: 8px 0;
  border-bottom: 1px solid var(--line); } td { display: inline-block; border: 0; padding: 0 14px 0 0; }
  td.why { display: block; min-width: 0; } td[data-of]::before { content: attr(data-of) " ";
  color: var(--quiet); } .n { text-align: left; }
}
@media print { body { max-width: none; padding: 0; font-size: 11px; } .scroll { overflow: visible; } }
"""


def end_run(store: Storage, run: str, outcome: Outcome) -> None:
    """Write how a run ended, and the front page again."""
    write_outcome(store, run, outcome)
    rewrite(store)


def rewrite(store: Storage) -> None:
    """Write the front page again; a page that cannot be written stops nothing."""
    try:
        store.write(layout.FRONT_PAGE, write_page(store, datetime.now(UTC)).encode())
    except (DefectlineError, OSError) as error:
        what = error.what if isinstance(error, DefectlineError) else str(error)
        say(f"WARNING: {store.url(layout.FRONT_PAGE)} was not written again: {what}")


def write_page(store: Storage, now: datetime) -> str:
    """The page as text. Raises StoreError where the store cannot be listed."""
    runs = read_runs(store)
    by_model: dict[str, list[Ended]] = defaultdict(list)
    for run in runs:
        if run.model:
            by_model[run.model].append(run)
    current = {name: _champion(store, name) for name in by_model}
    products = [_product(store, name, by_model[name], current[name]) for name in sorted(by_model)] or [
        "<p>No run has reached its gate yet.</p>"
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(store.uri)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        "<header><h1>defectline</h1>\n"
        f"<p class=quiet>The store <code>{escape(store.uri)}</code>, {now:%Y-%m-%d %H:%M} UTC</p></header>\n"
        "<main>\n" + "\n".join(products) + _comparisons(store) + _runs_table(runs) + "</main>\n"
        "</body>\n</html>\n"
    )


def _champion(store: Storage, name: str) -> ChampionRecord | None:
    """That of the local target; a cluster remembers its own."""
    try:
        return read_champion(store, name)
    except DefectlineError:
        return None


def _product(store: Storage, name: str, runs: Sequence[Ended], local: ChampionRecord | None) -> str:
    """`runs` are those that reached the gate of this model, the newest first."""
    deployed = [run for run in runs if run.state == "deployed"]
    served = [run for run in runs if local and run.version == local.version] or deployed
    parts = [f'<section>\n<h2 id="{escape(name)}">{escape(name)}</h2>']
    parts.append(_tell_champion(served[0]) if served else '<p class="champion none">No champion yet.</p>')
    if waiting := _waiting(store, name):
        parts.append(
            f"<p>{waiting:,} frames of the line wait for review: <code>defectline review list --name "
            f"{escape(name)} --store {escape(store.uri)}</code></p>"
        )
    standings = compare([(run, read_json(store, run.run, layout.COUNTS, [])) for run in deployed[:CHAMPIONS]])
    if len(standings) > 1:
        parts.append(_history(standings))
    return "\n".join(parts) + "\n</section>\n"


def _tell_champion(run: Ended) -> str:
    test, spans = run.metrics.get("test", {}), run.metrics.get("test_intervals_95", {})
    said = []
    for key, label, what in (
        ("escape", "ng", "defective parts escaped"),
        ("overkill", "ok", "good parts rejected"),
    ):
        of, rate = test.get(label), test.get(key)
        if of and rate is not None:
            span = spans.get(key)
            most = f" (95 % interval {100 * span[0]:.1f} to {100 * span[1]:.1f} %)" if span else ""
            said.append(f"{round(rate * of)} of {of} {what}{most}")
    if test.get("iou") is not None:
        said.append(f"outlines overlap by {test['iou']:.2f} (IoU)")
    measured = escape("; ".join(said) or "nothing was measured")
    promised = _promises(run)
    promises = "".join(f"<p>{escape(str(one))}</p>\n" for one in promised)
    whole = test.get("ng") and all(one.holds for one in promised)
    kind = "champion" if whole else "champion unpromised"
    return (
        f'<div class="{kind}"><p><strong>Champion <code>{escape(run.version)}</code></strong>, judged '
        f"{_time(run.ended)}</p>\n"
        f"<p>On test pictures: {measured}.</p>\n{promises}<p>{_links(run)}</p></div>"
    )


def _promises(run: Ended) -> list[Promise]:
    """Those of metrics.json of another version are left out."""
    try:
        return [Promise.model_validate(one) for one in run.metrics.get("promises", ())]
    except (ValidationError, TypeError):
        return []


def _waiting(store: Storage, name: str) -> int:
    """Frames without a decision."""
    keys = {one.key for one in store.list(layout.review_prefix(name))}
    return sum(frame.decision not in keys for key in keys if (frame := layout.parse_frame_key(key)))


def _history(standings: Sequence[Standing]) -> str:
    last = standings[-1]
    charts = [draw_chart("IoU", [s.iou for s in standings])]
    if last.ng:
        charts.append(draw_chart("escapes", [s.escapes / last.ng for s in standings]))
    if last.ok:
        charts.append(draw_chart("overkills", [s.overkills / last.ok for s in standings]))
    columns: dict[str, list[Any]] = {
        "IoU": ["–" if s.iou is None else f"{s.iou:.3f}" for s in standings],
        "escapes": [s.escapes for s in standings],
        "overkills": [s.overkills for s in standings],
    }
    if any(s.looks for s in standings):
        charts.append(draw_chart("LOOK", [s.looks / (last.ng + last.ok) for s in standings]))
        columns["LOOK"] = [s.looks for s in standings]
    rows = "".join(
        f"<tr><td class=time>{_time(s.run.ended)}</td><td><code>{escape(s.run.version)}</code></td>"
        + "".join(f'<td class=n data-of="{name}">{values[at]}</td>' for name, values in columns.items())
        + f"<td>{_links(s.run)}</td></tr>"
        for at, s in reversed(list(enumerate(standings)))
    )
    return (
        f"<h3>Champions on the same {last.ng} defective and {last.ok} good test pictures</h3>\n"
        f'<div class="charts">{"".join(charts)}</div>\n<div class="scroll"><table><thead><tr><th>judged</th>'
        f"<th>version</th>{''.join(f'<th class=n>{name}</th>' for name in columns)}<th></th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _comparisons(store: Storage) -> str:
    """Cross-validations with the means of what they came to, and links to the pages of tunes."""
    tables = sorted(store.list(layout.CROSSVALS), key=lambda one: one.modified, reverse=True)
    tunes = [one for one in store.list(layout.TUNING) if one.key.endswith(f"/{layout.FRONT_PAGE}")]
    rows, settings = [], []
    for one in tables[:COMPARISONS]:
        try:
            found = json.loads(store.read(one.key))
            of, seeds = found.get("mean") or found["seeds"][0], len(found["seeds"])
            figures = [of[name] for name in ("iou", "escape", "overkill")]
            folds = len(found.get("runs", ())) // max(1, seeds)
            settings.append(str(found.get("settings", "")).split())
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            continue
        cells = "".join(
            f'<td class=n data-of="{name}">{"–" if value is None else f"{value:.3f}"}</td>'
            for name, value in zip(("IoU", "escape", "overkill"), figures, strict=True)
        )
        rows.append(
            f'<tr><td class=time>{_time(one.modified)}</td><td class=n data-of="folds">{folds or "–"}</td>'
            f'<td class=n data-of="seeds">{seeds}</td>{cells}'
            f'<td class=links><a href="{escape(one.key)}">all figures</a></td>'
        )
    told = ""
    if rows:
        shared = set(settings[0]).intersection(*settings)
        differing = [" ".join(text for text in texts if text not in shared) for texts in settings]
        rows = [
            f"{row}<td>{escape(text) or '–'}</td></tr>" for row, text in zip(rows, differing, strict=True)
        ]
        told += (
            "<h2>Cross-validations</h2>\n"
            '<div class="scroll"><table><thead><tr><th>written</th><th class=n>folds</th>'
            "<th class=n>seeds</th><th class=n>IoU</th><th class=n>escape</th><th class=n>overkill</th>"
            f"<th></th><th>settings that differ</th></tr></thead><tbody>{''.join(rows)}"
            "</tbody></table></div>\n"
        )
    if tunes:
        latest = sorted(tunes, key=lambda one: one.modified, reverse=True)[:COMPARISONS]
        links = " · ".join(f'<a href="{escape(one.key)}">{_time(one.modified)}</a>' for one in latest)
        told += f"<h2>Tunes</h2>\n<p>{links}</p>\n"
    return told


def _runs_table(runs: Sequence[Ended]) -> str:
    if not runs:
        return ""
    rows = "".join(
        f"<tr><td class=time>{_time(run.ended)}</td><td>{escape(run.model)}</td>"
        f'<td class="{run.state}">{escape(run.state.replace("_", " "))}</td>'
        f"<td class=why>{escape(run.outcome.reason if run.outcome else '')}</td>"
        f"<td class=links>{_links(run)}<br><code class=quiet>{escape(run.run)}</code></td></tr>"
        for run in runs
    )
    return (
        "<h2>Runs</h2>\n"
        '<div class="scroll"><table><thead><tr><th>last written</th><th>model</th><th>ended</th><th>why</th>'
        f"<th></th></tr></thead><tbody>{rows}</tbody></table></div>\n"
    )


def _links(run: Ended) -> str:
    named = {"report": layout.REPORT, "pictures": layout.PICTURES, "settings": layout.CONFIG}
    return " · ".join(
        f'<a href="{escape(layout.run_key(run.run, file))}">{name}</a>'
        for name, file in named.items()
        if file in run.files
    )


def _time(iso: str) -> str:
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M}"
