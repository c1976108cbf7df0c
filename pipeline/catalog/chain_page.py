"""The chain as a page: for a phone, in the dark, on paper, and without network."""

from datetime import UTC, datetime
from html import escape
from itertools import groupby

from defectline.pipeline.catalog.chain import Chain, Link

STYLE = """
:root { color-scheme: light dark; }
body {
  font: 15px/1.5 system-ui, sans-serif; color: #1d2329; background: #fff; margin: 0 auto; max-width: 760px;
  padding: 20px; overflow-wrap: anywhere;
}
h1 { font-size: 22px; margin: 0; }
h2 { font-size: 15px; margin: 22px 0 4px; }
.quiet { color: #5b6570; }
.all { border-left: 6px solid #2e8b57; background: #f5f7f9; padding: 10px 14px; margin: 14px 0; }
.all.broken { border-color: #c0392b; border-left-style: double; border-left-width: 10px; }
ol { list-style: none; margin: 0; padding: 0 0 0 10px; }
li { border-left: 3px solid #2e8b57; padding: 4px 0 4px 16px; break-inside: avoid; }
li.broken { border-left: 3px dashed #c0392b; }
li.none { border-left: 3px dotted #8a949e; }
.word { color: #20693f; }
.broken .word { color: #a93226; }
.none .word { color: #5b6570; }
@media (prefers-color-scheme: dark) {
  body { color: #e6e9ec; background: #14181c; }
  .quiet, .none .word { color: #9aa5b0; }
  .all { background: #1e242a; }
  .word { color: #6cc48e; }
  .broken .word { color: #f0887b; }
}
@media print { body { max-width: none; padding: 0; font-size: 11px; } .all { print-color-adjust: exact; } }
"""
CLASSES = {"proved": "proved", "broken": "broken", "not proved": "none", "not there": "none"}


def write_page(what: str, chain: Chain) -> str:
    """The page as text. Pure, but for the time that it names."""
    broken = chain.broken
    if broken:
        said = f"Broken: {broken.name} of {broken.version or 'the store'}. {broken.says}"
    elif chain.signed:
        said = "Proved: every link that is there, and every signature."
        said += f" Not there: {', '.join(chain.missing)}." if chain.missing else ""
    else:
        said = (
            "Every seal fits. No key was given, so no signature was checked: who can write to the store "
            "can make seals fit."
        )
    parts = [
        f"<h2>{escape(version or 'The store')}</h2>\n<ol>{''.join(map(_item, links))}</ol>"
        for version, links in groupby(chain.links, key=lambda link: link.version)
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Chain of {escape(what)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Chain of {escape(what)}</h1>\n"
        f"<p class=quiet>Verified {datetime.now(UTC):%Y-%m-%d %H:%M} UTC</p>\n"
        f'<p class="all{" broken" if broken else ""}">{escape(said)}</p>\n'
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _item(link: Link) -> str:
    return (
        f'<li class="{CLASSES[link.state]}"><b>{escape(link.name)}</b> '
        f'<span class="word">{link.state}</span><br>{escape(link.says)}</li>'
    )
