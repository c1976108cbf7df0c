"""`defectline` itself: its panels, its versions, and how it ends."""

import importlib
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from cluster.api import ApiServer
from commands import call
from paths import ROOT

import defectline.cli as cli
from defectline.cli import PANELS
from defectline.components.common.errors import SettingsError
from defectline.pipeline.compiling import compile_pipeline
from defectline.pipeline.targets import Target


def test_a_command_is_in_the_file_of_its_name():
    for panel, commands in PANELS.items():
        files = {path.stem for path in (ROOT / "cli" / panel.lower()).glob("[a-z]*.py")}
        assert files == set(commands)


def test_help_shows_the_panels_in_their_order():
    shown = call("--help").stdout
    places = [shown.index(f"─ {panel} ") for panel in PANELS]
    assert places == sorted(places)
    names = [name for commands in PANELS.values() for name in commands]
    lines = [line.split()[1] for line in shown[places[0] :].splitlines() if line.startswith("│ ")]
    assert [line for line in lines if line in names] == names


def test_versions():
    done = call("--version")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()][:2] == ["python", "defectline"]


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (SettingsError("No.", got="a", expected="b", fix="`defectline runs` lists them."), 2),
        (ModuleNotFoundError("No module named 'kfp'", name="kfp"), 2),
    ],
)
def test_an_error_that_the_user_can_fix_has_no_traceback(monkeypatch, raised, status):
    def fails(*_):
        raise raised

    monkeypatch.setattr(importlib.import_module("defectline.pipeline.versions"), "versions", fails)
    done = call("--version")
    assert (done.returncode, done.stdout) == (status, "")
    assert "fix:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "raised", [KeyError("a"), ModuleNotFoundError("No module named 'defectline.x'", name="defectline.x")]
)
def test_an_internal_error_is_raised(monkeypatch, raised):
    def fails(*_):
        raise raised

    monkeypatch.setattr(importlib.import_module("defectline.pipeline.versions"), "versions", fails)
    with pytest.raises(type(raised)):
        call("--version")


@pytest.fixture
def hangs_up() -> Iterator[str]:
    """An address where every connection is closed before it is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close_all() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=close_all, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_server_that_is_away_is_told_once(monkeypatch, tmp_path, hangs_up, caplog):
    monkeypatch.setattr(
        importlib.import_module("defectline.pipeline.kfp_server.transport"), "RETRY_BACKOFF_S", 0
    )
    done = call("schedule", "list", "--host", hangs_up)
    assert (done.returncode, done.stdout) == (2, "")
    assert "a broken connection" in done.stderr
    assert caplog.messages == []
    compile_pipeline(tmp_path / "a.yaml", None, Target("kubeflow", {"namespace": "vision"}, s3_secret="keys"))
    api = ApiServer()
    api.url = hangs_up
    api.write_kubeconfig(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    caplog.clear()
    done = call("doctor", "--store", tmp_path / "store", "--package", tmp_path / "a.yaml")
    assert (done.returncode, done.stdout.count("not looked at")) == (0, 2)
    assert "cluster cannot be reached" in done.stdout
    assert caplog.messages == []


def test_being_told_to_end_takes_everything_along(monkeypatch):
    monkeypatch.setattr(cli, "app", lambda: signal.raise_signal(signal.SIGTERM))
    assert call("run").returncode == 128 + signal.SIGTERM
