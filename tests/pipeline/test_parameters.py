"""Parameters are said once, in the steps' settings: where a place was forgotten, a test says which."""

import inspect
import sys
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin

import pytest
from compiled import tasks

from defectline.components.common.errors import SettingsError
from defectline.components.evaluate.component import evaluate
from defectline.components.ingest.component import ingest
from defectline.components.preprocess.component import preprocess
from defectline.components.train.component import train
from defectline.pipeline.definition import build
from defectline.pipeline.images import Images
from defectline.pipeline.parameters import Parameters, parse
from defectline.pipeline.step_runner import SETTINGS

COMPONENTS = {"ingest": ingest, "preprocess": preprocess, "train": train, "evaluate": evaluate}


def plain(annotation: Any) -> type:
    """The type that KFP knows, of a setting that is one of several values the values' own."""
    return type(get_args(annotation)[0]) if get_origin(annotation) is Literal else annotation


def differences(place: str, found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What is to be written where, of names with what they should be."""
    missing = [f"{place} lacks {name}: {wanted[name]}" for name in wanted.keys() - found.keys()]
    wrong = [
        f"{place} has {name}: {found[name]}, its settings {wanted[name]}"
        for name in wanted.keys() & found.keys()
        if found[name] != wanted[name]
    ]
    return sorted(missing + wrong)


def test_what_was_forgotten_is_named():
    wanted = {"tiles": (int, 4), "seed": (int, 0)}
    assert differences("here", {"seed": (int, 1)}, wanted) == [
        "here has seed: (<class 'int'>, 1), its settings (<class 'int'>, 0)",
        "here lacks tiles: (<class 'int'>, 4)",
    ]


def test_parameters_are_those_of_the_pipeline():
    signature = inspect.signature(build(Images.load()).pipeline_func)
    declared = {
        name: (parameter.annotation, parameter.default) for name, parameter in signature.parameters.items()
    }
    checked = {
        name: (plain(field.annotation), inspect.Parameter.empty if field.is_required() else field.default)
        for name, field in Parameters.model_fields.items()
    }
    assert not differences("pipeline/definition.py: defectline()", declared, checked)
    assert not differences("pipeline/parameters.py: Parameters", checked, declared)


def test_every_setting_of_a_step_is_a_parameter():
    """Parameters inherits from each settings class, and adds where from, where to and what for."""
    of_steps = {name for kind in SETTINGS.values() for name in kind.model_fields}
    assert of_steps | {"source", "store", "model_name"} == set(Parameters.model_fields)


@pytest.mark.parametrize("step", SETTINGS)
def test_every_setting_has_a_sentence(step: str):
    for name, field in SETTINGS[step].model_fields.items():
        assert (field.description or "").endswith("."), f"{name} of {step} has no sentence of help"


@pytest.mark.parametrize("step", SETTINGS)
def test_the_component_takes_its_settings_and_hands_them_on(step: str, monkeypatch: pytest.MonkeyPatch):
    settings = {name: plain(field.annotation) for name, field in SETTINGS[step].model_fields.items()}
    place = f"components/{step}/component.py"
    taken = {name: p.annotation for name, p in inspect.signature(COMPONENTS[step]).parameters.items()}
    assert not differences(f"{place}: {step}()", taken, settings)

    class Handed(Exception):
        pass

    def hand(*arguments: object, **named: object) -> None:
        raise Handed(next(one for one in (*arguments, *named.values()) if isinstance(one, dict)))

    module = f"defectline.components.{step}.step"
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{step: hand}))
    files = SimpleNamespace(path="somewhere")
    given = {name: f"given {name}" if name in settings else files for name in taken}
    with pytest.raises(Handed) as caught:
        COMPONENTS[step](**{**given, "datasets": [files]} if "datasets" in given else given)
    handed = caught.value.args[0]
    assert not differences(f"{place}: settings", handed, {name: f"given {name}" for name in settings})


@pytest.mark.parametrize("step", SETTINGS)
def test_the_pipeline_gives_each_step_its_settings(documents: tuple[dict, dict], step: str):
    inputs = dict(tasks(documents[0]))[step]["inputs"]["parameters"]
    given = {name: value.get("componentInputParameter") for name, value in inputs.items()}
    wanted = {name: f"pipelinechannel--{name}" for name in SETTINGS[step].model_fields}
    assert not differences(f"pipeline/definition.py: {step}_op()", given, wanted)


@pytest.mark.parametrize("step", ["preprocess", "train", "evaluate"])
def test_other_settings_are_named_to_ingest(documents: tuple[dict, dict], step: str):
    """Runs with the same text have nothing new. Who must approve a model changes nothing of it."""
    inputs = dict(tasks(documents[0]))["ingest"]["inputs"]["parameters"]
    text = inputs["settings_key"]["runtimeValue"]["constant"]
    for name in SETTINGS[step].model_fields.keys() - {"approval"}:
        here = f"{name}={{{{$.inputs.parameters['pipelinechannel--{name}']}}}}"
        assert f" {text} ".count(f" {here} ") == 1, f"settings_key lacks {name}: {text}"


def test_parse_reads_types():
    parameters = parse("samples", "store", ["epochs=3", "min_iou=0.4", "enhance=true"], model_name="lgp")
    assert parse("samples", "store", ["grade_b_px=9", "grade_a_px=9"]).grade_b_px == 9
    assert (parameters.epochs, parameters.min_iou, parameters.enhance) == (3, 0.4, True)
    assert parameters.model_name == "lgp"


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["epochs"], "sets nothing"),
        (["epoch=1"], "no parameter epoch"),
        (["epochs=many"], "epochs"),
        (["max_escape=2"], "max_escape"),
        (["channels=2"], "channels"),
        (["masks=none"], "'all' or 'ng_only'"),
        (["empty_tiles=2"], "empty_tiles"),
        (["escape_cost=0"], "escape_cost"),
        (["grade_a_px=50"], "grade_b_px"),
        (["grade_a_px=50", "grade_b_px=49"], "grade_b_px"),
        (["source=elsewhere"], "no parameter source"),
        (["model_name=Plates"], "lowercase letters"),
        (["model_name=" + 41 * "a"], "at most 40"),
        (["seed=2147483648"], "seed"),
        (["training=epoch=1"], "no setting epoch of training"),
    ],
)
def test_parse_refuses(pairs, says):
    with pytest.raises(SettingsError, match=says):
        parse("samples", "store", pairs)


def test_a_model_has_one_name():
    assert parse("samples", "store", ["model_name=a"], model_name="defects").model_name == "a"
    assert parse("samples", "store", ["model_name=a"], model_name="a").model_name == "a"
    with pytest.raises(SettingsError, match="two names"):
        parse("samples", "store", ["model_name=a"], model_name="b")


@pytest.mark.parametrize("source", ["", " "])
def test_a_source_that_is_empty_is_told_with_both_ways_to_give_it(source):
    with pytest.raises(SettingsError, match="No source is given") as caught:
        parse(source, "store", [])
    assert "--source" in caught.value.fix
    assert "--config" in caught.value.fix


def test_a_setting_of_training_may_be_set_alone():
    together = parse("samples", "store", ["training=patience=5 learning_rate=0.01"])
    assert parse("samples", "store", ["patience=5", "learning_rate=0.01"]) == together
    # Of two values the last one counts, wherever it is written.
    assert parse("samples", "store", ["training=patience=9", "learning_rate=0.01", "patience=5"]) == together
