"""The contact sheet: some of a source's pictures, and those that were rejected, on one page.

One HTML file without scripts, which needs nothing from outside: for the store and for KFP's page.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import SourceError
from defectline.components.common.images.drawing import outline, picture_uri
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.images.reading import UnreadableImage, decode_image
from defectline.components.common.snapshot import SPLITS, Pair
from defectline.components.common.storage import Storage

SAMPLES, NOTED, REJECTED = 24, 12, 24
"""Pictures shown at most."""
WIDTH_PX = 320
"""Small pictures are shown about this wide, large ones at most so."""
QUALITY = 80
"""Of WebP. Enough to see a scratch, and a page of a megabyte or two."""
READERS = 4
"""Pictures at work at once; each takes about ten bytes a pixel."""
LINE_PX = 2
"""Lossy pictures have colours at half their resolution, which a line of one pixel would not survive."""
COLOUR = (46, 204, 113)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2329; background: #fff; margin: 0 auto;
  max-width: 1120px; padding: 24px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 8px; }
p { margin: 4px 0; } .quiet { color: #5b6570; }
code { font-size: 13px; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 12px 0; }
th, td { text-align: right; padding: 4px 0 4px 20px; border-bottom: 1px solid #dde2e7; }
th { font-weight: 600; color: #5b6570; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(160px, 100%), 1fr)); gap: 16px; }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(310px, 100%), 1fr)); }
.card { border-top: 1px solid #dde2e7; padding-top: 10px; font-size: 13px; min-width: 0; }
.pair { display: flex; gap: 8px; align-items: flex-start; } .pair > * { flex: 1 1 0; min-width: 0; }
img { width: 100%; display: block; background: #000; }
.none { aspect-ratio: 3 / 1; display: flex; align-items: center; justify-content: center; color: #5b6570;
  background: #eef1f4; }
.reason { color: #a93226; overflow-wrap: anywhere; } .fix { color: #20693f; }
.OK { color: #20693f; font-weight: 600; } .NG { color: #a93226; font-weight: 600; }
"""


def draw_sheet(source: Storage, rows: Iterable[Pair], title: str) -> str:
    """The page about the pairs of a source, whose few pictures are read again by their keys.

    `rows` are accepted pairs, with or without splits, and rejected ones. The same rows give the same page.
    """
    rows = sorted(rows)
    accepted = [row for row in rows if row.accepted]
    rejected = [row for row in rows if row.status == "rejected"]
    noted = [row for row in accepted if row.note]
    with ThreadPoolExecutor(READERS) as readers:

        def cards(chosen: Sequence[Pair], card: Callable[[Storage, Pair], str], kind: str = "") -> str:
            return (
                f'<div class="cards {kind}">{"".join(readers.map(lambda r: card(source, r), chosen))}</div>'
            )

        samples = spread(accepted, SAMPLES, lambda row: (row.label, row.split))
        parts = [
            f"<h1>Pictures: {escape(title)}</h1>",
            f'<p class="quiet">From <code>{escape(source.uri)}</code></p>',
            _counts(accepted, len(rejected)),
            _heading("Rejected", len(rejected), REJECTED),
            cards(spread(rejected, REJECTED, _kind), _problem, "wide"),
            _heading("Changed to be used", len(noted), NOTED),
            cards(spread(noted, NOTED, lambda row: row.label), _problem, "wide"),
            _heading("Accepted", len(accepted), SAMPLES),
            '<p class="quiet">Defects are outlined as training sees them.</p>',
            cards(samples, _sample),
        ]
    page = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Pictures: {escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{page}\n</body>\n</html>\n"
    )


def spread(rows: Iterable[Pair], count: int, group: Callable[[Pair], object]) -> list[Pair]:
    """At most `count` rows by id, chosen by hash, of each group as many as of the others. Pure."""
    groups: dict[object, list[Pair]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.pixel_sha256 or row.image_sha256, row)):
        groups[group(row)].append(row)
    ranked = sorted((rank, row) for members in groups.values() for rank, row in enumerate(members))
    return sorted(row for _, row in ranked[:count])


