"""What ingest costs apart from reading pictures: a listing of a million pairs, without their bytes.

    python benchmarks/million.py --pairs 1000000

The listing is synthetic. What reading the pictures would give is there already, in the journal that shards
or a run that was cut off leave, and their packs are empty files of the right size. So `take_snapshot` lists,
pairs, groups by name, splits, and writes the index; it is then read again. The second snapshot has 0.1 %
more. Each is taken in a process of its own.
"""

import argparse
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measuring import Measured, measure

from defectline.components.common.layout import PACKS, journal_prefix, pack_key
from defectline.components.common.snapshot import Pair, write_index
from defectline.components.common.storage import Object, open_storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.grouping.looks import PLAIN

PART = 4
"""Pictures of one part, which the names tell."""
IN_PACK = 1000
IMAGE_BYTES, MASK_BYTES = 60_000, 2_000
LOOK_BYTES = 840
"""Of the look of a picture that shows something."""
TAKE = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from million import Listing
from defectline.components.common.snapshot import read_pairs
from defectline.components.common.storage import open_storage
from defectline.components.ingest.settings import IngestSettings
from defectline.components.ingest.snapshotter import take_snapshot
source, store = Listing(Path(sys.argv[2]), int(sys.argv[4])), open_storage(sys.argv[3])
settings = IngestSettings(group_by=r"part(\\d+)_")
start, processor = time.perf_counter(), time.process_time()
taken = take_snapshot(source, store, "runs/benchmark/quarantine.csv", settings)
written = time.perf_counter() - start
count, splits = int(sys.argv[4]), dict.fromkeys(("train", "validation", "test"), 0)
del source
snapshot = taken.snapshot
del taken
for pair in read_pairs(store, snapshot.id):
    splits[pair.split] += 1
assert sum(splits.values()) == snapshot.accepted == count, splits
print(f"fingerprint {snapshot.fingerprint[:16]}, {splits}; written after {written:.1f} s")
print(time.process_time() - processor, time.perf_counter() - start)
"""


class Listing(FolderStorage):
    """A source of so many pairs whose files nobody may read."""

    def __init__(self, root: Path, pairs: int):
        super().__init__(root)
        self._pairs = pairs

    def list_all(self, prefix: str = "") -> Iterator[Object]:
        for number in range(self._pairs):
            pair = pair_of(number)
            yield Object(pair.image_key, IMAGE_BYTES, pair.image_version, "2026-11-30T00:00:00.000+00:00")
            yield Object(pair.mask_key, MASK_BYTES, pair.mask_version, "2026-11-30T00:00:00.000+00:00")

    def read(self, key: str, version: str = "") -> bytes:
        raise AssertionError(f"{key} has no bytes")


def digest(number: int, what: str) -> str:
    return hashlib.sha256(f"{what} {number}".encode()).hexdigest()


def pair_of(number: int) -> Pair:
    """The pair as it is listed; one of ten shows a defect."""
    label = "NG" if number // PART % 10 == 0 else "OK"
    stem = f"part{number // PART:07d}_{number % PART}"
    image, mask = f"{label}/{stem}.png", f"{label}_MSK/{stem}.png"
    versions = f"{number:032x}", f"{number + (1 << 100):032x}"
    return Pair(f"{label}/{stem}", label, "accepted", image, mask, *versions)


def read_pair(number: int, pack: str, look: str) -> Pair:
    """The pair as it is after its files were read."""
    pair = pair_of(number)
    area = 100 + number % 1000 if pair.label == "NG" else 0
    return pair._replace(
        image_bytes=IMAGE_BYTES,
        mask_bytes=MASK_BYTES,
        image_sha256=digest(number, "image"),
        mask_sha256=digest(number, "mask"),
        pixel_sha256=digest(number, "pixels"),
        width=512,
        height=512,
        defect_px=area,
        pack=pack,
        areas=str(area),
        look=look,
        marks="A" * 44 if area else "",
    )


def write_journal(source: str, store: Path, numbers: range, looks: bool) -> None:
    """What shards would leave that read these pairs."""
    random = np.random.default_rng(0)
    (store / PACKS).mkdir(parents=True, exist_ok=True)
    (store / journal_prefix(source)).mkdir(parents=True, exist_ok=True)
    for start in range(numbers.start, numbers.stop, IN_PACK):
        members = range(start, min(start + IN_PACK, numbers.stop))
        pack = digest(start, "pack")[:16]
        with (store / pack_key(pack)).open("wb") as file:
            # A file of this size that takes no room on the disk.
            os.truncate(file.fileno(), len(members) * (IMAGE_BYTES + MASK_BYTES))
        rows = [
            read_pair(number, pack, random.bytes(LOOK_BYTES // 2).hex() if looks else PLAIN)
            for number in members
        ]
        write_index(store / f"{journal_prefix(source)}{pack}.parquet", rows)


def tell(name: str, done: Measured) -> None:
    print(
        f"{name}: {done.seconds:.1f} s, {done.processor_s:.1f} s of a processor, peak {done.peak_mb:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--looks", action="store_true", help="with looks as long as those of real pictures")
    options = parser.parse_args()
    more = options.pairs // 1000
    with tempfile.TemporaryDirectory() as folder:
        source, store = Path(folder, "source"), Path(folder, "store")
        source.mkdir()
        uri = open_storage(str(source)).uri
        done = {}
        for name, numbers in {
            "first snapshot": range(options.pairs),
            "0.1 % new": range(options.pairs, options.pairs + more),
        }.items():
            write_journal(uri, store, numbers, options.looks)
            done[name] = measure(TAKE, Path(__file__).parent, source, store, numbers.stop)
            tell(name, done[name])
        index = max(store.glob("snapshots/*/index.parquet"), key=lambda path: path.stat().st_size)
        print(f"index.parquet: {index.stat().st_size / 1e6:.0f} MB")
        print(
            f"the second took {done['0.1 % new'].seconds / done['first snapshot'].seconds:.0%} of the first"
        )


if __name__ == "__main__":
    main()
