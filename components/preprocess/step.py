"""The preprocess step: from a snapshot's files to arrays that are ready to train on.

1. Take this shard's part of the pictures, sorted by id.
2. With tiles: look at the masks, to know which tiles there will be.
3. Decode, enhance, and resize or cut every picture, on all processors, straight into the files of the arrays.
4. Write what the training pictures look like, and the index.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from defectline.components.common.classes import supervision_of
from defectline.components.common.dataset import Prepared, Row
from defectline.components.common.errors import SettingsError, SourceError
from defectline.components.common.files import replaced
from defectline.components.common.images.imaging import ImagingSettings, find_window, frame_grid
from defectline.components.common.images.reading import UnreadableImage
from defectline.components.common.images.statistics import Statistics
from defectline.components.common.images.tiling import Grid
from defectline.components.common.legend import Names, ignores
from defectline.components.common.settings import checked
from defectline.components.common.snapshot import Pair, find_files, read_pairs, read_snapshot
from defectline.components.common.steps import say, step, track
from defectline.components.common.storage import Storage, open_storage
from defectline.components.common.storage.base import local_file
from defectline.components.preprocess.arrays import Arrays
from defectline.components.preprocess.pictures import Job, Picture, find_defects, prepare
from defectline.components.preprocess.settings import PreprocessSettings
from defectline.components.preprocess.tiles import Position, choose_tiles
from defectline.components.preprocess.workers import Workers

JOB, JOB_PX = 32, 10_000_000
"""Pictures, and pixels, that a worker takes at a time."""

R = TypeVar("R")
RowIndex = Mapping[str, tuple[int, Sequence[Position]]]
"""First row, and tiles, of each picture by its id."""


def preprocess(
    store: str,
    snapshot: str,
    dataset: Path,
    settings: Mapping[str, object],
    shard: int = 0,
    shards: int = 1,
    part: str = "",
) -> None:
    """Write a shard of the prepared dataset of a snapshot's train and validation splits into `dataset`.

    `settings` are the fields of PreprocessSettings. Shard 0 of 1 is the whole dataset; a shard may be empty.
    Each picture is enhanced at its own size, then resized, or cut into tiles. Rows are in the order of ids,
    and of tiles from top left to bottom right. Memory stays flat: the arrays are on disk. NG pictures without
    a mask are not cut into tiles: which of their tiles shows a defect is not known. `part` says in words what
    the snapshot is in a run that prepares several, each perhaps more than once, into other folders.
    """
    copy_of = hashlib.sha256(str(dataset).encode()).hexdigest()[:8] if part else ""
    with step("preprocess", store, shard=shard, shards=shards, part=part, copy_of=copy_of) as report:
        chosen = checked(PreprocessSettings, **settings)
        imaging, size = chosen.imaging, chosen.image_size
        _check_shard(shard, shards)
        storage = open_storage(store)
        taken = read_snapshot(storage, snapshot)
        accepted = sorted(p for p in read_pairs(storage, snapshot) if p.accepted)
        names = Names.of(storage, taken, accepted)
        pairs = [p for p in accepted if p.split in ("train", "validation")]
        # Of all pairs, so that every shard says the same.
        learned = _with_masks(pairs) if chosen.tile else pairs
        some_ignored = any(
            not pair.masked or ignores(pair, taken.class_map) or _is_padded(pair, imaging) for pair in learned
        )
        masked = [pair.masked for pair in learned if (pair.label, pair.split) == ("NG", "train")]
        pairs = pairs[shard * len(pairs) // shards : (shard + 1) * len(pairs) // shards]

        with Workers(max(map(_pixels, pairs), default=0), sum(map(_pixels, pairs))) as workers:
            tiles = _plan_tiles(workers, storage, pairs, chosen, names) if chosen.tile else {}
            rows: list[Row] = []
            index_of = {}
            for pair in pairs:
                index_of[pair.id] = len(rows), tiles.get(pair.id, ())
                rows += [
                    Row(
                        id=pair.id,
                        label=pair.label,
                        split=pair.split,
                        tile=tile,
                        masked=pair.masked,
                        group=pair.group,
                    )
                    for tile in tiles.get(pair.id, [None])
                ]
            # A dataset with this file is complete; what stands here from before will not be.
            index = dataset / "dataset.json"
            with local_file(index):
                index.unlink(missing_ok=True)
            arrays = Arrays.new(dataset, len(rows), imaging)
            work = partial(prepare, arrays=arrays, imaging=imaging, names=names)
            seen = _each(workers, work, storage, pairs, index_of)
            statistics = Statistics.of(
                one for one in track(seen, len(pairs), "preparing pictures") if one is not None
            )
        with local_file(dataset):
            statistics.write(dataset)
        content = Prepared(
            snapshot=snapshot,
            fingerprint=taken.fingerprint,
            imaging=imaging,
            classes=taken.classes,
            ignores=some_ignored,
            supervision=supervision_of(len(masked), sum(masked)),
            empty_tiles=chosen.empty_tiles if chosen.tile else None,
            shard=shard,
            shards=shards,
            rows=rows,
        )
        with local_file(index), replaced(index) as beside:
            beside.write_text(content.model_dump_json(indent=2, exclude_none=True))
        report.summary = (
            (f"{len(rows)} tiles of " if imaging.tile else "")
            + f"{len(pairs)} pictures at {size}×{size}×{imaging.channels}"
            + (", fitted" if imaging.resize == "fit" and not imaging.tile else "")
            + (", enhanced" if imaging.enhance else "")
            + (f", classes {', '.join(taken.classes)}" if len(taken.classes) > 1 else "")
        )


def _with_masks(pairs: Sequence[Pair]) -> list[Pair]:
    """Those of which each tile is known to be good or not."""
    masked = [pair for pair in pairs if pair.masked]
    if left_out := len(pairs) - len(masked):
        say(
            f"preprocess: {left_out} NG pictures without masks are left out: which tiles show it is not known"
        )
    return masked


def _is_padded(pair: Pair, imaging: ImagingSettings) -> bool:
    window = find_window(pair.height, pair.width, imaging)
    return not imaging.tile and (window.height, window.width) != (imaging.image_size,) * 2


def _check_shard(shard: int, shards: int) -> None:
    if not 0 <= shard < shards:
        raise SettingsError(
            f"There is no shard {shard} of {shards}.",
            got=f"shard={shard} shards={shards}",
            expected="a shard from 0 to shards - 1",
            fix="Correct shard or shards.",
        )


def _pixels(pair: Pair) -> int:
    return pair.height * pair.width


def _each(
    workers: Workers,
    function: Callable[[Job], list[R]],
    storage: Storage,
    pairs: Sequence[Pair],
    index_of: RowIndex,
) -> Iterator[R]:
    """What `function` gives for each of the pairs, pack by pack."""
    with tempfile.TemporaryDirectory() as folder:
        for job, results in workers.map(function, _jobs(storage, pairs, index_of, Path(folder))):
            if job.last and job.pack.parent == Path(folder):
                job.pack.unlink()
            yield from results


def _jobs(storage: Storage, pairs: Sequence[Pair], index_of: RowIndex, folder: Path) -> Iterator[Job]:
    size = max(1, min(JOB, JOB_PX // max(map(_pixels, pairs), default=1)))
    for pack, members in find_files(storage, pairs, folder):
        pictures = [Picture(packed, *index_of[packed.pair.id]) for packed in members]
        for start in range(0, len(pictures), size):
            yield Job(pack, pictures[start : start + size], last=start + size >= len(pictures))


def _plan_tiles(
    workers: Workers, storage: Storage, pairs: Sequence[Pair], settings: PreprocessSettings, names: Names
) -> dict[str, list[Position]]:
    """The tiles to keep of each picture, by its id.

    Only masks with a defect, of pictures that have several tiles, are read for it.
    """
    grids = {pair.id: _grid(pair, settings) for pair in pairs}
    unsure = [pair for pair in pairs if pair.defect_px and len(grids[pair.id].positions) > 1]
    index_of: RowIndex = {pair.id: (0, ()) for pair in unsure}
    found = _each(
        workers, partial(find_defects, imaging=settings.imaging, names=names), storage, unsure, index_of
    )
    defects = dict(track(found, len(unsure), "looking for defects"))
    # Without a mask there is none, but what the picture looks like counts.
    return {
        pair.id: choose_tiles(pair.id, grids[pair.id], defects.get(pair.id, []), settings.empty_tiles)
        if pair.masked
        else []
        for pair in pairs
    }


def _grid(pair: Pair, imaging: ImagingSettings) -> Grid:
    try:
        return frame_grid(pair.height, pair.width, imaging)
    except UnreadableImage as error:
        raise SourceError(
            f"{pair.id}: {error.what}", got=error.got, expected=error.expected, fix=error.fix
        ) from error
