"""Taking a snapshot: list, pair, read what is new, check, split, pack, and publish the index last."""

import csv
import hashlib
import io
import json
import tarfile
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from defectline.components.common.errors import SourceError
from defectline.components.common.snapshot import (
    HEAD,
    Pair,
    Snapshot,
    fingerprint,
    pack_key,
    pack_name,
    read_head,
    read_pairs,
    read_snapshot,
    snapshot_id,
    write_index,
)
from defectline.components.common.steps import say, track
from defectline.components.common.storage import Object, Storage
from defectline.components.common.storage.base import local_file
from defectline.components.ingest.checks import check_pair, reject, reject_duplicates
from defectline.components.ingest.pairing import FOLDERS, pair_objects
from defectline.components.ingest.split_file import known_splits, read_split_file
from defectline.components.ingest.splits import assign_splits

READERS = 16
DECODERS = 4
"""Pictures decoded at once. Each takes about ten bytes a pixel, and the step has 2 GiB."""
NOTED_FIX = "None is needed; look in pictures.html whether the outline fits."
PACK_BYTES = 256_000_000


class TooManyRejected(SourceError):
    """More pairs than allowed were rejected; `rows` are all that were read, without splits."""

    rows: list[Pair]


def take_snapshot(
    source: Storage, store: Storage, max_rejected: float, quarantine_key: str, masks: str = "all"
) -> Snapshot:
    """Bring the source's present state into the store, and return the snapshot of it.

    Files that the newest snapshot packed, by key and version, are not read again; what is packed already,
    by content, is not packed again. `masks` is one of MASKS. The quarantine table is written even where too
    many pairs were rejected, which raises TooManyRejected; a wrong layout, an empty class, too few pairs and
    a split file that cannot be followed raise SourceError. No pair of an older snapshot changes.
    """
    head = read_head(store)
    earlier = read_pairs(store, head) if head else []
    same_source = head is not None and read_snapshot(store, head).source == source.uri
    unchanged = {_state(p): p for p in earlier if p.status != "absent"} if same_source else {}

    objects = list(source.list())
    listed = read_split_file(source, objects)
    paired = pair_objects(objects, masks)
    if paired.elsewhere:
        say(f"ignored {paired.elsewhere} files outside of {', '.join(f'{name}/' for name in FOLDERS)}")
    # Again below: this one shows before the long reading whether the store can be written.
    store.write(quarantine_key, quarantine_table(paired.rejected))
    rows, unread = list(paired.rejected), []
    for image, mask, pair in paired.pairs:
        pair = pair._replace(image_version=image.version, mask_version=mask.version if mask else "")
        old = unchanged.get(_state(pair))
        # A duplicate is judged afresh: the picture that it repeated may be gone.
        if old and old.pack:
            rows.append(old._replace(status="accepted", reason="", fix=""))
        else:
            unread.append((image, mask, pair))
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary)
        rows += _read(source, unread, staged)
        kept = {p.pixel_sha256: p.id for p in earlier if p.status == "accepted"}
        rows = reject_duplicates(rows, kept)
        store.write(quarantine_key, quarantine_table(rows))
        if noted := sum(row.status == "accepted" and bool(row.note) for row in rows):
            say(f"{noted} pairs were changed to be used; the quarantine table says how")
        _check_rejected(rows, max_rejected, store.url(quarantine_key))
        known = {p.pixel_sha256: p.split for p in earlier if p.split}
        rows = assign_splits(rows, known_splits(listed, rows, known))
        rows = _pack(_reuse_packs(rows, earlier), staged, store)
    present = {p.pixel_sha256 for p in rows if p.split}
    rows += [p._replace(status="absent") for p in earlier if p.split and p.pixel_sha256 not in present]
    return _publish(rows, source.uri, store)


def _state(pair: Pair) -> tuple[str, str, str, str]:
    return pair.image_key, pair.image_version, pair.mask_key, pair.mask_version


def _read(source: Storage, unread: list[tuple[Object, Object | None, Pair]], staged: Path) -> list[Pair]:
    """Read and check pairs at once, and leave the accepted ones' files in `staged`."""
    decoding = threading.Semaphore(DECODERS)

    def read(item: tuple[Object, Object | None, Pair]) -> Pair:
        image, mask, pair = item
        try:
            contents = source.read(image.key), source.read(mask.key) if mask else b""
        except KeyError as error:
            return reject(pair, f"{error.args[0]} vanished while it was read.", "Run again.")
        with decoding:
            pair = check_pair(pair, *contents)
        if pair.status == "accepted":
            for kind, data in zip(pair.kinds, contents, strict=False):
                path = _staged(staged, pair, kind)
                with local_file(path):
                    path.write_bytes(data)
        return pair

    with ThreadPoolExecutor(READERS) as readers:
        return list(track(readers.map(read, unread), len(unread), "reading pairs"))


