"""With this folder on PYTHONPATH, `defectline tune` judges folds by the formula of `fake_folds`.

Python imports a module of this name at its start.
"""

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

TRYING = "defectline.pipeline.tuning.trying"


class FakeFolds(MetaPathFinder):
    """Finds the module TRYING where it is, and replaces what judges its folds."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != TRYING:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def replace(module: ModuleType) -> None:
            execute(module)
            sys.modules[name] = module
            sys.path.append(str(Path(__file__).parents[1]))
            from fake_folds import judge

            module.judge = judge  # type: ignore[attr-defined]

        spec.loader.exec_module = replace  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, FakeFolds())
