"""KServe's SDK without the parts that a predictor never uses.

`import kserve` runs an `__init__` that loads the client of the Kubernetes API, and the server's modules load
pandas for the annotations of two functions that are not called here: together two thirds of the start-up.
"""

import importlib.util
import sys
from types import ModuleType

if "kserve" not in sys.modules:
    spec = importlib.util.find_spec("kserve")
    if spec is None:
        raise ModuleNotFoundError("No module named 'kserve'")
    sys.modules["kserve"] = importlib.util.module_from_spec(spec)
stand_in = "pandas" not in sys.modules
if stand_in:
    pandas = ModuleType("pandas")
    pandas.DataFrame = type("DataFrame", (), {})  # type: ignore[attr-defined]
    sys.modules["pandas"] = pandas

from kserve.model import Model  # noqa: E402
from kserve.model_server import parser  # noqa: E402
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages  # noqa: E402
from kserve.protocol.rest.server import RESTServer  # noqa: E402

if stand_in:
    # A later import gets the real pandas.
    del sys.modules["pandas"]

__all__ = ["Model", "RESTServer", "messages", "parser"]
