"""What people install: the sdist and the wheel, in empty environments outside of a clone."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from networks import SIZE, draw, judge_model
from paths import ROOT
from pictures import encode
from servers import free_port, running

UV = Path(sys.executable).with_name("uv")
FLOORS = ("cli", "client", "components", "pipeline")
CONTEXT = re.findall(r"^!(?!requirements)(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
"""What an image's build sees of the repository; locks aside."""


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with a wide screen and without colours."""
    env = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    env.pop("PYTHONPATH", None)
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=900)


def checked(*command: str | Path, cwd: Path | None = None) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(home: Path, *installs: list[str | Path]) -> Path:
    """A new virtual environment with these arguments of `pip install`; its folder of commands."""
    checked(UV, "venv", "--quiet", "--python", sys.executable, home)
    for arguments in installs:
        checked(UV, "pip", "install", "--quiet", "--python", home / "bin/python", *arguments)
    return home / "bin"


def by_hash(name: str) -> list[str | Path]:
    return ["--require-hashes", "--requirement", ROOT / f"requirements/{name}.txt"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with `sdist/` and the wheel from it, and with `wheel/`, made of the source itself.

    As in the Dockerfile, nothing but requirements/build.txt builds them.
    """
    folder = tmp_path_factory.mktemp("built")
    builder = environment(folder / "builder", by_hash("build")) / "python"
    source = folder / "source"
    source.mkdir()
    for name in CONTEXT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    build = [UV, "build", "--quiet", "--no-build-isolation", "--python", builder]
    checked(*build, "--out-dir", folder / "sdist", source)
    checked(*build, "--out-dir", folder / "wheel", "--wheel", source)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = (built / "sdist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def client(wheel: Path, tmp_path_factory) -> Path:
    """The commands of an environment with the client alone, installed as docs/install.md says."""
    home = tmp_path_factory.mktemp("client") / "environment"
    return environment(home, by_hash("client"), ["--no-deps", "--no-index", wheel])


@pytest.fixture(scope="module")
def local(wheel: Path, tmp_path_factory) -> Path:
    """The commands of an environment with everything, installed as docs/install.md says."""
    home = tmp_path_factory.mktemp("local") / "environment"
    locked = ["--constraint", ROOT / "requirements/dev.txt"]
    return environment(home, [*locked, f"defectline[local] @ {wheel.as_uri()}"])


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """A predictor that serves the model `defects`, of this environment."""
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    command = [sys.executable, "-m", "defectline.components.serve", "--model_name", "defects"]
    command += ["--model_dir", str(judge_model(folder / "one", pairs=24).folder), "--http_port", str(port)]
    with running(command, port, folder / "serve.log"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A defective plate in `tmp_path`, which is outside of a clone."""
    path = tmp_path / "plate.png"
    path.write_bytes(encode(draw("NG", np.random.default_rng(0), SIZE)[0]))
    return path


def test_every_floor_is_installed_under_one_package():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert setuptools["package-dir"] == {f"defectline.{floor}": floor for floor in FLOORS}


@pytest.mark.slow
def test_the_wheel_has_every_file_and_the_sdist_makes_the_same(wheel: Path, built: Path):
    (direct,) = (built / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(direct) as other:
        assert {name: one.read(name) for name in one.namelist()} == {
            name: other.read(name) for name in other.namelist()
        }
        installed = {name for name in one.namelist() if ".dist-info/" not in name}
    files = {path for floor in FLOORS for path in (built / "source" / floor).rglob("*") if path.is_file()}
    assert installed == {f"defectline/{path.relative_to(built / 'source')}" for path in files}


@pytest.mark.slow
def test_the_client_is_small(client: Path):
    files = [path for path in client.parent.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < 25e6
    assert not list(client.parent.rglob("numpy"))


@pytest.mark.slow
@pytest.mark.parametrize("installed", ["client", "local"])
def test_versions_and_help(installed: str, request, tmp_path: Path):
    command = request.getfixturevalue(installed) / "defectline"
    versions = dict(line.split(maxsplit=1) for line in checked(command, "--version").splitlines())
    assert re.fullmatch(r"\d+\.\d+\.\d+", versions["defectline"])
    assert (versions["tensorflow"] == "not installed") == (installed == "client")
    assert "inspect" in checked(command, "--help", cwd=tmp_path)


@pytest.mark.slow
def test_the_example_of_the_docs(client: Path, url: str, image: Path):
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/client.md").read_text(), re.M | re.S)
    assert "http://localhost:8080" in code
    code = code.replace("http://localhost:8080", url)
    assert checked(client / "python", "-c", code, cwd=image.parent).startswith("NG ")


@pytest.mark.slow
@pytest.mark.parametrize("installed", ["client", "local"])
def test_an_image_is_inspected(installed: str, request, url: str, image: Path):
    command = request.getfixturevalue(installed) / "defectline"
    shown = checked(command, "inspect", image.name, "--url", url, "--json", cwd=image.parent)
    assert '"verdict": "NG"' in shown
    assert "NG" in checked(command, "inspect", image.name, "--url", url, "--csv", "a.csv", cwd=image.parent)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["run", "--source", "."], "local"),
        (["crossval", "."], "local"),
        (["sample", "samples"], "local"),
        (["models"], "local"),
        (["doctor"], "local"),
        (["serve"], "serve"),
    ],
    ids=lambda argument: argument[0] if isinstance(argument, list) else "",
)
def test_a_command_without_its_packages_names_the_extra(
    client: Path, arguments: list[str], extra: str, tmp_path: Path
):
    done = run(client / "defectline", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f'pip install "defectline[{extra}]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
    assert checked(client / "defectline", arguments[0], "--help", cwd=tmp_path)


@pytest.mark.slow
def test_overlays_without_their_packages_name_the_extra(client: Path, url: str, image: Path):
    done = run(
        client / "defectline", "inspect", image.name, "--url", url, "--overlays", "drawn", cwd=image.parent
    )
    assert done.returncode == 2
    assert 'pip install "defectline[common]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_samples_are_made_outside_of_a_clone(local: Path, tmp_path: Path):
    checked(local / "defectline", "sample", "samples", "--pairs", "12", cwd=tmp_path)
    assert len(list((tmp_path / "samples/NG").iterdir())) == 6


@pytest.mark.slow
def test_doctor_outside_of_a_clone_does_not_speak_of_make(local: Path, tmp_path: Path):
    done = run(local / "defectline", "doctor", cwd=tmp_path)
    assert done.returncode in (0, 2), done.stderr
    assert done.stdout
    assert not re.search(r"\bmake [a-z]", done.stdout + done.stderr)
