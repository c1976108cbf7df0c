"""What steps ask of a cluster, and what of it can be changed."""

import re
from pathlib import Path

import pytest
import yaml
from commands import call
from compiled import STEPS, executors
from paths import ROOT

from defectline.components.common.errors import SettingsError
from defectline.pipeline.resources import DEFAULT, SMALL, Resources, _bytes, _processors, parse_resources

SMALL_NODE_CPU = 2.0
SMALL_NODE_BYTES = 8 << 30


def test_every_step_has_its_own():
    assert DEFAULT.keys() == SMALL.keys() == STEPS
    assert parse_resources([]) == DEFAULT


@pytest.mark.parametrize("step", sorted(STEPS))
def test_no_step_needs_a_whole_small_node(step: str):
    """A node with two processors never has two free: what runs on each node takes some."""
    for preset in (DEFAULT, SMALL):
        resources = preset[step]
        assert _processors("", resources.cpu) <= SMALL_NODE_CPU / 2
        assert _bytes("", resources.memory) <= SMALL_NODE_BYTES / 2
        assert _bytes("", resources.memory) <= _bytes("", resources.memory_limit)
    assert _processors("", SMALL[step].cpu) <= SMALL_NODE_CPU / 4


def test_later_ones_win():
    found = parse_resources(["train=3,6Gi", "small", "train=1,1Gi", "ingest=0.5,1Gi,3Gi,2"])
    assert found["train"] == Resources("1", "1Gi", "4Gi")
    assert found["ingest"] == Resources("0.5", "1Gi", "3Gi", "2")
    assert found["evaluate"] == SMALL["evaluate"]


def test_without_a_limit_it_stays_unless_more_is_requested():
    assert parse_resources(["train=1,2Gi"])["train"].memory_limit == "8Gi"
    assert parse_resources(["train=1,12Gi"])["train"].memory_limit == "12Gi"
    assert parse_resources(["train=1,9000Mi"])["train"].memory_limit == "9000Mi"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("trian=1,2Gi", "train?"),
        ("smal", "small?"),
        ("", "Use one of these"),
        ("train=1", "1 of the amounts"),
        ("train=", "1 of the amounts"),
        ("train=1,2Gi,3Gi,4,5", "5 of the amounts"),
        ("train=two,2Gi", "'two' for processors"),
        ("train=0,2Gi", "'0' for processors"),
        ("train=-1,2Gi", "'-1' for processors"),
        ("train=1,2", "'2' for memory"),
        ("train=1,2gb", "'2gb' for memory"),
        ("train=1,1.5Gi", "'1.5Gi' for memory"),
        ("train=1,0Gi", "'0Gi' for memory"),
        ("train=1,2Gi,1Gi", "2Gi with a limit of 1Gi"),
        ("train=2,2Gi,4Gi,500m", "2 processors with a limit of 500m"),
    ],
)
def test_what_is_wrong_is_said(text: str, part: str):
    with pytest.raises(SettingsError) as caught:
        parse_resources([text])
    assert part in str(caught.value)
    assert text.partition("=")[0] in caught.value.what


def test_an_unknown_step_is_told_which_there_are():
    with pytest.raises(SettingsError) as caught:
        parse_resources(["serve=1,1Gi"])
    for step in STEPS:
        assert step in caught.value.expected


def test_requests_and_limits_are_compiled_apart(tmp_path: Path):
    package = tmp_path / "pipeline.yaml"
    options = ("--resources", "small", "--resources", "train=1,2Gi,6Gi,4")
    done = call("compile", "-o", package, *options)
    assert done.returncode == 0, done.stderr
    found = executors(next(yaml.safe_load_all(package.read_text())))
    for step, container in found.items():
        expected = {
            "resourceCpuRequest": SMALL[step].cpu,
            "resourceMemoryRequest": SMALL[step].memory,
            "resourceMemoryLimit": SMALL[step].memory_limit,
        }
        if step == "train":
            expected = dict(zip(expected, ("1", "2Gi", "6Gi"), strict=True)) | {"resourceCpuLimit": "4"}
        told = {key: value for key, value in container["resources"].items() if key.startswith("resource")}
        assert told == expected


def test_compile_refuses_what_it_cannot_use(tmp_path: Path):
    done = call("compile", "-o", tmp_path / "pipeline.yaml", "--resources", "trian=1,2Gi")
    assert done.returncode == 2
    assert "Did you mean train?" in done.stderr
    assert not (tmp_path / "pipeline.yaml").exists()


def test_the_table_of_the_docs():
    section = (ROOT / "docs/cluster.md").read_text().partition("\n## Sizes\n")[2].partition("\n## ")[0]
    told = {}
    for line in (line for line in section.splitlines() if line.startswith("|")):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for step in re.findall(r"[a-z-]+", cells[0]):
            if step in STEPS:
                told[step] = cells[1:3]
    expected = {
        step: [f"{one.cpu}, {one.memory}; at most {one.memory_limit}" for one in (DEFAULT[step], SMALL[step])]
        for step in STEPS
    }
    assert told == expected
