"""The ingest step as KFP sees it."""


def ingest(
    source: str,
    store: str,
    run: str,
    model_name: str,
    settings: str,
    min_new_images: int,
    max_rejected: float,
    force: bool,
) -> str:
    """Takes a snapshot of the source; returns its id, or "" where there is nothing new.

    The only return, for it steers the flow.
    """
    from defectline.components.ingest.ingesting import ingest as run_step

    return run_step(source, store, run, model_name, settings, min_new_images, max_rejected, force)
