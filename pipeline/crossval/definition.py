"""Cross-validation as a pipeline: the steps of the main one, a fold and a seed at a time, several at once."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_args, get_origin

from kfp import dsl
from pydantic.fields import FieldInfo

from defectline.components.evaluate import component as evaluating
from defectline.components.evaluate.settings import EvaluateSettings
from defectline.components.ingest import component as ingesting
from defectline.components.ingest.settings import IngestSettings
from defectline.components.preprocess.component import preprocess
from defectline.components.preprocess.settings import PreprocessSettings
from defectline.components.train.component import train_fold
from defectline.components.train.settings import TrainParameters
from defectline.pipeline import CROSSVAL_PIPELINE
from defectline.pipeline.crossval.naming import INGEST_RUN, MODEL_NAME, UNLIKE
from defectline.pipeline.images import Images
from defectline.pipeline.parameters import Parameters
from defectline.pipeline.targets import LOCAL, Target

HOUR_S = 3600
PARALLEL = 4
"""Folds at the same time."""


def build_crossval(images: Images, target: Target = LOCAL, parallel: int = PARALLEL) -> Callable[..., Any]:
    """The `@dsl.pipeline`: ingest → deal → for each fold and seed preprocess → train → evaluate → collect.

    Its parameters are those of a run, with `folds` and `seeds`. The store gets the same files as from
    `defectline crossval` on one machine.
    """
    component = partial(dsl.component, install_kfp_package=False)
    ingest_op = component(ingesting.ingest, base_image=images.ingest)
    deal_op = component(ingesting.deal, base_image=images.ingest)
    preprocess_op = component(preprocess, base_image=images.preprocess)
    train_op = component(train_fold, base_image=images.train)
    evaluate_op = component(evaluating.evaluate, base_image=images.evaluate)
    collect_op = component(evaluating.collect, base_image=images.evaluate)
    # No fold is ever served.
    target = replace(target, kserve={}, sign_secret="", push_secret="")

    signature = _signature()

    def crossval(*values: Any) -> None:
        given = dict(zip(signature.parameters, values, strict=True))

        def of(kind: Any, *but: str) -> dict[str, Any]:
            return {name: given[name] for name in kind.model_fields if name not in but}

        store, judged_by = given["store"], [name for name in Parameters.model_fields if name not in UNLIKE]
        settings = " ".join(f"{name}={given[name]}" for name in judged_by if name != "seed")
        ingested = ingest_op(
            source=given["source"],
            store=store,
            run=INGEST_RUN,
            model_name=MODEL_NAME,
            settings_key="",
            **{**of(IngestSettings), "force": True},
        )
        # The source changes without its URI changing.
        ingested.set_caching_options(False)
        target.configure(ingested, "ingest", timeout_s=6 * HOUR_S)
        dealt = deal_op(
            store=store,
            snapshot=ingested.outputs["Output"],
            folds=given["folds"],
            first_seed=given["seed"],
            seeds=given["seeds"],
            settings=settings,
        )
        dealt.set_caching_options(False)
        target.configure(dealt, "ingest", timeout_s=HOUR_S)
        with dsl.ParallelFor(dealt.output, name="folds", parallelism=parallel) as fold:
            prepared = preprocess_op(
                store=store,
                snapshot=fold.snapshot,
                shard=0,
                shards=1,
                part=fold.part,
                **of(PreprocessSettings),
            )
            target.configure(prepared, "preprocess", timeout_s=2 * HOUR_S)
            trained = train_op(
                store=store,
                part=fold.part,
                seed=fold.seed,
                settings=of(TrainParameters, "seed"),
                dataset=prepared.outputs["dataset"],
            )
            target.configure(trained, "train", timeout_s=24 * HOUR_S, gpu=True)
            evaluated = evaluate_op(
                store=store,
                snapshot=fold.snapshot,
                champion="",
                run=fold.run,
                model_name=MODEL_NAME,
                settings_key="",
                model=trained.outputs["model"],
                **of(EvaluateSettings),
            )
            # What a fold came to is in the store, of which KFP's cache knows nothing.
            evaluated.set_caching_options(False)
            target.configure(evaluated, "evaluate", timeout_s=2 * HOUR_S)
        collected = collect_op(
            store=store,
            folds=dealt.output,
            judged=dsl.Collected(evaluated.outputs["Output"]),
            settings=settings,
        )
        collected.set_caching_options(False)
        target.configure(collected, "evaluate", timeout_s=HOUR_S)

    crossval.__signature__ = signature  # type: ignore[attr-defined]
    return dsl.pipeline(name=CROSSVAL_PIPELINE, description="Settings are judged by cross-validation.")(
        crossval
    )


def _signature() -> inspect.Signature:
    """The parameters of a run, as KFP's compiler reads them, with folds and seeds."""
    fields = [_parameter(name, field) for name, field in Parameters.model_fields.items()]
    fields.sort(key=lambda one: one.default is not inspect.Parameter.empty)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    own = [
        inspect.Parameter(name, kind, annotation=int, default=n) for name, n in (("folds", 4), ("seeds", 1))
    ]
    return inspect.Signature([*fields, *own])


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    several = get_origin(field.annotation) is Literal
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        # KFP knows the type of the values, not that there are only some.
        annotation=type(get_args(field.annotation)[0]) if several else field.annotation,
        default=inspect.Parameter.empty if field.is_required() else field.default,
    )
