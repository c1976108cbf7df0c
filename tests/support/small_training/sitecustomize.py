"""With this folder on PYTHONPATH, the train step of a process builds the network of `small_network`.

Python imports a module of this name at its start. The real network takes a minute to compile and export,
whatever it learns, so that one test of a whole run has it and the others need not. Keras is imported without
the packages that it would use if they were there and that no test of it needs: two seconds a process.
"""

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

NETWORK = "defectline.components.train.network"
OPTIONAL = frozenset({"sklearn", "IPython", "pandas", "matplotlib"})
"""What Keras imports for wrappers and pictures that it draws in notebooks."""


class SmallNetwork(MetaPathFinder):
    """Finds the module NETWORK where it is, and replaces what it builds."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != NETWORK:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def replace(module: ModuleType) -> None:
            execute(module)
            sys.path.append(str(Path(__file__).parents[1]))
            from small_network import build_small

            module.build_network = build_small  # type: ignore[attr-defined]

        spec.loader.exec_module = replace  # type: ignore[method-assign]
        return spec


class Hide(MetaPathFinder):
    """Says of the packages OPTIONAL that they are not installed."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name in OPTIONAL:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class LeanKeras(MetaPathFinder):
    """Finds Keras where it is, and hides the packages OPTIONAL while it is imported, and no longer."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute, hide = spec.loader.exec_module, Hide()

        def alone(module: ModuleType) -> None:
            sys.meta_path.insert(0, hide)
            try:
                execute(module)
            finally:
                sys.meta_path.remove(hide)

        spec.loader.exec_module = alone  # type: ignore[method-assign]
        return spec


sys.meta_path[:0] = [SmallNetwork(), LeanKeras()]
