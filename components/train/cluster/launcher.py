"""The train step where several nodes train: it starts a TrainJob, follows it, and fetches the model."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from defectline.components.common.reporting.pod import RUN_ENV
from defectline.components.common.settings import checked
from defectline.components.common.steps import say, step
from defectline.components.common.storage import open_storage
from defectline.components.train.cluster.api import Api
from defectline.components.train.cluster.exchange import Exchange
from defectline.components.train.cluster.following import TrainJob
from defectline.components.train.cluster.settings import NodesSettings
from defectline.components.train.cluster.trainjob import build
from defectline.components.train.settings import read_settings

EVERY_S = 5.0


def train_on_nodes(
    datasets: Sequence[Path],
    model: Path,
    page: Path,
    settings: Mapping[str, Any],
    nodes: Mapping[str, Any],
    *,
    store: str,
    api: Api | None = None,
    every_s: float = EVERY_S,
) -> dict[str, float]:
    """What `train` of step.py does, by the pods of a TrainJob: `nodes` are fields of NodesSettings.

    The TrainJob and what it needs in the store are removed at the end, whatever that is; also where the
    process is told to end. Started again for the same run, it follows the TrainJob that is there. Raises
    SystemExit, as a step does, for what the user can fix, and RuntimeError where the TrainJob failed.
    """
    with step("train", store) as report:
        chosen, where = read_settings(**settings), checked(NodesSettings, **nodes)
        api = api or Api.of_this_pod()
        name = _name(datasets, settings, where)
        exchange = Exchange(open_storage(store), name)
        job = TrainJob(api, name)
        report.on_stop = job.stop
        try:
            if job.leftover():
                say(f"train: going on with TrainJob {name}, which is there")
            else:
                exchange.forget()
                exchange.put_order(datasets, settings)
                job.start(build(name, store, where))
                say(f"train: started TrainJob {name} of {where.nodes} pods, {chosen.epochs} epochs at most")
            failure = job.follow(every_s)
            if failure is not None:
                if error := exchange.error():
                    raise error
                raise RuntimeError(f"TrainJob {name} failed: {failure or 'nothing says why'}")
            best = exchange.get_model(model, page)
        finally:
            job.stop()
            exchange.forget()
        report.summary = (
            f"on {where.nodes} nodes, best epoch {best['epoch']:.0f}, loss {best['val_loss']:.3f}"
        )
        return best


def _name(datasets: Sequence[Path], settings: Mapping[str, Any], where: NodesSettings) -> str:
    """The same for a step of the same run that starts again."""
    data = [(folder / "dataset.json").read_bytes() for folder in datasets]
    parts = {
        "run": os.environ.get(RUN_ENV, ""),
        "data": [hashlib.sha256(content).hexdigest() for content in data],
        "settings": dict(settings),
        "nodes": where.model_dump(),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"defectline-{digest[:12]}"
