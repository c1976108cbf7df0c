"""Champions on the same test pictures: how models changed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from defectline.components.common.reporting.ended_runs import Ended

WIDTH, HEIGHT, MARGIN = 280, 90, 8
"""Of a chart, in px."""


class Standing(NamedTuple):
    """A champion on the test pictures that all of those compared have answered."""

    run: Ended
    ng: int
    ok: int
    escapes: int
    overkills: int
    looks: int
    """Parts of either label that a person would look at."""
    iou: float | None


def compare(champions: Sequence[tuple[Ended, Sequence[Mapping[str, Any]]]]) -> list[Standing]:
    """Champions, the newest first, with their counts.json: how each did on the pictures that all were tested
    on, the oldest first. Those before one that shares no picture with the newer ones are left out. Pure."""
    shared: set[str] = set()
    compared: list[tuple[Ended, dict[str, Mapping[str, Any]]]] = []
    for run, counts in champions:
        own = {str(count["id"]): count for count in counts}
        both = shared & own.keys() if compared else set(own)
        if not both:
            break
        shared = both
        compared.append((run, own))
    return [_standing(run, [own[id] for id in shared]) for run, own in reversed(compared)]


def _standing(run: Ended, counts: Sequence[Mapping[str, Any]]) -> Standing:
    bad = [count for count in counts if count["label"] == "NG"]
    good = [count for count in counts if count["label"] == "OK"]
    outlined = [count for count in counts if count.get("masked", True)]
    whole = sum(count["tp"] + count["fp"] + count["fn"] for count in outlined)
    return Standing(
        run,
        len(bad),
        len(good),
        sum(count["verdict"] == "OK" for count in bad),
        sum(count["verdict"] == "NG" for count in good),
        sum(count["verdict"] == "LOOK" for count in counts),
        sum(count["tp"] for count in outlined) / whole if whole else None,
    )


def draw_chart(what: str, values: Sequence[float | None]) -> str:
    """Values from 0 to 1, the oldest first, as SVG with what it says."""
    step = (WIDTH - 2 * MARGIN) / max(1, len(values) - 1)
    points = [
        (MARGIN + index * step, HEIGHT - MARGIN - value * (HEIGHT - 2 * MARGIN))
        for index, value in enumerate(values)
        if value is not None
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="var(--mark)"/>' for x, y in points)
    known = [value for value in values if value is not None]
    told = f"{what} {known[0]:.2f} to {known[-1]:.2f}" if known else f"{what} unknown"
    edges = "".join(
        f'<line x1="0" x2="{WIDTH}" y1="{y}" y2="{y}" stroke="var(--line)"/>'
        for y in (MARGIN, HEIGHT - MARGIN)
    )
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{told}">{edges}<polyline points="{line}" fill="none" stroke="var(--mark)" '
        f'stroke-width="2"/>{dots}</svg><figcaption>{told} (from 0 to 1)</figcaption></figure>'
    )
