"""Near twins: pictures that look so much alike that they show one part, where nothing says what they show.

Few of all pairs of pictures are compared. Those that might be alike are found by hashing what a shift does
not change, in a time that grows with the number of pictures; each is then looked at in detail.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.snapshot import Pair
from defectline.components.ingest.grouping.groups import TWIN
from defectline.components.ingest.grouping.looks import PLAIN, SIDE, Likeness, unpack
from defectline.components.ingest.grouping.series import find_series

ALIKE = 0.6
"""Likeness of two pictures of one part, at least."""
STANDS_OUT = 8.0
"""By how many times their spread (MAD) a likeness must be above those of the source's pictures in general."""
NEXT_FRAME = 0.1
"""By how much less two pictures of a folder may be alike of which one follows the other by its number."""
LOOSER = 0.15
"""By how much less two members of a group may be alike: a part moves from picture to picture."""
MEMBERS = 4
"""Of each group that are looked at before two are joined."""
SMALL = 64
"""A source with so few pictures has all of them compared."""
DRAWN = 300
"""Pairs that say how much pictures of the source are alike in general."""

FREQUENCIES = 8
TABLES = 32
NEXT = 4
"""Neighbours in a bucket, and in the order of names, that a picture is compared with."""
MAY_BE = 0.45
"""Cosine of two spectra, below which two pictures are not compared in detail."""
BEST = 8
"""Candidates of a picture that are compared in detail."""
BLOCK = 512
"""Pictures, or pairs of them, at a time: more is no faster and takes more memory."""


def join_twins(pairs: Iterable[Pair], earlier: Iterable[Pair]) -> list[Pair]:
    """The pairs with the groups of near twins, where they have no other group.

    What an earlier snapshot joined stays together. Two groups become one where a picture of the one is like
    one of the other and at least half of the members looked at are nearly so, the likeliest first: a
    chain of pictures, each a little like the next, does not join what differs. Pure; the same pictures give
    the same groups in any order.
    """
    pairs = list(pairs)
    pool = {
        pair.pixel_sha256: pair
        for pair in sorted(pairs)
        if pair.status != "rejected" and pair.look not in ("", PLAIN) and _is_free(pair)
    }
    pixels = sorted(pool)
    before = {pair.pixel_sha256: pair.group for pair in earlier if pair.look and _is_free(pair)}
    new = np.array([one not in before for one in pixels], bool)
    groups = _Groups([before.get(one, "") for one in pixels])
    if new.any():
        looks = [pool[one].look for one in pixels]
        likeness = Likeness(looks, shared_cells(looks))
        least = _least(likeness, len(pixels))
        ids = [pool[name].id for name in pixels]
        place = {index: number for number, index in enumerate(_by_number(ids))}
        for one, other in _candidates(looks, ids, new):
            needed = least - NEXT_FRAME if abs(place[one] - place[other]) == 1 else least
            if not groups.together(one, other) and likeness(one, other, needed) >= needed:
                groups.join(one, other, likeness, needed - LOOSER)
        for part in find_series(ids, groups.together):
            groups.put_together(part)
    names = {}
    for members in groups.several():
        name = TWIN + min(pool[pixels[member]].id for member in members)
        names.update({pixels[member]: name for member in members})
    return [
        pair._replace(group=names.get(pair.pixel_sha256, "")) if pair.pixel_sha256 in pool else pair
        for pair in pairs
    ]


def _is_free(pair: Pair) -> bool:
    return not pair.group or pair.group.startswith(TWIN)


def shared_cells(looks: Sequence[str]) -> NDArray[np.float32]:
    """What the pictures have in common, such as the shape of a part that always lies in one place."""
    total = np.zeros((SIDE, SIDE), np.float64)
    for look in looks:
        total += unpack(look)
    # Few pictures do not tell what they share from what a few of them show.
    return (total / (len(looks) + SMALL)).astype(np.float32)


def _least(likeness: Likeness, count: int) -> float:
    """The likeness of near twins in this source: where all pictures are alike, they are more so."""
    if count <= SMALL:
        return ALIKE
    random = np.random.default_rng(0)
    drawn = random.integers(0, count, (DRAWN, 2))
    scores = np.array([likeness(int(one), int(other)) for one, other in drawn if one != other])
    middle = np.median(scores)
    return max(ALIKE, float(middle + STANDS_OUT * np.median(np.abs(scores - middle))))


