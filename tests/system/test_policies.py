"""The admission policies, as the API server would evaluate them."""

from typing import Any

import celpy
import pytest
import yaml
from celpy.adapter import json_to_cel
from paths import ROOT

POLICY = yaml.safe_load_all((ROOT / "manifests/policies/images.yaml").read_text())
SPEC = next(iter(POLICY))["spec"]
PINNED = f"registry.example.com/vision/defectline-serve@sha256:{'a' * 64}"


def evaluate(expression: str, activation: dict[str, Any]) -> Any:
    environment = celpy.Environment()
    program = environment.program(environment.compile(expression))
    return program.evaluate({name: json_to_cel(value) for name, value in activation.items()})


def refusals(pod: dict[str, Any]) -> list[bool]:
    """Which of the validations fail."""
    variables: dict[str, Any] = {}
    for one in SPEC["variables"]:
        expression = one["expression"]
        variables[one["name"]] = evaluate(expression, {"object": pod, "variables": variables})
    return [
        not evaluate(one["expression"], {"object": pod, "variables": variables})
        for one in SPEC["validations"]
    ]


def pod(*images: str, **more: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "x", "image": image} for image in images], **more}}


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (pod(PINNED), [False, False]),
        (pod("registry.example.com/vision/defectline-serve:0.1.0"), [False, True]),
        (pod(PINNED, f"docker.io/evil@sha256:{'a' * 64}"), [True, False]),
        # A registry whose name begins alike.
        (pod(PINNED.replace("example.com/", "example.com.evil.net/")), [True, False]),
        (pod(f"{PINNED}x"), [False, True]),
        (pod(PINNED, initContainers=[{"name": "i", "image": "busybox"}]), [True, True]),
        (pod(PINNED, ephemeralContainers=[{"name": "e", "image": "busybox:1"}]), [True, True]),
        (pod(PINNED, volumes=[{"name": "v", "emptyDir": {}}]), [False, False]),
        (pod(PINNED, volumes=[{"name": "v", "image": {"reference": PINNED}}]), [False, False]),
        (pod(PINNED, volumes=[{"name": "v", "image": {"reference": "plates:1"}}]), [True, True]),
        (pod(PINNED, volumes=[{"name": "v", "image": {}}]), [True, True]),
    ],
)
def test_images_of_other_registries_and_without_a_digest(given, refused):
    assert refusals(given) == refused
