"""The contact sheet: some of a source's pictures by class and group, and those that were rejected.

One HTML file without scripts, which needs nothing from outside: for the store and for KFP's page.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import DEFAULT_CLASSES, DEFECT, LABELS
from defectline.components.common.errors import Corrupt, SourceError, Unreadable
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.images.reading import UnreadableImage, decode_image
from defectline.components.common.images.roi import load_rois
from defectline.components.common.legend import class_table, counted, is_numbered, read_areas
from defectline.components.common.snapshot import SPLITS, Pair
from defectline.components.common.storage import Object, Storage
from defectline.components.ingest.checks import reason_kind
from defectline.components.ingest.examples import Good, paint_examples
from defectline.components.ingest.figures import colour, coloured, figure
from defectline.components.ingest.grouping.masks import find_contradictions
from defectline.components.ingest.labels.records import marked
from defectline.components.ingest.labels.telling import count_unmasked
from defectline.components.ingest.readers.base import Record

SAMPLES, NOTED, REJECTED = 24, 12, 24
"""Pictures shown at most."""
READERS = 4
"""Pictures at work at once; each takes about ten bytes a pixel."""
CONTRADICTIONS = 6
EXAMPLES = 12
"""Of synthetic defects, at most."""
GROUPS, GROUP_PICTURES = 3, 6
"""Groups, and pictures of each, that are shown."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2329; background: #fff; margin: 0 auto;
  max-width: 1120px; padding: 24px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 8px; }
