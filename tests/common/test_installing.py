"""What is said where packages are missing."""

import subprocess
import sys

import pytest

from defectline.components.common import installing
from defectline.components.common.installing import explained, how_to_install, is_installed


def test_a_wheel_is_completed_by_the_python_that_has_it(monkeypatch):
    monkeypatch.setattr(installing, "CLONE", False)
    assert how_to_install("serve") == f'Run `{sys.executable} -m pip install "defectline[serve]"`.'
    monkeypatch.setattr(installing, "CLONE", True)
    assert how_to_install("serve") == "Run `make setup`."


def test_a_missing_package_ends_the_program_with_its_name(capsys):
    with pytest.raises(SystemExit) as ended, explained("serve", "serve"):
        import no_such_package  # noqa: F401
    assert ended.value.code == 2
    assert "no module no_such_package. Run " in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError), explained("serve", "serve"):
        import defectline.no_such_module  # noqa: F401


def test_packages_are_found_without_importing_them():
    assert is_installed("numpy")
    assert not is_installed("no_such_package")
    assert not is_installed("no_such_package.below")


@pytest.mark.parametrize("step", ["ingest", "preprocess", "train", "evaluate", "deploy", "serve"])
def test_every_step_says_which_packages_it_lacks(step):
    lacking = f"import sys, runpy; sys.modules['pydantic'] = None; sys.argv = ['{step}', '--help']; "
    code = lacking + f"runpy.run_module('defectline.components.{step}', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"{step} needs packages that are not installed: no module pydantic.")
