"""The evaluate step as KFP sees it."""

from kfp.dsl import HTML, ClassificationMetrics, Input, Markdown, Metrics, Model, Output


def evaluate(
    store: str,
    snapshot: str,
    champion: str,
    run: str,
    model_name: str,
    min_iou: float,
    max_escape: float,
    max_overkill: float,
    escape_cost: float,
    look_as: str,
    look_cost: float,
    max_look: float,
    parts_per_day: int,
    replace: str,
    approval: str,
    first_look: str,
    grade_a_px: int,
    grade_b_px: int,
    by_class: str,
    settings_key: str,
    model: Input[Model],
    bundle: Output[Model],
    metrics: Output[Metrics],
    roc: Output[ClassificationMetrics],
    report: Output[HTML],
    summary: Output[Markdown],
) -> str:
    """Judges the model by the gate; returns "passed", "kept" where the champion is as good, or "refused"."""
    from math import isfinite
    from pathlib import Path

    from defectline.components.common.settings import select
    from defectline.components.evaluate.settings import EvaluateSettings
    from defectline.components.evaluate.step import evaluate as run_step

    settings = select(EvaluateSettings, locals())
    result = run_step(
        store,
        snapshot,
        Path(model.path),
        Path(bundle.path),
        Path(report.path),
        settings,
        run=run,
        model_name=model_name,
        champion=champion,
        settings_key=settings_key,
    )
    for name, value in result.metrics["test"].items():
        # KFP's metrics are JSON numbers: what has no value is left out.
        if value is not None and isfinite(value):
            metrics.log_metric(name, float(value))
    Path(summary.path).write_text(result.summary, encoding="utf-8")
    if result.roc:
        roc.log_roc_curve(*result.roc)
    roc.log_confusion_matrix(list(result.called), result.confusion)
    return result.state


def collect(
    store: str,
    folds: list,
    judged: list,
    settings: str,
    metrics: Output[Metrics],
    summary: Output[Markdown],
):
    """Brings together what the folds of a cross-validation came to; `judged` is what each returned."""
    from math import isfinite
    from pathlib import Path

    from defectline.components.evaluate.collecting import FoldRun, as_markdown, rows
    from defectline.components.evaluate.collecting import collect as run_step

    assert len(judged) == len(folds), f"{len(judged)} of {len(folds)} folds"
    # KFP writes every number as a float.
    found = run_step(store, [FoldRun(int(f["seed"]), f["snapshot"], f["run"]) for f in folds], settings)
    for title, of in rows(found):
        for name, value in of.items():
            # Of several seeds their mean and spread.
            told = len(found) == 1 or title in ("mean", "spread")
            if told and value is not None and isfinite(value):
                metrics.log_metric(f"{name}_spread" if title == "spread" else name, float(value))
    Path(summary.path).write_text(as_markdown(found), encoding="utf-8")


def calibrate(store: str, snapshot: str, run: str, settings: dict, shards: int, model: Input[Model]) -> list:
    """Chooses the network and where it decides, and cuts the test pictures into parts; the only returned
    value, for it steers the flow. `settings` are those of EvaluateSettings."""
    from pathlib import Path

    from defectline.components.evaluate.sharding.steps import calibrate as run_step

    return run_step(store, snapshot, Path(model.path), settings, run, int(shards))


def judge(
    store: str, snapshot: str, champion: str, run: str, model_name: str, part: str, model: Input[Model]
) -> str:
    """Judges a part of the test pictures, with the champion and what that was compared with."""
    from pathlib import Path

    from defectline.components.evaluate.sharding.steps import judge_part

    return judge_part(store, snapshot, Path(model.path), run, part, model_name, champion)


def evaluate_judged(
    store: str,
    snapshot: str,
    champion: str,
    run: str,
    model_name: str,
    settings: dict,
    settings_key: str,
    judged: list,
    model: Input[Model],
    bundle: Output[Model],
    metrics: Output[Metrics],
    roc: Output[ClassificationMetrics],
    report: Output[HTML],
    summary: Output[Markdown],
) -> str:
    """As `evaluate`, with `settings` as those of EvaluateSettings, after its shards; `judged` is what they
    said."""
    from defectline.components.evaluate.component import evaluate

    return evaluate(
        store=store,
        snapshot=snapshot,
        champion=champion,
        run=run,
        model_name=model_name,
        settings_key=settings_key,
        model=model,
        bundle=bundle,
        metrics=metrics,
        roc=roc,
        report=report,
        summary=summary,
        **settings,
    )
