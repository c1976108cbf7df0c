"""The evaluate step as KFP sees it."""

from kfp.dsl import HTML, ClassificationMetrics, Input, Metrics, Model, Output


def evaluate(
    store: str,
    snapshot: str,
    champion: str,
    run: str,
    model_name: str,
    min_iou: float,
    max_escape: float,
    max_overkill: float,
    settings: str,
    model: Input[Model],
    bundle: Output[Model],
    metrics: Output[Metrics],
    roc: Output[ClassificationMetrics],
    report: Output[HTML],
) -> str:
    """Judges the model against the gate; returns "passed" or "refused"."""
    from pathlib import Path

    from defectline.components.evaluate.evaluating import evaluate as run_step

    limits = {"min_iou": min_iou, "max_escape": max_escape, "max_overkill": max_overkill}
    result = run_step(
        store,
        snapshot,
        Path(model.path),
        Path(bundle.path),
        Path(report.path),
        limits,
        run=run,
        model_name=model_name,
        champion=champion,
        settings=settings,
    )
    for name, value in result.metrics["test"].items():
        # KFP's metrics are JSON numbers: what has no value is left out.
        if value is not None:
            metrics.log_metric(name, float(value))
    roc.log_roc_curve(*result.roc)
    roc.log_confusion_matrix(["OK", "NG"], result.confusion)
    return "passed" if result.passed else "refused"