h3 { font-size: 15px; margin: 20px 0 4px; }
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
.swatch { display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 2px; }
.dimmed { background: #555; border: 2px solid #e6e6e6; box-sizing: border-box; }
.hatched { background: repeating-linear-gradient(45deg, #1d2329 0 2px, #fff 2px 5px); }
"""


class About(NamedTuple):
    """What is said of all pictures together."""

    classes: Sequence[str] = DEFAULT_CLASSES
    class_map: Mapping[str, str] = MappingProxyType({})
    """As in Snapshot."""
    lines: Sequence[str] = ()
    """Which layout the source has, what was ignored and the like, a sentence each."""
    store: Storage | None = None
    """Has the regions of interest; without it they are not shown."""
    records: Mapping[str, Record] = MappingProxyType({})
    """Image key → where its label comes from, for masks that are drawn from annotations."""

    @property
    def several(self) -> bool:
        """Whether there are several classes."""
        return len(self.classes) > 1


NOTHING_SAID = About()
Card = Callable[[Storage, Pair, About], str]


def draw_sheet(source: Storage, rows: Iterable[Pair], title: str, about: About = NOTHING_SAID) -> str:
    """The page about the pairs of a source, whose few pictures are read again by their keys.

    `rows` are accepted pairs, with or without splits, and rejected ones. The same rows give the same page.
    """
    rows = sorted(rows)
    accepted = [row for row in rows if row.accepted]
    rejected = [row for row in rows if row.status == "rejected"]
    noted = [row for row in accepted if row.note]
    found = {row: tuple(sorted(counted(row, about.class_map))) for row in accepted}
    sections = [
        ("Rejected", rejected, spread(rejected, REJECTED, reason_kind), "wide", _problem),
        ("Changed to be used", noted, spread(noted, NOTED, lambda row: row.label), "wide", _problem),
        (
            "Accepted",
            accepted,
            spread(accepted, SAMPLES, lambda row: (row.label, found[row][:1], row.split)),
            "",
            _sample,
        ),
    ]
    parts = [
        f"<h1>Pictures: {escape(title)}</h1>",
        f'<p class="quiet">From <code>{escape(source.uri)}</code></p>',
        *(f'<p class="quiet">{escape(line)}</p>' for line in about.lines),
        _counts(accepted, len(rejected)),
        _classes(accepted, about),
    ]
    with ThreadPoolExecutor(READERS) as readers:

        def cards(chosen: Sequence[Pair], kind: str, card: Card) -> str:
            drawn = readers.map(lambda row: card(source, row, about), chosen)
            return f'<div class="cards {kind}">{"".join(drawn)}</div>'

        for name, all_of_it, chosen, kind, card in sections:
            if all_of_it:
                parts.append(_heading(name, len(all_of_it), len(chosen)) + cards(chosen, kind, card))
        contradictions = find_contradictions(accepted)
        if contradictions:
            shown = contradictions[:CONTRADICTIONS]
            both = readers.map(
                lambda row: _sample(source, row, about), (row for pair in shown for row in pair)
            )
            sides = "".join(f'<div class="pair">{one}{next(both)}</div>' for one in both)
            parts.append(_heading("Look the same, masks differ", len(contradictions), len(shown)))
            parts.append(f'<div class="cards wide">{sides}</div>')
        groups = _groups(accepted)
        if groups:
            parts.append(_heading("Groups of two or more", len(groups), min(GROUPS, len(groups))))
        for name, members in groups[:GROUPS]:
            few = spread(members, GROUP_PICTURES, lambda row: row.label)
            parts.append(f"<h3>{escape(name)} ({len(members):,} pictures)</h3>{cards(few, '', _sample)}")
        parts.append(_examples(source, accepted, about, readers))
    page = "\n".join(part for part in parts if part)
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


def _counts(accepted: Sequence[Pair], rejected: int) -> str:
    splits = _splits(accepted)
    lines = [
        (f'<td class="{label}">{label}</td>', [row for row in accepted if row.label == label])
        for label in LABELS
    ]
    unmasked = count_unmasked(accepted)
    if unmasked:
        lines.append(("<td>NG without a mask</td>", [row for row in accepted if not row.masked]))
    told = f"<p>{unmasked[:1].upper()}{unmasked[1:]}.</p>" if unmasked else ""
    return f"{_table(splits, lines)}<p>{len(accepted):,} pairs accepted, {rejected:,} rejected.</p>{told}"


def _classes(accepted: Sequence[Pair], about: About) -> str:
    """The classes with their colours and how many pictures have them, and how to see what does not count."""
    parts = []
    if tuple(about.classes) != DEFAULT_CLASSES:
        found = [(row, counted(row, about.class_map)) for row in accepted]
        lines = [
            (
                f"<td>{_named(name, colour(number, about.several))}</td>",
                [row for row, names in found if name in names],
            )
            for number, name in enumerate(about.classes, 1)
        ]
        parts.append(_table(_splits(accepted), lines, "pictures with"))
    mapped = [f"{old} is {new}" for old, new in sorted(about.class_map.items())]
    if mapped:
        parts.append(f'<p class="quiet">By class_map: {escape(", ".join(mapped))}.</p>')
    if some := sum(sum(read_areas(row).values()) > row.defect_px for row in accepted):
        parts.append(
            f'<p><span class="swatch hatched"></span>does not count, in {some:,} pictures: '
            "neither good nor a defect.</p>"
        )
    if inside := sum(bool(row.roi) for row in accepted):
        parts.append(
            f'<p><span class="swatch dimmed"></span>dimmed: outside of the region of interest, in {inside:,} '
            "pictures: does not count.</p>"
        )
    return "".join(parts)


def _table(splits: Sequence[str], lines: Sequence[tuple[str, Sequence[Pair]]], of: str = "") -> str:
    """How many pictures of each line are in each split."""
    head = "".join(f"<th>{split or 'not split'}</th>" for split in splits)
    body = []
    for name, rows in lines:
        have = Counter(row.split for row in rows)
        cells = "".join(f"<td>{have[split]:,}</td>" for split in splits)
        body.append(f"<tr>{name}{cells}<td>{len(rows):,}</td></tr>")
    return f"<table><tr><th>{of}</th>{head}<th>in all</th></tr>{''.join(body)}</table>"


def _splits(accepted: Sequence[Pair]) -> list[str]:
    there = {row.split for row in accepted}
    return [split for split in (*SPLITS, "") if split in there]


def _groups(accepted: Sequence[Pair]) -> list[tuple[str, list[Pair]]]:
    """The groups of several pictures, the largest first."""
    found: dict[str, list[Pair]] = defaultdict(list)
    for row in accepted:
        if row.group:
            found[row.group].append(row)
    several = [(name, rows) for name, rows in found.items() if len(rows) > 1]
    return sorted(several, key=lambda group: (-len(group[1]), group[0]))


def _named(name: str, colour: tuple[int, int, int]) -> str:
    """A class with its colour in front, from which no line break parts it."""
    square = f"linear-gradient(rgb{colour}, rgb{colour}) 0 50% / 12px 12px no-repeat"
    return f'<span style="padding-left: 18px; background: {square}">{escape(name)}</span>'


def _heading(what: str, count: int, shown: int) -> str:
    note = f'<p class="quiet">{shown} of them are shown.</p>' if count > shown else ""
    return f"<h2>{what} ({count:,})</h2>{note}"


def _sample(source: Storage, row: Pair, about: About) -> str:
    picture, truth, roi = _drawn(source, row, about)
    details = [row.split or "not split", f"{row.width}×{row.height}"]
    areas = counted(row, about.class_map)
    if tuple(about.classes) == DEFAULT_CLASSES:
        details += [f"{row.defect_px:,} px of defect"] if row.defect_px else []
    else:
        details += [f"{count:,} px of {name}" for name, count in areas.items()]
    details += [] if row.masked else ["no mask"]
    if (left := sum(read_areas(row).values()) - sum(areas.values())) > 0:
        details.append(f"{left:,} px that do not count")
    return (
        f'<div class="card">{figure(picture, truth, roi, row.id, about.several)}'
        f'<span class="{row.label}">{row.label}</span> <code>{escape(row.id)}</code><br>'
        f'<span class="quiet">{escape(", ".join(details))}</span></div>'
    )


def _problem(source: Storage, row: Pair, about: About) -> str:
    """Picture and mask side by side, as far as each can be shown, and what is said about them."""
    picture, truth, roi = _drawn(source, row, about)
    mask = _decoded(source, row.mask_key) if truth is None else coloured(truth, about.several)
    files = "<br>".join(f"<code>{escape(key)}</code>" for key in (row.image_key, row.mask_key) if key)
    said = f'<div class="reason">{escape(row.reason)}</div><div class="fix">{escape(row.fix)}</div>'
    if row.accepted:
        said = f"<div>{escape(row.note)}</div>"
    return (
        f'<div class="card"><div class="pair">{figure(picture, truth, roi, row.id, about.several)}'
        f"{figure(mask, None, None, f'mask of {row.id}', about.several)}</div>{files}{said}</div>"
    )


def _examples(source: Storage, accepted: Sequence[Pair], about: About, readers: ThreadPoolExecutor) -> str:
    """Some of the training part's good pictures with synthetic defects; nothing where there is no split."""
    good = [row for row in accepted if (row.split, row.label) == ("train", "OK")]

    def read(row: Pair) -> Good | None:
        picture, _, roi = _drawn(source, row, about)
        return None if picture is None else Good(row.id, picture, roi)

    chosen = spread(good, EXAMPLES, lambda row: row.group or row.id)
    cards = paint_examples([one for one in readers.map(read, chosen) if one])
    if not cards:
        return ""
    return (
        "<h2>Synthetic defects that training may paint into good pictures</h2>"
        '<p class="quiet">Only where training begins with them: where few images have a marked defect, or '
        "with pretraining=always. Drawn at random; as painted, and with what is seen or nearly seen "
        "outlined.</p>"
        f'<div class="cards wide">{"".join(cards)}</div>'
    )


def _drawn(
    source: Storage, row: Pair, about: About
) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    """Picture, mask and region of interest, as `figure` takes them."""
    picture, truth = _decoded(source, row.image_key), _truth(source, row, about)
    roi = load_rois(about.store, [row.roi])[row.roi] if about.store and row.roi else None
    # What is rejected may be so for what its mask marks outside.
    if row.accepted and truth is not None and roi is not None and truth.shape == roi.shape:
        truth = truth * roi
    return picture, truth, roi


def _decoded(source: Storage, key: str) -> NDArray[np.uint8] | None:
    """The picture, uint8 RGB (H, W, 3), or None where none can be shown."""
    try:
        return decode_image(_read(source, key), channels=3)
    except UnreadableImage:
        return None


def _truth(source: Storage, row: Pair, about: About) -> NDArray[np.uint8] | None:
    """The numbers of classes in the row's mask; None where it has none, or none that can be read."""
    record = about.records.get(row.image_key)
    try:
        if row.mask_key and record and not isinstance(record.mask, Object | None):
            _, mask = marked(record, row, _read(source, row.mask_key))
            if mask is None or isinstance(mask, bytes):
                return None
            values = mask.draw(row.height, row.width)
        else:
            values = decode_mask(_read(source, row.mask_key), is_numbered(row))
        if not read_areas(row):
            return np.minimum(values, DEFECT)
        return cv2.LUT(values, class_table(row, about.classes, about.class_map))
    except (SourceError, Corrupt, Unreadable):
        return None


def _read(source: Storage, key: str) -> bytes:
    """The file's bytes; none where it is gone, or its name is why the pair was rejected."""
    try:
        return source.read(key) if key else b""
    except (KeyError, SourceError, Corrupt, Unreadable):
        return b""
