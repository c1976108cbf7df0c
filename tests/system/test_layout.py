"""Who may import whom, how large rooms and modules may be, and where their tests are."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest
from paths import ROOT

STEPS = ("ingest", "preprocess", "train", "evaluate", "deploy", "serve")
PLAIN = ("errors", "files", "installing", "prediction")
"""Modules of common that need next to nothing."""
FLOORS = {
    "cli": ("cli", "client", "pipeline", "components"),
    "pipeline": ("pipeline", "components"),
    "client": (
        "client",
        *(f"components.common.{name}" for name in ("errors", "files", "installing", "prediction")),
    ),
    **{f"components.{name}": (f"components.{name}", "components.common") for name in STEPS},
    "components.common": ("components.common",),
}
"""Package → what it may import of ours."""
DRAWS = "client/overlay.py"
"""May import images too, for it is imported where NumPy and OpenCV are installed: by a function."""
ONLY = {
    "kfp": ("pipeline", "component.py"),
    "tensorflow": ("components/train",),
    "keras": ("components/train",),
    "nncf": ("components/train",),
    "kserve": ("components/serve",),
    "kubernetes": ("components/deploy",),
}
"""Package of others → the places that may import it."""
MOST_MODULES = 16
"""In a folder."""
MOST_LINES = 400
"""Of a module."""
MEDIAN_LINES = 108
MOST_UNTESTED = 0.2
"""Of the modules, without a file of tests of their name."""


def modules(folder: str = "") -> list[Path]:
    """The modules of a folder, or of all that is installed."""
    folders = [folder] if folder else ["cli", "client", "components", "pipeline"]
    return sorted(path for name in folders for path in (ROOT / name).rglob("*.py"))


def name_of(path: Path) -> str:
    """`defectline.components.common.errors` and the like; of an `__init__.py` its package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("defectline", *parts[: len(parts) - (parts[-1] == "__init__")]))


def imports(tree: ast.AST, whole: bool = True) -> Iterator[str]:
    """What is imported, with the names that are taken from it; whether or not in functions as well."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif whole or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(node, whole)


def imported(path: Path, whole: bool = True) -> list[str]:
    return list(imports(ast.parse(path.read_text()), whole))


def test_something_is_checked():
    assert len(modules("components")) > 20
    assert "kserve.model.Model" in imported(ROOT / "components/serve/sdk.py")
    source = "import a\nif TYPE_CHECKING:\n    from b import c\ndef f():\n    import d"
    assert list(imports(ast.parse(source))) == ["a", "b.c", "d"]
    assert list(imports(ast.parse(source), whole=False)) == ["a", "b.c"]


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_imports_only_itself_and_the_floors_below(floor):
    for path in modules(floor.replace(".", "/")):
        images = ["components.common.images"] if path == ROOT / DRAWS else []
        allowed = tuple(f"defectline.{name}." for name in (*FLOORS[floor], *images))
        for name in imported(path):
            if name.startswith("defectline."):
                assert f"{name}.".startswith(allowed), f"{path} imports {name}"


def test_the_client_needs_no_arrays():
    ours = {name for path in modules("client") for name in imported(path, whole=False)}
    assert not any(name.startswith("defectline.client.overlay") for name in ours)
    plain = [path for path in modules("client") if path != ROOT / DRAWS]
    plain += [ROOT / f"{name.replace('.', '/')}.py" for name in FLOORS["client"] if "." in name]
    found = {name.split(".")[0] for path in plain for name in imported(path, whole=False)}
    assert found - sys.stdlib_module_names == {"defectline", "httpx", "pydantic"}


def test_no_two_modules_import_each_other_in_a_circle():
    """Imports for type checkers count; those within functions do not."""
    known = {name_of(path) for path in modules()}
    graph = {
        name_of(path): {
            name if name in known else name.rpartition(".")[0]
            for name in imported(path, whole=False)
            if name.startswith("defectline.")
        }
        for path in modules()
    }
    assert set().union(*graph.values()) <= known
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' ← '.join(error.args[1])}")


@pytest.mark.parametrize("package", ONLY)
def test_heavy_packages_stay_where_they_belong(package):
    for path in modules():
        if any(name.split(".")[0] == package for name in imported(path)):
            relative = path.relative_to(ROOT).as_posix()
            places = ONLY[package]
            assert relative.startswith(places) or path.name in places, f"{relative} imports {package}"


def test_every_package_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    folders = {name_of(path) for path in modules() if path.name == "__init__.py"}
    assert set(listed) - {"defectline"} == folders
    assert {path.parent for path in modules()} == {ROOT.joinpath(*name.split(".")[1:]) for name in folders}, (
        "a folder of modules without an __init__.py"
    )


def test_rooms_and_modules_are_small():
    rooms: dict[Path, int] = {}
    for path in modules():
        if path.name != "__init__.py":
            rooms[path.parent] = rooms.get(path.parent, 0) + 1
    assert {str(room): count for room, count in rooms.items() if count > MOST_MODULES} == {}
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in modules()
        if path.stat().st_size
    }
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}
    assert median(lines.values()) <= MEDIAN_LINES


def test_most_modules_have_tests_of_their_name():
    """`components/deploy/local.py` → `tests/deploy/test_local.py`; `cli/ui.py` → `tests/cli/test_ui.py`."""
    sought = {}
    for path in modules():
        if path.name not in ("__init__.py", "__main__.py"):
            parts = path.relative_to(ROOT).parts
            folder = Path("tests", *parts[parts[0] == "components" : -1])
            sought[path.relative_to(ROOT)] = ROOT / folder / f"test_{path.name}"
    missing = [str(path) for path, test in sought.items() if not test.exists()]
    assert len(missing) <= MOST_UNTESTED * len(sought), "\n".join(missing)