def _candidates(
    looks: Sequence[str], ids: Sequence[str], new: NDArray[np.bool_]
) -> Iterator[tuple[int, int]]:
    """Pairs of pictures that might be alike, one of each `new` or both; each once, the likeliest first."""
    count = len(looks)
    if count <= SMALL:
        yield from ((a, b) for a in range(count) for b in range(a + 1, count) if new[a] or new[b])
        return
    spectra = _spectra(looks)
    by_name = sorted(range(count), key=lambda index: _natural(ids[index]))
    found = [_neighbours(np.array(order), None) for order in (by_name, _by_number(ids))]
    random = np.random.default_rng(0)
    bits = max(4, int(np.log2(count)) - 3)
    for _ in range(TABLES):
        lines = spectra @ random.normal(size=(spectra.shape[1], bits + 1)).astype(np.float32)
        keys = (lines[:, :bits] > np.median(lines[:, :bits], axis=0)) @ (1 << np.arange(bits))
        order = np.lexsort((lines[:, bits], keys))
        found.append(_neighbours(order, keys[order]))
    edges = np.concatenate(found)
    # numpy's unique() hashes, which takes ten times as long.
    edges.sort()
    edges = edges[np.r_[True, edges[1:] != edges[:-1]]]
    one, other = edges // count, edges % count
    kept = new[one] | new[other]
    one, other = one[kept], other[kept]
    cosines = np.concatenate(
        [
            np.einsum("ij,ij->i", spectra[one[start : start + BLOCK]], spectra[other[start : start + BLOCK]])
            for start in range(0, len(one), BLOCK)
        ]
        or [np.zeros(0, np.float32)]
    )
    likely = np.flatnonzero(cosines >= MAY_BE)
    used = np.zeros(count, np.int64)
    for index in likely[np.argsort(-cosines[likely], kind="stable")]:
        a, b = int(one[index]), int(other[index])
        if used[a] < BEST or used[b] < BEST:
            used[a] += 1
            used[b] += 1
            yield a, b


def _neighbours(order: NDArray[np.int64], keys: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Pairs of places that are near each other in an order, and have one key, as numbers a * count + b."""
    found = []
    for step in range(1, NEXT + 1):
        one, other = order[:-step], order[step:]
        if keys is not None:
            alike = keys[:-step] == keys[step:]
            one, other = one[alike], other[alike]
        found.append(np.minimum(one, other) * len(order) + np.maximum(one, other))
    return np.concatenate(found)


def _spectra(looks: Sequence[str]) -> NDArray[np.float32]:
    """How much of each low frequency a look has, which a shift does not change, (N, F); rows of length 1."""
    window = np.outer(np.hanning(SIDE), np.hanning(SIDE)).astype(np.float32)
    found = []
    for start in range(0, len(looks), BLOCK):
        cells = np.stack([unpack(look) for look in looks[start : start + BLOCK]])
        across = np.fft.rfft(cells * window, axis=2)[:, :, : FREQUENCIES + 1]
        waves = np.abs(np.fft.fft(across, axis=1))
        # The other half of those without a part across are the same again.
        down = np.r_[1 : FREQUENCIES + 1, SIDE - FREQUENCIES : SIDE]
        found.append(
            np.concatenate(
                [
                    waves[:, : FREQUENCIES + 1, 0][:, 1:],
                    waves[:, 0, 1:],
                    waves[:, down, 1:].reshape(len(cells), -1),
                ],
                axis=1,
            )
        )
    spectra = np.sqrt(np.concatenate(found)).astype(np.float32)
    spectra -= spectra.mean(axis=0)
    spectra /= spectra.std(axis=0) + 1e-6
    return spectra / np.maximum(np.linalg.norm(spectra, axis=1, keepdims=True), 1e-6)


def _by_number(ids: Sequence[str]) -> list[int]:
    """Places of pictures, those of a folder in the order of the last number in their names: cameras count."""

    def key(index: int) -> tuple[str, int, str]:
        folder, _, name = ids[index].rpartition("/")
        numbers = re.findall(r"\d+", name)
        return folder, int(numbers[-1]) if numbers else 0, name

    return sorted(range(len(ids)), key=key)


def _natural(name: str) -> list[tuple[int, str]]:
    """Names in the order of their numbers: pictures of one part are often named one after another."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


class _Groups:
    """Which pictures belong together so far."""

    def __init__(self, names: Sequence[str]):
        self._members = {index: [index] for index in range(len(names))}
        self._group = list(range(len(names)))
        first: dict[str, int] = {}
        for index, name in enumerate(names):
            if name:
                self._merge(first.setdefault(name, index), index)

    def together(self, one: int, other: int) -> bool:
        return self._group[one] == self._group[other]

    def join(self, one: int, other: int, likeness: Likeness, least: float) -> None:
        """Make one group of two, where enough of their members are alike."""
        pairs = [
            (a, b)
            for a in self._members[self._group[one]][:MEMBERS]
            for b in self._members[self._group[other]][:MEMBERS]
        ]
        if 2 * sum(likeness(a, b, least) >= least for a, b in pairs) >= len(pairs):
            self._merge(one, other)

    def put_together(self, part: Sequence[int]) -> None:
        """Make one group of these pictures, and of those that were together with them."""
        for one, other in pairwise(part):
            self._merge(one, other)

    def _merge(self, one: int, other: int) -> None:
        small, large = sorted(
            (self._group[one], self._group[other]), key=lambda g: (len(self._members[g]), g)
        )
        if small != large:
            for member in self._members[small]:
                self._group[member] = large
            self._members[large] += self._members.pop(small)

    def several(self) -> Iterator[list[int]]:
        return (members for members in self._members.values() if len(members) > 1)
