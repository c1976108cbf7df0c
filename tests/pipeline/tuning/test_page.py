"""What a tune came to: a file for `run --config`, a table and a page."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.config import read_config
from defectline.pipeline.parameters import Parameters, parse
from defectline.pipeline.tuning.config_file import config_text
from defectline.pipeline.tuning.options import Tuned
from defectline.pipeline.tuning.page import page, rows, write_result
from defectline.pipeline.tuning.plot import plot
from defectline.pipeline.tuning.space import apply
from defectline.pipeline.tuning.study import FoldResult, Footprint, Study, Trial
from defectline.pipeline.tuning.trials import best_of

SPACE = {"learning_rate": FloatDistribution(1e-4, 1e-2), "tile": CategoricalDistribution((False, True))}
PARAMETERS = parse(
    "plates", "store", ["epochs=7", "training=patience=5", "escape_cost=5"], model_name="plates"
)


def folds(*costs: float) -> tuple[FoldResult, ...]:
    return tuple(FoldResult(run=f"r{n}", pictures=10, cost=cost, iou=0.5) for n, cost in enumerate(costs))


@pytest.fixture
def tuned() -> Tuned:
    study = Study(
        source="plates",
        snapshot="abc",
        folds=("f", "g"),
        objective="cost",
        seed=2,
        settings="epochs=7",
        space={"learning_rate": "0.0001..0.01", "tile": "false,true"},
    )
    light = Footprint(latency_ms=8.25, memory_mb=310)
    trials = [
        Trial(
            number=0, state="complete", values={"learning_rate": 0.002, "tile": False}, folds=folds(0.2, 0.4)
        ),
        Trial(
            number=1,
            state="complete",
            values={"learning_rate": 0.0044, "tile": True},
            folds=folds(0.1, 0.2),
            footprint=light,
        ),
        Trial(number=2, state="pruned", values={"learning_rate": 0.009, "tile": True}, folds=folds(0.9)),
        Trial(number=3, state="failed", values={"learning_rate": 0.01, "tile": True}, reason="<NaN>"),
    ]
    return Tuned(study, SPACE, trials, best_of(trials, "cost"))


def test_the_best_settings_are_a_file_for_run(tuned: Tuned, tmp_path: Path):
    text = config_text(tuned, PARAMETERS, every_picture=False)
    file = tmp_path / "best.yaml"
    file.write_text(text)
    config = read_config(file)
    assert (config.source, config.store, config.name) == ("plates", "store", "plates")
    values = {**config.parameters, "source": config.source, "store": config.store, "model_name": config.name}
    training = values.pop("training")
    best = apply(PARAMETERS, {"learning_rate": 0.0044, "tile": True})
    assert Parameters(**values, training=" ".join(sorted(training.split()))) == best
    for says in (
        "best of 4 trials",
        "trial 1",
        "0.150 ± 0.071 over the folds; with the settings as they were 0.300 ± 0.141",
        "8.25 ms",
        "2 judged, 1 given up, 1 failed",
        "learning_rate=0.0001..0.01, tile=false,true",
        "--set seed=1002",
        "no trial has seen",
    ):
        assert says in text
    assert "All pictures were used" in config_text(tuned, PARAMETERS, every_picture=True)
    # The settings as they are may be the best.
    same = tuned._replace(best=tuned.trials[0])
    file.write_text(config_text(same, PARAMETERS, every_picture=False))
    assert "tile" not in read_config(file).parameters


def test_a_row_a_trial_the_best_first(tuned: Tuned):
    found = rows(tuned, PARAMETERS)
    assert [row[0] for row in found] == [1, 0, 2, 3]
    assert found[0][1:] == (
        "judged",
        pytest.approx(0.15),
        pytest.approx(0.0707, abs=1e-4),
        0.5,
        "8.2",
        310,
        "learning_rate=0.0044 tile=true",
    )
    assert found[1][-1] == "as they are"
    assert found[3][-1] == "learning_rate=0.01 tile=true – <NaN>"


def test_the_page_has_table_plot_and_settings_in_light_and_dark(tuned: Tuned, tmp_path: Path):
    store = FolderStorage(tmp_path)
    config = write_result(store, tuned, PARAMETERS, every_picture=False)
    folder = tmp_path / "tuning" / tuned.study.id
    assert (folder / "config.yaml").read_text() == config
    text = (folder / "index.html").read_text()
    assert "color-scheme: light dark" in text
    assert "&lt;NaN&gt;" in text
    assert "<script" not in text
    assert '<tr class="best"><td class="n">1</td>' in text
    drawn = plot(tuned)
    ElementTree.fromstring(drawn)
    assert "currentColor" in drawn
    assert "#123456" not in drawn
    assert drawn == plot(tuned)
    none = tuned._replace(best=None)
    assert write_result(store, none, PARAMETERS, every_picture=False) == ""
    assert "No trial keeps the limits" in page(none, PARAMETERS, "")
