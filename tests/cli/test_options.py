"""Options that several commands share: one text, one variable of the environment."""

import typer
from commands import call

from defectline.cli import app, options

TEXTS = ("help", "envvar")
VARIABLES = {"host": "KFP_HOST", "store": "DEFECTLINE_STORE"}
OWN = {
    ("crossval", "store"): "keeps its folds apart from a store that serves",
    ("crossval", "host"): "judges on this machine unless a server is typed",
    ("schedule delete", "force"): "kills a run, where others train without new images",
}
"""Options of a shared name and another meaning → why."""


def commands() -> dict[str, object]:
    found = {}
    for name, command in typer.main.get_command(app).commands.items():
        found |= {f"{name} {inner}": one for inner, one in getattr(command, "commands", {}).items()}
        if not hasattr(command, "commands"):
            found[name] = command
    return found


def shared(option: str) -> dict[str, object]:
    """Command → its option of that name."""
    return {
        name: parameter
        for name, command in commands().items()
        for parameter in command.params
        if option in parameter.opts and (name, parameter.name) not in OWN
    }


def test_every_command_with_the_option_reads_the_variable():
    for name, variable in VARIABLES.items():
        found = shared(f"--{name}")
        assert len(found) > 5
        for command, parameter in found.items():
            assert parameter.envvar == variable, command
            assert parameter.show_envvar, command


def test_an_option_has_one_text():
    for option in ("--store", "--source", "--json", "--set", "--force", "--fail-on-gate", "--experiment"):
        found = shared(option)
        # `doctor` only looks at a source, which is not needed; `inspect --json` prints a line an image.
        told = {one.help for name, one in found.items() if name not in ("doctor", "inspect")}
        assert len(told) == 1, option
    namespaces = [shared("--namespace")[name].help for name in ("status", "rollback")]
    assert len(set(namespaces)) == 1


def test_help_shows_the_variable():
    assert "DEFECTLINE_STORE" in call("models", "--help").stdout
    assert "KFP_HOST" in call("submit", "--help").stdout


def test_the_variable_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFECTLINE_STORE", str(tmp_path))
    assert f"no models in {tmp_path.as_uri()}" in call("models").stdout


def test_the_token_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", "secret")
    assert options.token() == "secret"
    monkeypatch.delenv("KFP_TOKEN")
    assert options.token() == ""
