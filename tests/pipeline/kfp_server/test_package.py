"""Compiled pipelines, read and checked before anything is sent to a server."""

import hashlib

import pytest
from kfp import compiler
from small_pipeline import PARAMETERS, assert_helps, tiny

from defectline.components.common.errors import SettingsError
from defectline.pipeline import CROSSVAL_PIPELINE, PIPELINE
from defectline.pipeline.kfp_server.package import read_package


def test_a_package_names_itself_by_its_content_and_its_steps(package):
    read = read_package(package, PARAMETERS)
    assert read.version == hashlib.sha256(package.read_bytes()).hexdigest()[:12]
    # Without the condition around the second step.
    assert read.steps == {"measure", "judge"}
    assert (read.path, read.spec["pipelineInfo"]["name"]) == (package, "tiny")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"source": "s3://x", "epoch": 3}, ("epoch", "epochs, force, source")),
        ({"epochs": 3}, ("also source", "Give source")),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_anything_is_sent(run, server, parameters, words):
    with pytest.raises(SettingsError) as caught:
        run(parameters=parameters)

    assert_helps(caught.value, *words)
    assert server.requests == []


@pytest.mark.parametrize("content", [None, "", "a: [", "a: 1", "- 1"])
def test_a_package_that_is_none_is_refused(run, tmp_path, content):
    path = tmp_path / "other.yaml"
    if content is not None:
        path.write_text(content)

    with pytest.raises(SettingsError, match=r"(no|not a) compiled pipeline") as caught:
        run(package=path)

    assert str(path) in caught.value.fix


@pytest.mark.parametrize(
    ("found", "wanted", "words"),
    [
        (CROSSVAL_PIPELINE, PIPELINE, ("of a cross-validation", "without `--what", "`defectline crossval")),
        (PIPELINE, CROSSVAL_PIPELINE, ("of runs", "with `--what crossval`", "`defectline submit`")),
    ],
)
def test_another_pipeline_of_these_is_refused_before_anything_is_sent(
    run, apply, server, tmp_path, found, wanted, words
):
    path = tmp_path / "other.yaml"
    compiler.Compiler().compile(tiny, str(path), pipeline_name=found)
    assert read_package(path, PARAMETERS, found).spec["pipelineInfo"]["name"] == found

    with pytest.raises(SettingsError) as caught:
        run(package=path, pipeline=wanted)

    assert_helps(caught.value, str(path), *words)
    if wanted == PIPELINE:
        with pytest.raises(SettingsError, match="of a cross-validation"):
            apply(package=path)
    assert server.requests == []


def test_how_a_cross_validation_is_written_is_told(run, tmp_path):
    with pytest.raises(SettingsError) as caught:
        run(package=tmp_path / "none.yaml", pipeline=CROSSVAL_PIPELINE)
    assert_helps(caught.value, f"`defectline compile --what crossval -o {tmp_path / 'none.yaml'}`")
