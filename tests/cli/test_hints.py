"""How to go on: near words, the command as it is typed, what to install."""

import re
import subprocess
import sys
from importlib import metadata

import pytest
from commands import call

from defectline.cli import PANELS, hints

COMMANDS = [name for commands in PANELS.values() for name in commands]
BLOCKED = """
import re, sys
from importlib import metadata
modules = metadata.packages_distributions()
plain = lambda name: name.lower().replace("-", "_")
names, allowed = sys.argv.pop(1).split(","), {*sys.stdlib_module_names, "defectline"}
for name in names:
    allowed |= {module for module, owners in modules.items() if plain(name) in map(plain, owners)}
    try:
        needs = [one for one in metadata.requires(name) or [] if "extra ==" not in one]
    except metadata.PackageNotFoundError:  # of another operating system
        continue
    names += {re.match(r"[\\w.-]+", one)[0] for one in needs} - {*names}

class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in allowed and not top.startswith(("_", "sitecustomize")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
from defectline.cli import main
main()
"""
"""The command line in a Python that finds only some distributions."""


def with_only(distributions: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command where only these distributions are installed, with all that they need."""
    command = [sys.executable, "-c", BLOCKED, distributions, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("word", "commands"),
    [
        ("trian", ["run"]),
        ("train", ["run"]),
        ("predict", ["inspect"]),
        ("deploy", ["run", "submit"]),
        ("ls", ["models", "runs", "snapshots"]),
        ("modles", ["models"]),
        ("Prunning", ["prune"]),
        ("sumbit", ["submit"]),
        ("foo", []),
    ],
)
def test_a_word_that_is_not_a_command_leads_to_one(word, commands):
    assert hints.nearest(word, COMMANDS) == commands
    done = call(word)
    assert done.returncode == 2
    said = f"No such command '{word}'."
    assert (said + (f" Did you mean '{commands[0]}'" if commands else "")) in done.stderr


def test_every_word_leads_to_commands_that_exist():
    assert {name for names in hints.WORDS.values() for name in names} <= {*COMMANDS, "--version", "--help"}
    assert not set(hints.WORDS) & set(COMMANDS)


def test_a_wrong_option_leads_to_the_right_one():
    done = call("run", "--sorce", "plates")
    assert done.returncode == 2
    assert "--source" in done.stderr


def test_the_command_is_named_as_it_is_typed(tmp_path, monkeypatch):
    script = tmp_path / ".venv/bin/defectline"
    script.parent.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    assert hints.program() == f"{script.with_name('python')} -m defectline.cli"
    script.touch(mode=0o755)
    assert hints.program() == ".venv/bin/defectline"
    monkeypatch.chdir("/")
    assert hints.program() == str(script).removeprefix("/")
    monkeypatch.setenv("PATH", str(script.parent))
    assert hints.program() == "defectline"
    assert hints.typed("see `defectline runs`") == "see `defectline runs`"


def test_errors_name_the_command_as_it_is_typed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    done = call("report", "nothing", "--store", tmp_path)
    assert done.returncode == 2
    assert f"`{hints.program()} runs` lists them" in done.stderr
    assert hints.program() != "defectline"


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("run --source plates", "local"),
        ("serve", "serve"),
        ("inspect a.png", "client"),
        ("models", "local"),
        ("sample new", "local"),
    ],
)
def test_a_command_without_its_packages_names_the_extra(command, extra):
    done = with_only("typer", *command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert f"the packages of the extra {extra}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "typed",
    ["submit", "schedule list", "compile --gpus x", "report"],
)
def test_packages_are_asked_for_before_options(typed):
    done = with_only("typer", *typed.split())
    named = " ".join(word for word in typed.split() if word not in ("--gpus", "x"))
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(rf"(/|`|cli )(defectline )?{named}` needs packages that are not installed", done.stderr)
    assert "Usage:" not in done.stderr


def test_a_value_that_is_also_a_command_is_not_taken_for_it():
    commands = {"run": (), "doctor": (), "schedule": ("list", "apply")}
    assert hints.command_in(["doctor", "--store", "run"], commands) == "doctor"
    assert hints.command_in(["schedule", "list", "--name", "apply"], commands) == "schedule list"
    assert hints.command_in(["schedule"], commands) == "schedule"
    assert hints.command_in(["schedule", "--help"], commands) == "schedule"
    assert hints.command_in(["--version"], commands) == hints.command_in(["--store", "s"], commands) == ""


def test_help_and_version_need_no_extra():
    for command in (["--version"], ["--help"], ["inspect", "--help"], ["schedule", "--help"]):
        done = with_only("typer", *command)
        assert (done.returncode, done.stderr) == (0, ""), command


def test_a_camera_pc_inspects_without_arrays(tmp_path):
    (tmp_path / "a.png").touch()
    asked = ["inspect", str(tmp_path / "a.png"), "--url", "http://127.0.0.1:9"]
    done = with_only("typer,httpx,pydantic", *asked)
    assert "http://127.0.0.1:9 does not answer." in done.stderr


def test_what_is_looked_for_comes_with_the_extra():
    owners = metadata.packages_distributions()
    for module in {*hints.LOCAL, *(name for names in hints.NEEDED.values() for name in names)}:
        assert owners.get(module.split(".")[0]), f"{module} is not installed with the extra local"
    assert set(hints.NEEDED) <= set(COMMANDS)
    hints.check_installed("run")


def test_heavy_packages_are_not_imported_for_help():
    code = "import sys, defectline.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorflow", "kfp", "numpy", "rich.table", "boto3"} & set(done.stdout.split())
