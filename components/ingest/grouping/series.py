"""What names say about parts, where looks bear it out: one part under several lights, views or cameras.

Two ways of naming are known. The pictures of a part share the whole name but for one field (`p12_left`,
`p12_right`); or a field of few values rises within a part and falls where the next begins, in the order in
which another field counts (`exp1_num_811`, `exp3_num_830`, `exp1_num_902`).
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

MOST_VIEWS = 16
"""Values of a field that tells the pictures of a part from each other, at most."""
ENOUGH = 20
"""Parts of several pictures, below which names are not believed."""
BORNE_OUT = 0.7
"""Share of these parts of which looks must have joined at least two pictures."""
BY_CHANCE = 0.1
"""Share of pictures that follow each other in two parts and look like one, at most."""

_FIELDS = re.compile(r"\d+|[^\W\d_]+")


def find_series(ids: Sequence[str], together: Callable[[int, int], bool]) -> list[list[int]]:
    """Places of the pictures of each part, by the way of naming that `together` bears out best.

    `together` says of two places whether looks have joined them. Parts lie in one folder each. An empty list
    where no way of naming is borne out.
    """
    best, found = 0.0, list[list[int]]()
    for parts in _ways(ids):
        several = [part for part in parts if len(part) > 1]
        if len(several) < ENOUGH:
            continue
        joined = sum(any(together(a, b) for a, b in pairwise(part)) for part in several) / len(several)
        borders = [(one[-1], other[0]) for one, other in pairwise(parts)]
        chance = sum(together(a, b) for a, b in borders) / len(borders)
        if joined >= max(BORNE_OUT, best) and chance <= BY_CHANCE:
            best, found = joined, several
    return found


def _ways(ids: Sequence[str]) -> Iterator[list[list[int]]]:
    """The parts that each way of naming makes of the pictures."""
    shapes = defaultdict[str, list[int]](list)
    for index, name in enumerate(ids):
        shapes[_FIELDS.sub("#", name.rpartition("/")[2])].append(index)
    # Pictures whose names have other fields, such as a few that were added by hand, stay out.
    places = max(shapes.values(), key=len, default=[])
    folders = {index: ids[index].rpartition("/")[0] for index in places}
    fields = {index: _FIELDS.findall(ids[index].rpartition("/")[2]) for index in places}
    columns = list(zip(*fields.values(), strict=True))
    values = [len(set(column)) for column in columns]
    for view, count in enumerate(values):
        if not 2 <= count <= MOST_VIEWS:
            continue
        same = defaultdict[tuple[str, ...], list[int]](list)
        for index in places:
            rest = fields[index][:view] + fields[index][view + 1 :]
            same[folders[index], *rest].append(index)
        yield [same[key] for key in sorted(same)]
        for counter, different in enumerate(values):
            numbers = all(column.isdecimal() for column in columns[counter] + columns[view])
            if numbers and 2 * different > len(places):
                yield _rising(folders, fields, counter, view)


def _rising(
    folders: dict[int, str], fields: dict[int, list[str]], counter: int, view: int
) -> list[list[int]]:
    """Runs of pictures of a folder in which the field `view` rises, in the order of the field `counter`."""
    parts = list[list[int]]()
    for index in sorted(folders, key=lambda index: (folders[index], int(fields[index][counter]))):
        last = parts[-1][-1] if parts else None
        if (
            last is not None
            and folders[last] == folders[index]
            and int(fields[last][view]) < int(fields[index][view])
        ):
            parts[-1].append(index)
        else:
            parts.append([index])
    return parts
