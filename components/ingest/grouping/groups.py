"""Which pictures show one part, and so never lie on two sides: as the user says, or the source's layout."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from defectline.components.common.errors import SourceError
from defectline.components.common.snapshot import Pair
from defectline.components.common.steps import say
from defectline.components.ingest.split_file import NOT_LISTED, Listed, find_listed, some
from defectline.components.ingest.splits import assign_splits, split_groups

NO_PATTERN = "none"
"""`group_by` where nothing is said."""
TWIN = "~"
"""What the names of groups begin with that only looks say."""
TOO_FEW_PARTS = "too few parts are left where pictures that look alike stay together: each is split alone"
SHOWN = 3
"""Groups, or pictures, that a line names."""


def check_pattern(pattern: str) -> str:
    """The `pattern`, a regular expression with one capturing group. Raises ValueError."""
    if pattern == NO_PATTERN:
        return pattern
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"a regular expression; this is not one: {error}") from error
    if groups != 1:
        raise ValueError(f"a regular expression with one capturing group (…); this has {groups}")
    return pattern


def name_groups(pairs: Iterable[Pair], listed: Sequence[Listed], pattern: str) -> list[Pair]:
    """The pairs with their groups as far as something says them.

    The rows of splits.csv count most, then the `pattern` (`group_by`) where one is set, then the groups that
    the pairs have, from their layout or an earlier snapshot. Ids that the pattern does not match stand alone
    and are counted. Raises SourceError where it matches none, and where one picture is listed in two groups.
    """
    pairs = list(pairs)
    given = find_listed(listed, present(pairs))
    named = []
    for pair in pairs:
        if pattern == NO_PATTERN:
            group = pair.group
        else:
            # An optional part of the expression may have matched nothing.
            found = re.search(pattern, pair.id)
            group = (found and found[1]) or ""
        row = given.get(pair.pixel_sha256, NOT_LISTED)
        group = row.group or group
        named.append(pair if pair.group == group else pair._replace(group=group))
    ids = [pair.id for pair in named if pair.accepted and pattern != NO_PATTERN]
    unmatched = [pair.id for pair in named if pair.accepted and pattern != NO_PATTERN and not pair.group]
    if unmatched and len(unmatched) == len(ids):
        raise SourceError(
            "group_by matches no picture.",
            got=f"group_by={pattern} and ids such as {', '.join(sorted(unmatched)[:SHOWN])}",
            expected="a regular expression that finds the part's name in the id, <label>/<name>",
            fix="Correct it, or leave it out.",
        )
    if unmatched:
        say(
            f"group_by does not match {len(unmatched)} of {len(ids)} ids, which stand alone: "
            f"{_few(unmatched)}"
        )
    return named


def assign_sides(pairs: Sequence[Pair], known: Mapping[str, str], class_map: Mapping[str, str]) -> list[Pair]:
    """As `assign_splits`; looks alone never leave too few parts: such pictures then stand alone."""
    try:
        return assign_splits(pairs, known, class_map)
    except SourceError:
        alone = without_twins(pairs)
        if alone == list(pairs):
            raise
        rows = assign_splits(alone, known, class_map)
        say(TOO_FEW_PARTS)
        return rows


def without_twins(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs, those grouped by looks alone without their group."""
    return [pair._replace(group="") if pair.group.startswith(TWIN) else pair for pair in pairs]


def check_sides(pairs: Iterable[Pair], listed: Sequence[Listed], decided: Mapping[str, str]) -> None:
    """Say which groups lie on two sides. `pairs` are accepted ones, and those that left.

    `decided` are the splits of earlier snapshots by pixel hash. Raises SourceError where rows of splits.csv
    put pictures of a group on another side than the others, unless only looks make them one.
    """
    pairs = list(pairs)
    torn = split_groups(pairs)
    if not torn:
        return
    rows = find_listed(listed, present(pairs))
    new = [
        f"{rows[pair.pixel_sha256]} (group {name})"
        for name, members in sorted(torn.items())
        if not name.startswith(TWIN)
        for pair in sorted(members)
        if pair.pixel_sha256 not in decided and rows.get(pair.pixel_sha256, NOT_LISTED).split
    ]
    if new:
        raise SourceError(
            "splits.csv puts pictures of one part on two sides.",
            got=some(new),
            expected="one split for all pictures of a group",
            fix="Correct these rows, or the groups.",
        )
    say(
        f"{len(torn)} groups lie on two sides since earlier snapshots or by splits.csv, where they stay: "
        f"{_few(torn)}. In a new store, without such rows, each would lie on one"
    )


def say_groups(pairs: Iterable[Pair]) -> None:
    """How many pictures share a part with others, in a line for what is said and one for what looks alike."""
    pairs = list(pairs)
    two_sides = split_groups(pairs).keys()
    sizes = Counter(pair.group for pair in pairs if pair.accepted and pair.group)
    several = {name: size for name, size in sizes.items() if size > 1}
    for near in (False, True):
        found = {name: size for name, size in several.items() if name.startswith(TWIN) == near}
        if found:
            largest = max(found, key=lambda name: (found[name], name))
            what = "show one part with others by looks and names" if near else "show one part with others"
            torn = len(found.keys() & two_sides)
            sides = f"{torn} of them on two sides" if torn else "each on one side"
            groups = (
                f"1 group, on {'two sides' if torn else 'one side'}"
                if len(found) == 1
                else (f"{len(found)} groups, {sides}")
            )
            say(
                f"{sum(found.values())} pictures {what}: {groups}, the largest {largest} with "
                f"{found[largest]}" + ("; group_by says it better" if near else "")
            )


def present(pairs: Iterable[Pair]) -> list[Pair]:
    """Those whose files are in the source."""
    return [pair for pair in pairs if pair.status != "absent"]


def _few(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
