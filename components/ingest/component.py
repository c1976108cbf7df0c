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
