"""KServe's SDK without what a predictor never uses."""

import subprocess
import sys


def test_neither_pandas_nor_the_client_of_kubernetes_is_loaded():
    code = "import sys, defectline.components.serve.sdk; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"kserve.model", "kserve.protocol.rest.server"} <= loaded
    assert loaded.isdisjoint({"pandas", "kubernetes", "kserve.api", "kserve.models"})


def test_a_later_import_gets_the_real_pandas():
    code = "import defectline.components.serve.sdk, pandas; print(pandas.DataFrame({'a': [1]}).a.sum())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_without_kserve_the_error_names_it():
    code = (
        "import importlib.util; find = importlib.util.find_spec;"
        "importlib.util.find_spec = lambda name, *more: None if name == 'kserve' else find(name, *more);"
        "import defectline.components.serve.sdk"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ModuleNotFoundError: No module named 'kserve'" in done.stderr
