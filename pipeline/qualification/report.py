"""The report of a qualification: one document, as a page and as a PDF, with nothing from outside."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import NamedTuple

from defectline.pipeline.qualification.agreement import LIMITS, Agreement, Share, level, parts_needed
from defectline.pipeline.qualification.checks import Row
from defectline.pipeline.qualification.qualify import Qualification

CLAIMS = (0.1, 0.05, 0.02, 0.01, 0.005, 0.001)
LONG = 24
"""Letters of a word that may be broken."""
SHOWN = 50
"""Wrong verdicts that are listed."""
WORDS = {True: "passed", False: "failed", None: "told"}
STYLE = """
:root { color-scheme: light dark; }
body {
  font: 15px/1.5 system-ui, sans-serif; color: #1d2329; background: #fff; margin: 0 auto; max-width: 900px;
  padding: 20px; overflow-wrap: anywhere;
}
h1 { font-size: 23px; margin: 0; }
h2 { font-size: 18px; margin: 30px 0 4px; }
.quiet, caption { color: #5b6570; }
.all { border-left: 6px solid #2e8b57; background: #f5f7f9; padding: 10px 14px; margin: 14px 0; }
.all.bad { border-color: #c0392b; border-left-style: double; border-left-width: 10px; }
.warning { border-left: 6px dashed #b7791f; padding: 4px 14px; margin: 14px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid #dde2e7; vertical-align: top; }
th, td { overflow-wrap: normal; }
th { color: #5b6570; font-weight: 600; }
td.long { overflow-wrap: anywhere; }
.good { color: #20693f; font-weight: 600; }
.bad { color: #a93226; font-weight: 600; }
.all.bad { color: inherit; font-weight: 400; }
@media (max-width: 600px) { th, td { font-size: 13px; padding-right: 8px; } body { padding: 14px; } }
@media (prefers-color-scheme: dark) {
  body { color: #e6e9ec; background: #14181c; }
  .quiet, th { color: #9aa5b0; }
  .all { background: #1e242a; }
  th, td { border-color: #3a434c; }
  .good { color: #6cc48e; }
  .bad { color: #f0887b; }
  .all.bad { color: inherit; }
}
@media print { body { max-width: none; padding: 0; font-size: 11px; } tr { break-inside: avoid; } }
"""
GOOD = {"passed", "acceptable"}
BAD = {"failed", "not acceptable"}


class Section(NamedTuple):
    title: str
    text: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def sections(found: Qualification) -> list[Section]:
    """The whole report, however it is drawn. Pure."""
    endpoint = found.endpoint
    return [
        _checks("IQ: what is installed", found.installation),
        _checks("OQ: does it work as it should", found.operation),
        Section(
            "PQ: rates",
            "By parts, since pictures of one part are not independent: a part is right where every verdict "
            "is. Intervals hold the true rate with a certainty of 95 % (Clopper and Pearson). Acceptable, or "
            f"else marginal, by AIAG, Measurement Systems Analysis, 4th edition: {_limits()}."
            + (f" {_looks(found)} LOOK." if found.looks else ""),
            ("who", "what", "parts", "rate", "95 % interval", ""),
            (
                *_rates("endpoint", endpoint),
                *(r for who, one in found.people.items() for r in _rates(who, one)),
            ),
        ),
        Section(
            "Who agrees with whom",
            "Of all pictures that both judged. Kappa (Cohen): 1 all alike, 0 as by chance.",
            ("", "", "pictures", "alike", "kappa"),
            tuple(
                (pair.first, pair.second, str(pair.pictures), str(pair.alike), _number(pair.kappa))
                for pair in found.pairs
            ),
        ),
        _claims(found),
        Section(
            "A little elsewhere, lit a little otherwise",
            "Each picture against itself: how many verdicts changed, and by how much the score at most.",
            ("what was done", "asked", "other verdicts", "score at most by"),
            tuple(
                (one.name, str(one.asked), str(one.changed), f"{one.furthest:.3f}") for one in found.changes
            ),
        ),
        Section(
            "Wrong verdicts",
            _of_wrong(len(found.wrong)),
            ("picture", "part", "truth", "verdict", "score"),
            tuple(
                (picture.path.name, picture.part, picture.truth, answer.verdict, f"{answer.score:.3f}")
                for picture, answer in found.wrong[:SHOWN]
            ),
        ),
    ]


def summary(found: Qualification) -> str:
    """What came of it, in a sentence."""
    if found.passed:
        return f"{found.name} {found.version} is qualified by this study."
    rows = (*found.installation, *found.operation)
    failed = [f"the check “{row.what}” failed" for row in rows if row.passed is False]
    bad = [name for name, one in found.endpoint.levels.items() if one == "not acceptable"]
    failed += [f"the {name} is not acceptable" for name in bad]
    return f"{found.name} {found.version} is not qualified: {'; '.join(failed)}."


def to_html(found: Qualification) -> str:
    """The page. Pure, but for the time that it names."""
    title = f"Qualification of {found.name}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"<p class=quiet>Version {escape(found.version)}, {_now()}</p>\n"
        f'<p class="all{"" if found.passed else " bad"}">{escape(summary(found))}</p>\n'
        + "".join(f'<p class="warning">Warning: {escape(one)}</p>\n' for one in found.warnings)
        + "\n".join(map(_html, sections(found)))
        + "\n</body>\n</html>\n"
    )


def to_pdf(found: Qualification, file: Path) -> None:
    """The same on paper, A4, with the fonts that Matplotlib brings along."""
    import matplotlib
    from fpdf import FPDF
    from fpdf.fonts import FontFace

    pdf = FPDF(format="A4")
    fonts = Path(matplotlib.get_data_path(), "fonts/ttf")
    pdf.add_font("text", "", fonts / "DejaVuSans.ttf")
    pdf.add_font("text", "B", fonts / "DejaVuSans-Bold.ttf")
    pdf.set_title(f"Qualification of {found.name} {found.version}")
    pdf.add_page()
    pdf.set_font("text", "B", 16)
    pdf.multi_cell(0, 9, f"Qualification of {found.name}", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("text", "", 9)
    pdf.multi_cell(0, 6, f"Version {found.version}, {_now()}", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("text", "B", 11)
    pdf.multi_cell(0, 8, summary(found), new_x="LMARGIN", new_y="NEXT")
    for warning in found.warnings:
        pdf.set_font("text", "", 9)
        pdf.multi_cell(0, 6, f"Warning: {warning}", new_x="LMARGIN", new_y="NEXT")
    for section in sections(found):
        pdf.ln(3)
        pdf.set_font("text", "B", 12)
        pdf.multi_cell(0, 8, section.title, new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("text", "", 8)
        pdf.multi_cell(0, 5, section.text, new_x="LMARGIN", new_y="NEXT")
        if section.rows:
            with pdf.table(
                text_align="LEFT", line_height=5, headings_style=FontFace(emphasis="BOLD")
            ) as table:
                for row in (section.columns, *section.rows):
                    table.row(row)
    file.write_bytes(bytes(pdf.output()))


def _checks(title: str, rows: Iterable[Row]) -> Section:
    found = tuple((row.what, WORDS[row.passed], row.found) for row in rows)
    return Section(title, "", ("check", "", "found"), found)


def _rates(who: str, one: Agreement) -> list[tuple[str, ...]]:
    shares = dict(zip(LIMITS, (one.effectiveness, one.misses, one.false_alarms), strict=True))
    rows: list[tuple[str, ...]] = [
        (who, name, *_share(share), level(name, share.rate)) for name, share in shares.items()
    ]
    rows.append((who, "the same each time", *_share(one.repeated), ""))
    rows.append((who, "kappa with the truth", "", _number(one.kappa), "", ""))
    return rows


def _limits() -> str:
    return "; ".join(
        f"{name} {'from' if acceptable > marginal else 'up to'} {acceptable:g}, or {marginal:g}"
        for name, (acceptable, marginal) in LIMITS.items()
    )


def _looks(found: Qualification) -> str:
    return f"{found.looks:,} of {found.pictures:,} verdicts {'is' if found.looks == 1 else 'are'}"


def _share(share: Share) -> tuple[str, str, str]:
    span = share.interval
    return (
        f"{share.number} of {share.of}",
        _number(share.rate),
        f"{span[0]:.3f} to {span[1]:.3f}" if span else "–",
    )


def _claims(found: Qualification) -> Section:
    misses = found.endpoint.misses
    if misses.at_most is None:
        text = "Without a defective part nothing is known of escapes."
    else:
        text = (
            f"{misses.number} of {misses.of} defective parts escaped: with a certainty of 95 % at most "
            f"{100 * misses.at_most:.2g} % do. That at most {100 * found.claim:.3g} % escape is "
            f"{'proved' if found.claim_holds else 'not proved'} by this study."
        )
    rows = tuple(
        (f"{100 * rate:g} %", f"{parts_needed(rate):,}") for rate in sorted({*CLAIMS, found.claim})[::-1]
    )
    return Section(
        "What can be claimed",
        text,
        ("at most so many escape", "defective parts, none of which escapes"),
        rows,
    )


def _of_wrong(count: int) -> str:
    if not count:
        return "None."
    return f"The first {SHOWN} of {count:,}." if count > SHOWN else ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _html(section: Section) -> str:
    text = f"<p>{escape(section.text)}</p>\n" if section.text else ""
    if not section.rows:
        return f"<h2>{escape(section.title)}</h2>\n{text}"
    head = "".join(f"<th>{escape(name)}</th>" for name in section.columns)
    rows = "".join(f"<tr>{_cells(row)}</tr>\n" for row in section.rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>"
    return f'<h2>{escape(section.title)}</h2>\n{text}<div class="scroll" tabindex="0">{table}</div>'


def _cells(row: Sequence[str]) -> str:
    return "".join(f'<td class="{_kind(cell)}">{escape(cell)}</td>' for cell in row)


def _kind(cell: str) -> str:
    if cell in GOOD or cell in BAD:
        return "good" if cell in GOOD else "bad"
    # A digest, or a path.
    return "long" if max(map(len, cell.split()), default=0) > LONG else ""
