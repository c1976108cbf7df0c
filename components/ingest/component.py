"""The ingest step as KFP sees it, and the two before it where it reads in shards."""

from kfp.dsl import HTML, Output


def ingest(
    source: str,
    store: str,
    run: str,
    model_name: str,
    settings_key: str,
    min_new_images: int,
    max_rejected: float,
    force: bool,
    masks: str,
    group_by: str,
    layout: str,
    class_map: str,
    pictures: Output[HTML],
    parts: list = [],  # noqa: B006 KFP knows no other default
) -> str:
    """Takes a snapshot of the source; returns its id, or "" where there is nothing new.

    The only returned value, for it steers the flow. `parts` is what its shards said: it comes after them.
    """
    from pathlib import Path

    from defectline.components.common.settings import select
    from defectline.components.ingest.settings import IngestSettings
    from defectline.components.ingest.step import ingest as run_step

    settings = select(IngestSettings, locals())
    return run_step(
        source,
        store,
        run,
        model_name,
        settings,
        settings_key,
        Path(pictures.path),
    )


def deal(store: str, snapshot: str, folds: int, first_seed: int, seeds: int, settings: str) -> list:
    """Deals a snapshot out to folds; returns what is to be judged, the folds of each seed in order.

    The only returned value, for it steers the flow. `settings` are all that the results depend on but the
    seed, as `key=value key=value …`.
    """
    from defectline.components.ingest.grouping.dealing import deal as run_step

    return run_step(store, snapshot, folds, range(first_seed, first_seed + seeds), settings)


def plan(
    source: str,
    store: str,
    run: str,
    min_new_images: int,
    max_rejected: float,
    force: bool,
    masks: str,
    group_by: str,
    layout: str,
    class_map: str,
    shards: int,
) -> list:
    """Lists the source, and cuts what is new into parts; the only returned value, for it steers the flow."""
    from defectline.components.common.settings import select
    from defectline.components.ingest.reading.step import plan as run_step
    from defectline.components.ingest.settings import IngestSettings

    return run_step(source, store, run, select(IngestSettings, locals()), int(shards))


def read(
    source: str,
    store: str,
    run: str,
    min_new_images: int,
    max_rejected: float,
    force: bool,
    masks: str,
    group_by: str,
    layout: str,
    class_map: str,
    part: str,
) -> str:
    """Reads, checks and packs a part of what is new."""
    from defectline.components.common.settings import select
    from defectline.components.ingest.reading.step import read_shard
    from defectline.components.ingest.settings import IngestSettings

    return read_shard(source, store, run, select(IngestSettings, locals()), part)
