"""With this folder on PYTHONPATH, the train step of a process builds the network of `small_network`.

The real network takes a minute to compile and export, whatever it learns, so that one test of a whole run
has it and the others need not. Keras is imported without what it would use, if it were there, for wrappers
and for pictures in notebooks: two seconds a process.
"""

import sys
from pathlib import Path
from types import ModuleType

sys.path.append(str(Path(__file__).parents[1]))
from importing import hidden, when_imported


def build_small_ones(module: ModuleType) -> None:
    from small_network import build_small

    module.build_network = build_small  # type: ignore[attr-defined]


when_imported("defectline.components.train.network", build_small_ones)
when_imported("keras", within=hidden("sklearn", "IPython", "pandas", "matplotlib"))
