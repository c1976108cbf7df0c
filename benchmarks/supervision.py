"""What labels are worth: the same folds judged by networks that learned from more and more of them.

    python benchmarks/supervision.py SOURCE --folds 3 --masks 5 20 --seeds 1 --set epochs=10

Folds are dealt as `defectline crossval` does. Of the images to train on and to validate with, a network sees

- good only: the good ones
- image labels: and the defective ones, without masks
- N masks: of these, N images to train on with their masks, spread over them in the order of their names
- all: all masks

and each is judged on the fold's test split, which has all. What is done is kept in --store: the same command
goes on where it was cut off.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from defectline.components.common.snapshot import (
    Pair,
    publish_snapshot,
    read_pairs,
    read_snapshot,
)
from defectline.components.common.storage import Storage, open_storage
from defectline.components.evaluate.collecting import FoldRun, as_markdown, read_judged
from defectline.components.ingest.grouping.folds import deal_all
from defectline.pipeline.crossval.judging import Task, judge
from defectline.pipeline.crossval.validate import take_snapshot, titled
from defectline.pipeline.local import run_lock, temporary_workdir
from defectline.pipeline.parameters import parse
from defectline.pipeline.workers import Worker, run_all

NO_MASK = {"mask_key": "", "mask_version": "", "mask_sha256": "", "areas": "", "legend": "", "marks": ""}


class Labels(NamedTuple):
    title: str
    defective: bool
    """Whether defective images are learned from."""
    masks: int | None = None
    """Of how many of them; None for all."""

    def of(self, pairs: Sequence[Pair]) -> list[Pair]:
        """One fold's pairs, as far as these labels go. Pure."""
        marked = [pair.id for pair in pairs if pair.label == "NG" and pair.split == "train" and pair.masked]
        count = len(marked) if self.masks is None else min(self.masks, len(marked))
        kept = {marked[index] for index in np.linspace(0, len(marked) - 1, count).round().astype(int)}
        found = []
        for pair in pairs:
            if pair.label == "NG" and pair.split != "test":
                if not self.defective:
                    continue
                if self.masks is not None and pair.id not in kept:
                    pair = pair._replace(**NO_MASK, mask_bytes=0, defect_px=0)
            found.append(pair)
        return found


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--store", default="./supervision")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--fold", type=int, help="judge this one alone, from 0 on")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--masks", type=int, nargs="*", default=[5, 20])
    parser.add_argument("--only", nargs="*", help="titles of the rows")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    parameters = parse(options.source, options.store, options.settings)
    store = open_storage(options.store)
    wanted = [
        Labels("good only", defective=False),
        Labels("image labels", defective=True, masks=0),
        *(Labels(f"{count} masks", defective=True, masks=count) for count in options.masks),
        Labels("all", defective=True),
    ]
    with run_lock(store), temporary_workdir() as work:
        snapshot = take_snapshot(parameters, store, work, say)
        taken = read_snapshot(store, snapshot)
        accepted = [pair for pair in read_pairs(store, snapshot) if pair.accepted]
        folds = deal_all(accepted, options.folds, say)
        if options.fold is not None:
            folds = [folds[options.fold]]
        for labels in wanted:
            if options.only and labels.title not in options.only:
                continue
            dealt = [
                publish_snapshot(store, labels.of(pairs), taken.source, taken.classes, taken.class_map).id
                for pairs in folds
            ]
            tasks = [
                Task(parameters.model_copy(update={"seed": seed}), fold)
                for seed in range(parameters.seed, parameters.seed + options.seeds)
                for fold in dealt
            ]
            jobs = [
                partial(one, task, f"{labels.title}, {number} of {len(tasks)}", store, work)
                for number, task in enumerate(tasks, 1)
            ]
            run_all(jobs, options.workers)
            runs = [FoldRun(task.parameters.seed, task.snapshot, task.run) for task in tasks]
            say(f"\n{labels.title}\n\n{as_markdown(read_judged(store, runs))}")


def one(task: Task, title: str, store: Storage, work: Path, worker: Worker) -> None:
    judge(task, store, work, titled(say, title), worker)


if __name__ == "__main__":
    main()