def _staged(folder: Path, pair: Pair, kind: str) -> Path:
    """Where a file waits for its pack. By hash: ids may be too long for a name, or differ in case only."""
    return folder / f"{hashlib.sha256(pair.id.encode()).hexdigest()}.{kind}"


def quarantine_table(rows: Iterable[Pair]) -> bytes:
    """The rejected pairs as CSV, and after them the accepted ones that were changed to be used."""
    rows = sorted(rows)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("id", "image", "mask", "status", "reason", "fix"))
    for row in rows:
        if row.status == "rejected":
            writer.writerow((row.id, row.image_key, row.mask_key, "rejected", row.reason, row.fix))
    for row in rows:
        if row.status == "accepted" and row.note:
            writer.writerow((row.id, row.image_key, row.mask_key, "noted", row.note, NOTED_FIX))
    return out.getvalue().encode()


def _check_rejected(rows: list[Pair], max_rejected: float, table: str) -> None:
    rejected = sorted(row for row in rows if row.status == "rejected")
    if len(rejected) > max_rejected * len(rows):
        reasons = "; ".join(f"{row.id}: {row.reason}" for row in rejected[:3])
        error = TooManyRejected(
            f"{len(rejected)} of {len(rows)} pairs are unusable.",
            got=reasons + (" …" if len(rejected) > 3 else ""),
            expected=f"at most {max_rejected:.1%} (max_rejected={max_rejected:g})",
            fix=f"Mend what {table} lists and pictures.html beside it shows, or raise max_rejected.",
        )
        error.rows = rows
        raise error


def _reuse_packs(rows: list[Pair], earlier: list[Pair]) -> list[Pair]:
    """Point pairs to the pack that holds the same bytes already: files that were touched, moved or back."""
    packed = {_packed_as(pair): pair.pack for pair in earlier if pair.pack}
    return [
        row._replace(pack=packed.get(_packed_as(row), ""))
        if row.status == "accepted" and not row.pack
        else row
        for row in rows
    ]


def _packed_as(pair: Pair) -> tuple[str, str, str, str]:
    return pair.member("image"), pair.image_sha256, pair.member("mask"), pair.mask_sha256


def _pack(rows: list[Pair], staged: Path, store: Storage) -> list[Pair]:
    """Put the files of accepted pairs that have no pack yet into new packs."""
    done = [row for row in rows if row.status != "accepted" or row.pack]
    batch: list[Pair] = []
    size = 0
    for row in sorted(row for row in rows if row.status == "accepted" and not row.pack):
        if batch and size + row.image_bytes + row.mask_bytes > PACK_BYTES:
            done += _write_pack(batch, staged, store)
            batch, size = [], 0
        batch.append(row)
        size += row.image_bytes + row.mask_bytes
    return done + (_write_pack(batch, staged, store) if batch else [])


def _write_pack(batch: list[Pair], staged: Path, store: Storage) -> list[Pair]:
    path = staged / "pack.tar"
    with local_file(path), tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for row, kind in ((pair, kind) for pair in batch for kind in pair.kinds):
            file = _staged(staged, row, kind)
            # Times and owners stay zero, so that the same pairs always give the same pack.
            info = tarfile.TarInfo(row.member(kind))
            info.size = file.stat().st_size
            with file.open("rb") as data:
                tar.addfile(info, data)
            file.unlink()
    name = pack_name(path)
    store.upload(path, pack_key(name))
    return [row._replace(pack=name) for row in batch]


def _publish(rows: list[Pair], source: str, store: Storage) -> Snapshot:
    accepted = sum(row.status == "accepted" for row in rows)
    snapshot = Snapshot(
        id=snapshot_id(rows),
        fingerprint=fingerprint(rows),
        source=source,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        accepted=accepted,
        rejected=sum(row.status == "rejected" for row in rows),
    )
    folder = f"snapshots/{snapshot.id}"
    with tempfile.TemporaryDirectory() as temporary:
        index = Path(temporary, "index.parquet")
        write_index(index, rows)
        store.upload(index, f"{folder}/index.parquet")
    store.write(f"{folder}/snapshot.json", snapshot.model_dump_json(indent=2).encode())
    # Whoever follows the head finds a snapshot that is complete.
    store.write(HEAD, json.dumps({"snapshot": snapshot.id}).encode())
    return snapshot
