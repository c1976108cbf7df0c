"""The ingest step as KFP sees it."""

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
) -> str:
    """Takes a snapshot of the source; returns its id, or "" where there is nothing new.

    The only returned value, for it steers the flow.
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
