"""What a process of a test changes in modules that it imports.

For files `sitecustomize.py`, which Python imports at its start from a folder on PYTHONPATH.
"""

import importlib.util
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _Changed(MetaPathFinder):
    """Finds one module where it is."""

    def __init__(
        self, module: str, change: Callable[[ModuleType], Any], within: AbstractContextManager[None]
    ) -> None:
        self.module, self.change, self.within = module, change, within

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            with self.within:
                execute(module)
            # What changes it may import it.
            sys.modules[name] = module
            self.change(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


def when_imported(
    module: str,
    change: Callable[[ModuleType], Any] = lambda _: None,
    within: AbstractContextManager[None] | None = None,
) -> None:
    """Call `change` with the module as soon as it was imported, which happens `within` this context."""
    sys.meta_path.insert(0, _Changed(module, change, within or nullcontext()))


class _Hide(MetaPathFinder):
    def __init__(self, packages: Collection[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@contextmanager
def hidden(*packages: str) -> Iterator[None]:
    """As if these packages were not installed."""
    hide = _Hide(packages)
    sys.meta_path.insert(0, hide)
    try:
        yield
    finally:
        sys.meta_path.remove(hide)
