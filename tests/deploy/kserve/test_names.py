"""What KServe calls things after a model."""

import pytest

from defectline.components.deploy.kserve.names import (
    LONGEST,
    is_name,
    longest_name,
    longest_part,
    room,
)


def test_the_longest_names_fill_a_label() -> None:
    name = "a" * longest_name("Standard")
    assert len(f"isvc.{name}-candidate-predictor") == LONGEST
    name = "a" * longest_name("Knative")
    assert len(f"latest-{name}-candidate-predictor") == LONGEST


@pytest.mark.parametrize(
    ("name", "right"), [("defects", True), ("a1-b", True), ("Defects", False), ("1a", False), ("a-", False)]
)
def test_names(name: str, right: bool) -> None:
    assert is_name(name, "Standard") == right
    assert not is_name("a" * 60, "Standard")


def test_hosts() -> None:
    assert longest_part("defects", "vision") == "defects-candidate-predictor-vision"
    assert longest_part("defects", "vision", "{{.Name}}.{{- .Namespace }}.x") == "defects-candidate-predictor"
    assert longest_part("defects", "vision", "{{ .Labels.host }}.x") == ""
    assert len(longest_part("a" * room("vision"), "vision")) == LONGEST
