"""Compiled pipelines, read and checked before anything is sent to a server."""

import hashlib

import pytest
from small_pipeline import PARAMETERS, assert_helps

from defectline.components.common.errors import SettingsError
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
