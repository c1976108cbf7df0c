"""Labels and taints of nodes, as people write them."""

import pytest

from defectline.components.common.errors import SettingsError
from defectline.pipeline.nodes import parse_node_selector, parse_tolerations


def test_labels():
    texts = ["pool=cpu", "nvidia.com/gpu.product=NVIDIA-A30", "empty=", "pool=gpu"]
    expected = {"pool": "gpu", "nvidia.com/gpu.product": "NVIDIA-A30", "empty": ""}
    assert parse_node_selector(texts) == expected
    assert parse_node_selector(()) == {}


@pytest.mark.parametrize(
    "text",
    ["pool", "=gpu", "pool=a b", "pool=a=b", "-pool=a", "pool=-a", "a/b/c=d", "P/c=d", f"{'k' * 64}=a"],
)
def test_what_is_not_a_label_is_refused(text: str):
    with pytest.raises(SettingsError, match="is not a label") as caught:
        parse_node_selector([text])
    assert text in caught.value.got
    assert "--node-selector" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu", {"operator": "Exists", "key": "gpu"}),
        (
            "nvidia.com/gpu:NoSchedule",
            {"operator": "Exists", "key": "nvidia.com/gpu", "effect": "NoSchedule"},
        ),
        ("pool=gpu", {"operator": "Equal", "key": "pool", "value": "gpu"}),
        ("pool=:NoExecute", {"operator": "Equal", "key": "pool", "value": "", "effect": "NoExecute"}),
    ],
)
def test_taints(text: str, expected: dict[str, str]):
    assert parse_tolerations([text, text]) == (expected, expected)


@pytest.mark.parametrize("text", ["", "=a", "gpu:Never", "gpu:", "gpu=a b", "gpu:NoSchedule:NoExecute"])
def test_what_is_not_a_taint_is_refused(text: str):
    with pytest.raises(SettingsError, match="is not a taint") as caught:
        parse_tolerations([text])
    assert "NoSchedule, PreferNoSchedule, NoExecute" in caught.value.expected