def _kind(row: Pair) -> str:
    """What a reason says without its numbers and names: its first words."""
    return " ".join(re.sub(r"[\d:.,]", "", row.reason).split()[:5])


def _counts(accepted: Sequence[Pair], rejected: int) -> str:
    have = Counter((row.label, row.split) for row in accepted)
    splits = [split for split in (*SPLITS, "") if any(have[label, split] for label in LABELS)]
    head = "".join(f"<th>{split or 'not split'}</th>" for split in splits)
    lines = "".join(
        f'<tr><td class="{label}">{label}</td>'
        + "".join(f"<td>{have[label, split]:,}</td>" for split in splits)
        + f"<td>{sum(have[label, split] for split in splits):,}</td></tr>"
        for label in LABELS
    )
    return (
        f"<table><tr><th></th>{head}<th>in all</th></tr>{lines}</table>"
        f"<p>{len(accepted):,} pairs accepted, {rejected:,} rejected.</p>"
    )


def _heading(what: str, count: int, shown: int) -> str:
    note = f'<p class="quiet">{shown} of them are shown.</p>' if count > shown else ""
    return f"<h2>{what} ({count:,})</h2>{note}"


def _sample(source: Storage, row: Pair) -> str:
    picture = _decoded(source, row.image_key)
    truth = _truth(source, row.mask_key)
    details = f"{row.split or 'not split'}, {row.width}×{row.height}" + (
        f", {row.defect_px:,} px of defect" if row.defect_px else ""
    )
    return (
        f'<div class="card">{_figure(picture, truth, row.id)}'
        f'<span class="{row.label}">{row.label}</span> <code>{escape(row.id)}</code><br>'
        f'<span class="quiet">{details}</span></div>'
    )


def _problem(source: Storage, row: Pair) -> str:
    """Picture and mask side by side, as far as each can be shown, and what is said about them."""
    picture, truth = _decoded(source, row.image_key), _truth(source, row.mask_key)
    drawn = _decoded(source, row.mask_key) if truth is None else np.repeat(255 * truth[..., None], 3, axis=2)
    files = "<br>".join(f"<code>{escape(key)}</code>" for key in (row.image_key, row.mask_key) if key)
    said = f'<div class="reason">{escape(row.reason)}</div><div class="fix">{escape(row.fix)}</div>'
    if row.accepted:
        said = f"<div>{escape(row.note)}</div>"
    return (
        f'<div class="card"><div class="pair">{_figure(picture, truth, row.id)}'
        f"{_figure(drawn, None, f'mask of {row.id}')}</div>{files}{said}</div>"
    )


def _figure(picture: NDArray[np.uint8] | None, truth: NDArray[np.uint8] | None, name: str) -> str:
    if picture is None:
        return '<div class="none">no picture</div>'
    height, width = picture.shape[:2]
    scale = max(1, WIDTH_PX // width) if width <= WIDTH_PX else WIDTH_PX / width
    # A line scan may be a thousand times as long as wide: each side keeps a pixel at least.
    size = max(1, round(width * scale)), max(1, min(round(height * scale), 4 * WIDTH_PX))
    shown = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    if truth is not None and truth.shape == (height, width):
        shown = outline(np.asarray(shown, np.uint8), truth, COLOUR, LINE_PX)
    return f'<img src="{picture_uri(shown, QUALITY)}" alt="{escape(name)}">'


def _decoded(source: Storage, key: str) -> NDArray[np.uint8] | None:
    """The picture, uint8 RGB (H, W, 3), or None where none can be shown."""
    try:
        return decode_image(_read(source, key), channels=3)
    except UnreadableImage:
        return None


def _truth(source: Storage, key: str) -> NDArray[np.uint8] | None:
    try:
        return decode_mask(_read(source, key))
    except UnreadableImage:
        return None


def _read(source: Storage, key: str) -> bytes:
    """The file's bytes; none where it is gone, or its name is why the pair was rejected."""
    try:
        return source.read(key) if key else b""
    except (KeyError, SourceError):
        return b""
