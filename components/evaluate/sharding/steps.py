"""The two steps before an evaluation in shards: choose the network and where it decides, and judge a part of
the test pictures with it, with the champion and with the reference."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from defectline.components.common.inference.network import Network
from defectline.components.common.settings import checked
from defectline.components.common.snapshot import Pair
from defectline.components.common.steps import step
from defectline.components.common.storage import open_storage
from defectline.components.evaluate.champion import score_champion, score_reference
from defectline.components.evaluate.inputs import read_inputs
from defectline.components.evaluate.scoring import Scored, tally
from defectline.components.evaluate.settings import EvaluateSettings
from defectline.components.evaluate.sharding.files import (
    CHALLENGER,
    cut,
    missing,
    part_of,
    read_chosen,
    write_chosen,
    write_part,
)
from defectline.components.evaluate.validation.calibration import OperatingPoint
from defectline.components.evaluate.validation.candidates import choose_network


def calibrate(
    store: str, snapshot: str, model: Path, settings: Mapping[str, object], run: str, shards: int
) -> list[str]:
    """Choose network and operating point as evaluate does, for the steps that follow, and cut the test
    pictures into at most `shards` parts.

    Returns what `judge_part` takes as its `part`: `1/3`, `2/3`, …; one part where there are few.
    """
    with step("calibrate", store) as report:
        chosen = checked(EvaluateSettings, **settings)
        storage = open_storage(store)
        inputs = read_inputs(storage, snapshot, model, chosen)
        found = choose_network(model, inputs, storage, chosen)
        write_chosen(storage, run, model, snapshot, found)
        tested = inputs.splits["test"]
        count = cut(tested, shards)
        told = f"{len(tested):,} test pictures in {count} parts"
        report.summary = f"{found.served}, threshold {found.point.threshold}; {told}"
        return [f"{number}/{count}" for number in range(1, count + 1)]


def judge_part(
    store: str,
    snapshot: str,
    model: Path,
    run: str,
    part: str,
    model_name: str = "defects",
    champion: str = "",
) -> str:
    """Judge a part of the test pictures, and keep the numbers for the evaluation that follows.

    The version `champion`, "" for none, and what it was compared with judge those that evaluate would ask
    them for. Returns a sentence. Raises SettingsError where `calibrate` has not chosen a network of this
    model.
    """
    number, _, count = part.partition("/")
    with step("judge", store, shard=int(number) - 1, shards=int(count)) as report:
        storage = open_storage(store)
        inputs = read_inputs(storage, snapshot, model, EvaluateSettings())
        chosen = read_chosen(storage, run, model, inputs)
        if chosen is None:
            raise missing(run)
        tested, names = inputs.splits["test"], inputs.names
        mine = {pair.id for pair in part_of(tested, int(number) - 1, int(count))}

        def judge(
            who: str, network: Network, point: OperatingPoint, pairs: Sequence[Pair], what: str
        ) -> Scored:
            scored = tally(network, point, storage, [p for p in pairs if p.id in mine], names, what)
            write_part(storage, run, who, int(number) - 1, scored)
            return scored

        judge(CHALLENGER, chosen.network, chosen.point, tested, "judging")
        score_reference(
            storage,
            model_name,
            score_champion(storage, model_name, champion, tested, names, judge),
            tested,
            names,
            judge,
        )
        report.summary = f"{len(mine):,} pictures"
        return report.summary
