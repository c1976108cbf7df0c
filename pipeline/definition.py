"""The pipeline, once for every target."""

import json
from collections.abc import Callable
from dataclasses import replace as changed
from functools import partial
from math import ceil
from typing import Any

from kfp import dsl

from defectline.components.common.settings import checked
from defectline.components.common.trust.provenance import IMAGES_ENV
from defectline.components.deploy import component as deploying
from defectline.components.deploy.kserve.settings import KServeSettings
from defectline.components.evaluate import component as evaluating
from defectline.components.ingest import component as ingesting
from defectline.components.preprocess.component import preprocess
from defectline.components.train.cluster import component as on_nodes
from defectline.components.train.component import train
from defectline.pipeline import PIPELINE
from defectline.pipeline.images import Images
from defectline.pipeline.targets import LOCAL, TRAIN_S, Target

HOUR_S = 3600


def build(images: Images, target: Target = LOCAL) -> Callable[..., Any]:
    """The `@dsl.pipeline`: call it to run it, or hand it to KFP's compiler.

    ingest → anything new? → preprocess → train → evaluate → passed? → deploy; `finish` always.
    """
    component = partial(dsl.component, install_kfp_package=False)
    plan_op = component(ingesting.plan, base_image=images.ingest)
    read_op = component(ingesting.read, base_image=images.ingest)
    ingest_op = component(ingesting.ingest, base_image=images.ingest)
    preprocess_op = component(preprocess, base_image=images.preprocess)
    nodes = target.on_nodes(images.train)
    if nodes:
        # A step without TensorFlow starts the pods that train, and waits for them.
        train_op = partial(component(on_nodes.train, base_image=images.deploy), nodes=nodes)
    else:
        train_op = component(train, base_image=images.train)
    find_champion_op = component(deploying.find_champion, base_image=images.deploy)
    evaluate_op = component(evaluating.evaluate, base_image=images.evaluate)
    calibrate_op = component(evaluating.calibrate, base_image=images.evaluate)
    judge_op = component(evaluating.judge, base_image=images.evaluate)
    evaluate_judged_op = component(evaluating.evaluate_judged, base_image=images.evaluate)
    deploy_op = component(deploying.deploy, base_image=images.deploy)
    finish_op = component(deploying.finish, base_image=images.deploy)
    kserve = {**target.kserve, "image": images.serve} if target.kserve else {}
    settings = checked(KServeSettings, **kserve) if kserve else None
    undo_s = max(HOUR_S, ceil(settings.undo_s)) if settings else HOUR_S
    deploy_s = max(HOUR_S, ceil(settings.deploy_s)) if settings else HOUR_S

    @dsl.pipeline(name=PIPELINE, description="Labelled product images become a gated defect endpoint.")
    def defectline(
        source: str,
        store: str,
        model_name: str = "defects",
        image_size: int = 224,
        channels: int = 1,
        enhance: bool = False,
        resize: str = "stretch",
        epochs: int = 60,
        batch_size: int = 4,
        seed: int = 0,
        encoder_weights: str = "none",
        min_new_images: int = 1,
        max_rejected: float = 0.1,
        min_iou: float = 0.5,
        max_escape: float = 0.1,
        max_overkill: float = 0.1,
        force: bool = False,
        masks: str = "all",
        group_by: str = "none",
        layout: str = "auto",
        class_map: str = "",
        tile: bool = False,
        empty_tiles: float = 0.25,
        escape_cost: float = 3.0,
        look_as: str = "NG",
        look_cost: float = 0.2,
        max_look: float = 0.1,
        parts_per_day: int = 0,
        replace: str = "better",
        approval: str = "none",
        first_look: str = "never",
        grade_a_px: int = 0,
        grade_b_px: int = 0,
        by_class: str = "",
        quantize: bool = True,
        init_from: str = "none",
        pretraining: str = "auto",
        training: str = "",
    ):
        # On a server the name is what people call a run, which several may share; here it is unique.
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER if target.on_cluster else dsl.PIPELINE_JOB_NAME_PLACEHOLDER
        imaging = {
            "image_size": image_size,
            "channels": channels,
            "enhance": enhance,
            "resize": resize,
            "tile": tile,
            "empty_tiles": empty_tiles,
        }
        gate = {
            "min_iou": min_iou,
            "max_escape": max_escape,
            "max_overkill": max_overkill,
            "escape_cost": escape_cost,
            "look_as": look_as,
            "look_cost": look_cost,
            "max_look": max_look,
            "parts_per_day": parts_per_day,
            "replace": replace,
            "first_look": first_look,
            "grade_a_px": grade_a_px,
            "grade_b_px": grade_b_px,
            "by_class": by_class,
        }
        learning = {
            "epochs": epochs,
            "batch_size": batch_size,
            "seed": seed,
            "encoder_weights": encoder_weights,
            "quantize": quantize,
            "init_from": init_from,
            "pretraining": pretraining,
            "training": training,
        }
        # Runs with other settings are worth doing without new pictures.
        settings_key = " ".join(f"{key}={value}" for key, value in (imaging | gate | learning).items())
        finished = finish_op(store=store, run=run, model_name=model_name, kserve=kserve)
        target.configure(finished, "finish", timeout_s=undo_s)
        with dsl.ExitHandler(finished, name="run"):
            taking = {
                "source": source,
                "store": store,
                "run": run,
                "min_new_images": min_new_images,
                "max_rejected": max_rejected,
                "force": force,
                "masks": masks,
                "group_by": group_by,
                "layout": layout,
                "class_map": class_map,
            }
            parts = {}
            if target.shards > 1:
                planned = plan_op(**taking, shards=target.shards)
                planned.set_caching_options(False)
                target.configure(planned, "ingest", timeout_s=HOUR_S)
                with dsl.ParallelFor(
                    planned.output, name="parts", parallelism=target.at_once or None
                ) as part:
                    was_read = read_op(**taking, part=part)
                    was_read.set_caching_options(False)
                    target.configure(was_read, "ingest", timeout_s=6 * HOUR_S)
                parts = {"parts": dsl.Collected(was_read.output)}
            ingested = ingest_op(**taking, model_name=model_name, settings_key=settings_key, **parts)
            # The source changes without its URI changing.
            ingested.set_caching_options(False)
            target.configure(ingested, "ingest", timeout_s=6 * HOUR_S)
            with dsl.If(ingested.outputs["Output"] != "", name="anything-new"):
                with dsl.ParallelFor(
                    list(range(target.shards)), name="shards", parallelism=target.at_once or None
                ) as shard:
                    prepared = preprocess_op(
                        store=store,
                        snapshot=ingested.outputs["Output"],
                        shard=shard,
                        shards=target.shards,
                        **imaging,
                    )
                    target.configure(prepared, "preprocess", timeout_s=2 * HOUR_S)
                trained = train_op(
                    store=store,
                    datasets=dsl.Collected(prepared.outputs["dataset"]),
                    **learning,
                )
                target.configure(trained, "train", timeout_s=TRAIN_S, gpu=True)
                champion = find_champion_op(store=store, model_name=model_name, kserve=kserve)
                champion.set_caching_options(False)
                target.configure(champion, "find-champion", timeout_s=HOUR_S)
                judging = {
                    "store": store,
                    "snapshot": ingested.outputs["Output"],
                    "champion": champion.output,
                    "run": run,
                    "model_name": model_name,
                    "model": trained.outputs["model"],
                }
                if target.shards > 1:
                    # These sign nothing.
                    keyless = changed(target, sign_secret="")
                    settings_of_gate = {**gate, "approval": approval}
                    calibrated = calibrate_op(
                        store=store,
                        snapshot=ingested.outputs["Output"],
                        run=run,
                        settings=settings_of_gate,
                        shards=target.shards,
                        model=trained.outputs["model"],
                    )
                    calibrated.set_caching_options(False)
                    keyless.configure(calibrated, "evaluate", timeout_s=2 * HOUR_S)
                    with dsl.ParallelFor(
                        calibrated.output, name="test-parts", parallelism=target.at_once or None
                    ) as test_part:
                        was_judged = judge_op(**judging, part=test_part)
                        was_judged.set_caching_options(False)
                        keyless.configure(was_judged, "evaluate", timeout_s=2 * HOUR_S)
                    evaluated = evaluate_judged_op(
                        **judging,
                        settings=settings_of_gate,
                        settings_key=settings_key,
                        judged=dsl.Collected(was_judged.output),
                    )
                    evaluated.set_caching_options(False)
                else:
                    evaluated = evaluate_op(**judging, settings_key=settings_key, approval=approval, **gate)
                target.configure(evaluated, "evaluate", timeout_s=2 * HOUR_S)
                if target.on_cluster:
                    # What made the bundle, for its provenance.
                    evaluated.set_env_variable(IMAGES_ENV, json.dumps(vars(images)))
                with dsl.If(evaluated.outputs["Output"] == "passed", name="gate-passed"):
                    deployed = deploy_op(
                        store=store,
                        run=run,
                        model_name=model_name,
                        kserve=kserve,
                        settings_key=settings_key,
                        bundle=evaluated.outputs["bundle"],
                    )
                    deployed.set_caching_options(False)
                    target.configure(deployed, "deploy", timeout_s=deploy_s)

    return defectline
