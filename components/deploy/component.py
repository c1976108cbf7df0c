"""The deploy steps as KFP sees them."""

from kfp.dsl import Input, Model, PipelineTaskFinalStatus


def find_champion(store: str, model_name: str, kserve: dict) -> str:
    """Returns the version that serves now, or ""."""
    from defectline.components.deploy.step import find_champion as run_step

    return run_step(store, model_name, kserve)


def deploy(
    store: str,
    run: str,
    model_name: str,
    kserve: dict,
    settings_key: str,
    bundle: Input[Model],
):
    """Deploys the sealed bundle or lets it wait for approval, or leaves the champion as it was and fails."""
    from pathlib import Path

    from defectline.components.deploy.step import deploy as run_step

    run_step(Path(bundle.path), store, kserve, run, model_name, settings_key)


def finish(status: PipelineTaskFinalStatus, store: str, run: str, model_name: str, kserve: dict):
    """Writes the outcome of a run that failed before any step could, and undoes what its deployment left."""
    from defectline.components.deploy.step import finish as run_step

    run_step(store, run, status.state, status.error_message or "", model_name, kserve)
