"""What is not known of a source: read, checked and packed."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from defectline.components.common.snapshot import Pair
from defectline.components.common.steps import track
from defectline.components.common.storage import Object, Storage
from defectline.components.ingest.labels.records import State, state_of, to_pair
from defectline.components.ingest.packing import Packer, packed_as
from defectline.components.ingest.readers.base import Layout
from defectline.components.ingest.reading.collector import uncollected
from defectline.components.ingest.reading.known import again, hold_numbers
from defectline.components.ingest.reading.pictures import Unread, read_pictures, stop_early

Part = Callable[[str], bool]
"""Whether a pair is one of those to read, by its id before it is read."""


def everything(_: str) -> bool:
    return True


def read_new(
    layout: Layout,
    source: Storage,
    store: Storage,
    known: Mapping[State, Pair],
    earlier: list[Pair],
    class_map: Mapping[str, str],
    part: Part = everything,
    to_the_end: bool = False,
) -> tuple[list[Pair], bool]:
    """Read and pack what is not known, as far as it is in the `part`.

    Returns all rows but those that are to be read elsewhere, and whether all files were as they were listed.
    With `to_the_end` the journal has rejected pairs, too, after which no pack was begun: nobody else reads
    them.
    """
    rows, unread, numbered = sort_known(layout, known, class_map)
    unread = [item for item in unread if part(item[1].id)]
    if not unread:
        return rows, True
    packs = {packed_as(row): row.pack for of in (earlier, rows) for row in of if row.pack}
    complete = True
    with (
        tempfile.TemporaryDirectory() as folder,
        Packer(store, source.uri, Path(folder), to_the_end) as packer,
    ):
        reading = read_pictures(source, store, unread, class_map, numbered)
        for read, files, as_listed, _ in track(stop_early(reading), len(unread), "reading pairs"):
            complete &= as_listed
            if read is None:
                continue
            if not read.accepted:
                packer.note(read)
            elif pack := packs.get(packed_as(read)):
                packer.note(read._replace(pack=pack))
            else:
                packer.add(read, *files)
    unnamed = any(isinstance(one.mask, Object) and not one.legend for one in layout.records)
    if unnamed and not numbered and hold_numbers(row for row in packer.rows if not row.legend):
        # What was read before that was known is judged again.
        known = {**known, **{state_of(row): row for row in packer.rows if row.image_sha256}}
        rows, as_listed = read_new(
            layout, source, store, known, [*earlier, *packer.rows], class_map, part, to_the_end
        )
        return rows, complete and as_listed
    return rows + packer.rows, complete


@uncollected()
def sort_known(
    layout: Layout, known: Mapping[State, Pair], class_map: Mapping[str, str]
) -> tuple[list[Pair], list[Unread], bool]:
    """The rows of what is known, as it is judged now; what needs to be read; whether masks that nothing names
    hold numbers of classes, as far as that is known. Pure."""
    before = [known.get(state_of(record)) for record in layout.records]
    numbered = hold_numbers(
        old
        for record, old in zip(layout.records, before, strict=True)
        if isinstance(record.mask, Object) and not record.legend
    )
    rows, unread = list(layout.rejected), []
    for record, old in zip(layout.records, before, strict=True):
        if old and (row := again(old, record, class_map, numbered)):
            rows.append(row)
        else:
            unread.append((record, to_pair(record)))
    return rows, unread, numbered
