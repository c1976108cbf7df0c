"""Pictures and masks, read from the source and checked, several at once."""

import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

from defectline.components.common.errors import Corrupt, SourceError, StoreError, Unreadable
from defectline.components.common.images.reading import UnreadableImage
from defectline.components.common.snapshot import Pair
from defectline.components.common.storage import Object, Storage
from defectline.components.ingest.checks import check_pair, reject
from defectline.components.ingest.labels.records import file_of, marked, to_pair, with_files
from defectline.components.ingest.readers.base import Record
from defectline.components.ingest.roi import RegionReader

READERS = 16
DECODERS = 4
"""Pictures decoded at once. Each takes about ten bytes a pixel, and the step has 2 GiB."""
AHEAD_BYTES = 256_000_000
"""Files read and not yet packed: one that is slow must not make the others pile up."""
ROUNDS = 5
"""How often a pair whose files change while they are read is read again."""
ALIKE = 20
"""So many first pairs that cannot be read, all for one reason, are a matter of the whole source."""

Unread = tuple[Record, Pair]


class Read(NamedTuple):
    """A checked pair, with its files where it was accepted."""

    pair: Pair | None
    """None where a file is gone."""
    files: tuple[bytes, bytes] = (b"", b"")
    as_listed: bool = True
    error: StoreError | None = None
    """Why a file could not be read."""


def read_pictures(
    source: Storage, store: Storage, unread: list[Unread], class_map: Mapping[str, str], numbered: bool
) -> Generator[Read, None, None]:
    """Read and check pairs, several at once, in the order of their ids."""
    regions = RegionReader(source, store)
    decoding = threading.Semaphore(DECODERS)

    def read(item: Unread, attempts: int = ROUNDS) -> Read:
        record, pair = item
        file = file_of(record.mask)
        try:
            image, other = (
                source.read(record.image.key, record.image.version),
                source.read(file.key, file.version) if file else b"",
            )
            roi = regions.read(record.roi)
        except KeyError:
            # In its place among the others the new version is packed as if it had always been there.
            image_now, file_now = _find(source, record.image), _find(source, file) if file else None
            if image_now is None or (file and file_now is None) or attempts == 1:
                return Read(None, as_listed=False)
            new = with_files(record, image_now, file_now)
            return read((new, to_pair(new)), attempts - 1)._replace(as_listed=False)
        except (Corrupt, Unreadable) as error:
            reason = error.what if isinstance(error, Corrupt) else f"{error.what} {error.got}"
            return Read(reject(pair, reason, error.fix), error=error)
        except UnreadableImage as error:
            return Read(reject(pair, f"Region of interest: {error.reason}", error.fix))
        try:
            pair, mask = marked(record, pair, other)
        except SourceError as error:
            return Read(reject(pair, f"Annotation: {error.reason}", error.fix))
        with decoding:
            pair, packed = check_pair(pair, image, mask, class_map, numbered, roi)
        return Read(pair, (image, packed)) if pair.accepted else Read(pair)

    pending: deque[tuple[int, Future[Read]]] = deque()
    ahead = 0
    with ThreadPoolExecutor(READERS) as readers:
        try:
            for item in sorted(unread, key=lambda item: item[1].id):
                record = item[0]
                size = record.image.size + (file.size if (file := file_of(record.mask)) else 0)
                while pending and (ahead + size > AHEAD_BYTES or len(pending) >= 8 * READERS):
                    ahead -= pending[0][0]
                    yield pending.popleft()[1].result()
                pending.append((size, readers.submit(read, item)))
                ahead += size
            while pending:
                yield pending.popleft()[1].result()
        finally:
            # After an error what has not begun is not waited for.
            readers.shutdown(cancel_futures=True)


def stop_early(reads: Generator[Read, None, None]) -> Iterator[Read]:
    """The same, unless the first of them could not be read, all for one reason: raises what was said."""
    failed: list[StoreError] = []
    other = False
    with closing(reads):
        for read in reads:
            if read.error is None or (failed and read.error.fix != failed[0].fix):
                other = True
            elif not other:
                failed.append(read.error)
                if len(failed) == ALIKE:
                    raise failed[0]
            yield read


def _find(source: Storage, listed: Object) -> Object | None:
    """The object as it is now, or None where it is gone."""
    return next((found for found in source.list(listed.key) if found.key == listed.key), None)
