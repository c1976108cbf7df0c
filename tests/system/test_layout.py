"""Who may import whom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

COMPONENTS = ("ingest", "preprocess", "train", "evaluate", "deploy", "serve")
ONLY = {
    "kfp": ("pipeline", "component.py"),
    "tensorflow": ("components/train",),
    "keras": ("components/train",),
    "nncf": ("components/train",),
    "kserve": ("components/serve",),
    "kubernetes": ("components/deploy",),
}
"""Package → the places that may import it."""


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_something_is_checked():
    assert len(modules("components")) > 20
    assert "kserve.model" in set(imports(ROOT / "components/serve/sdk.py"))


@pytest.mark.parametrize("name", ["common", *COMPONENTS])
def test_components_import_nothing_of_ours_but_common_and_themselves(name):
    allowed = ("defectline.components.common", f"defectline.components.{name}")
    for path in modules(f"components/{name}"):
        for imported in imports(path):
            if imported.startswith("defectline."):
                assert imported.startswith(allowed), f"{path} imports {imported}"


@pytest.mark.parametrize("package", ONLY)
def test_heavy_packages_stay_where_they_belong(package):
    for path in [*modules("components"), *modules("pipeline")]:
        if any(imported.split(".")[0] == package for imported in imports(path)):
            relative = path.relative_to(ROOT).as_posix()
            places = ONLY[package]
            assert relative.startswith(places) or path.name in places, f"{relative} imports {package}"
