"""What the shell offers on a press of Tab, as bash and zsh ask for it."""

import pytest
from commands import call

from defectline.pipeline.parameters import Parameters


@pytest.fixture
def tab(monkeypatch):
    """What zsh is offered for a line that was typed so far."""

    def press(line: str) -> str:
        monkeypatch.setenv("_DEFECTLINE_COMPLETE", "complete_zsh")
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        return call().stdout

    return press


def bash(monkeypatch, *words: str) -> list[str]:
    """What bash is offered; it takes the sign of equality for a word."""
    monkeypatch.setenv("_DEFECTLINE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    return call().stdout.split()


def test_ids_of_a_store(tab, factory, monkeypatch):
    monkeypatch.setenv("DEFECTLINE_STORE", str(factory.store.root))
    first, *_, last = factory.runs
    for command in ("report ", "metrics "):
        assert all(one.run in tab(f"defectline {command}") for one in factory.runs)
    assert first.bundle.version in tab("defectline lineage v")
    assert first.bundle.version in tab("defectline rollback --to ")
    assert all(one.snapshot in tab("defectline snapshots --diff ") for one in factory.runs)
    assert last.snapshot in tab(f"defectline snapshots --diff {first.snapshot} ")
    assert "defects" in tab("defectline models --name ")


def test_the_store_that_is_typed(tab, factory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "run-1" not in tab("defectline report ")
    assert "run-1" in tab(f"defectline report --store {factory.store.root} ")
    assert "run-1" in tab(f"defectline report --store {factory.store.uri} r")


@pytest.mark.parametrize("store", ["s3://bucket/store", "ftp://x", "/nowhere", ""])
def test_nothing_and_no_error_without_a_folder(tab, store, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFECTLINE_STORE", store)
    assert "run-" not in tab("defectline report ")
    assert "Error" not in tab("defectline lineage ")


def test_parameters_and_their_values(tab, monkeypatch):
    shown = tab("defectline run --set ")
    for name in Parameters.model_fields:
        assert (f"{name}=" in shown) == (name not in ("source", "store"))
    assert "epochs=60" in tab("defectline run --set epochs=")
    shown = tab("defectline run --set enhance=")
    assert "enhance=true" in shown
    assert "enhance=false" in shown
    assert "encoder_weights=imagenet" in tab("defectline run --set encoder_weights=i")
    assert "=" not in tab("defectline run --set nothing=").replace("_arguments", "")


def test_values_in_bash(monkeypatch):
    line = ("defectline", "run", "--source", "plates", "--set")
    assert "epochs=" in bash(monkeypatch, *line, "ep")
    assert bash(monkeypatch, *line, "tile", "=", "t") == ["true"]
    assert bash(monkeypatch, *line, "tile", "=") == ["true", "false"]


def test_commands(tab):
    assert "inspect" in tab("defectline ins")
    assert "apply" in tab("defectline schedule ")
