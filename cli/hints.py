"""How to go on: the command as it is typed here, the right word for a wrong one, what to install."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from defectline.components.common.errors import SettingsError
from defectline.components.common.installing import how_to_install, is_installed

WORDS = {
    **dict.fromkeys(("train", "fit", "retrain", "execute", "pipeline"), ("run",)),
    **dict.fromkeys(("start", "launch"), ("run", "serve")),
    **dict.fromkeys(("deploy", "publish"), ("run", "submit")),
    **dict.fromkeys(("predict", "infer", "detect", "classify", "segment", "ask", "client"), ("inspect",)),
    **dict.fromkeys(("evaluate", "eval", "score", "compare"), ("metrics", "crossval")),
    **dict.fromkeys(("list", "ls", "show"), ("models", "runs", "snapshots")),
    **dict.fromkeys(("data", "dataset", "datasets"), ("snapshots",)),
    **dict.fromkeys(("history", "log", "logs"), ("runs",)),
    **dict.fromkeys(("champion", "info", "ps"), ("status",)),
    **dict.fromkeys(("server", "api", "endpoint", "up"), ("serve",)),
    **dict.fromkeys(("undo", "revert", "restore"), ("rollback",)),
    **dict.fromkeys(("gc", "clean", "cleanup", "delete", "remove", "rm"), ("prune",)),
    **dict.fromkeys(("label", "annotate", "export", "accept"), ("review",)),
    **dict.fromkeys(("trace", "provenance", "origin"), ("lineage",)),
    **dict.fromkeys(("demo", "example", "examples", "generate", "draw"), ("sample",)),
    "build": ("compile",),
    **dict.fromkeys(("upload", "kfp"), ("submit",)),
    **dict.fromkeys(("cron", "recurring"), ("schedule",)),
    **dict.fromkeys(("check", "diagnose", "debug"), ("doctor",)),
    "cv": ("crossval",),
    **dict.fromkeys(("optimize", "optimise", "search", "sweep", "hpo", "optuna", "katib"), ("tune",)),
    "version": ("--version",),
    "help": ("--help",),
}
"""What people type who know other tools → what does it here."""

COMMON = ("boto3", "cv2", "filelock", "google.cloud.storage", "numpy", "PIL", "pydantic")
SERVE = (*COMMON, "kserve", "orjson", "prometheus_client", "starlette")
LOCAL = (
    *SERVE,
    *("h5py", "jinja2", "keras", "kfp", "kubernetes", "matplotlib", "nncf", "onnx", "openvino", "pyarrow"),
    *("requests", "scipy", "sklearn", "tensorflow", "tf2onnx"),
)
SERVER = (*COMMON, "kfp_server_api", "yaml")
NEEDED = {
    **dict.fromkeys(("run", "crossval"), LOCAL),
    "tune": (*LOCAL, "optuna"),
    **dict.fromkeys(("status", "models", "runs", "metrics", "report", "lineage", "snapshots"), COMMON),
    **dict.fromkeys(("review", "prune", "sample", "rollback"), COMMON),
    **dict.fromkeys(("submit", "schedule"), SERVER),
    "compile": (*COMMON, "kfp"),
    "serve": SERVE,
}
"""The modules that commands need, looked for before their options are read."""
CLIENT = ("httpx", "pydantic")


def program() -> str:
    """How `defectline` is typed where the user is.

    `defectline` where that finds this installation, `.venv/bin/defectline` in a clone whose environment is
    not activated, else the module.
    """
    script, found = Path(sys.executable).with_name("defectline"), shutil.which("defectline")
    if found and script.is_file() and os.path.samefile(found, script):
        return "defectline"
    if script.is_file():
        below = script.is_relative_to(Path.cwd())
        return shlex.quote(str(script.relative_to(Path.cwd()) if below else script))
    return f"{shlex.quote(sys.executable)} -m defectline.cli"


def typed(text: str) -> str:
    """A text in which every `defectline …` is written as it is typed here."""
    return text.replace("`defectline ", f"`{program()} ")


def nearest(word: str, commands: Sequence[str]) -> list[str]:
    """The commands that may be meant by a word that is not one, the nearest first. Pure."""
    word = word.lower()
    if word in WORDS:
        return list(WORDS[word])
    if near := get_close_matches(word, commands, n=2, cutoff=0.7):
        return near
    near = get_close_matches(word, [*WORDS, *commands], n=1)
    return list(WORDS.get(near[0], near)) if near else []


def command_in(arguments: Sequence[str], commands: Mapping[str, Sequence[str]]) -> str:
    """The command that these arguments begin with, such as `runs` or `schedule list`; else "". Pure.

    `commands` are all, each with its subcommands; a word that is none of these is left out.
    """
    words = [one for one in arguments if not one.startswith("-")][:2]
    if not words or words[0] not in commands:
        return ""
    return " ".join([words[0], *(one for one in words[1:] if one in commands[words[0]])])


def check_installed(command: str) -> None:
    """Raise SettingsError where a module that a command needs is missing."""
    for module in NEEDED.get(command.partition(" ")[0], ()):
        if not is_installed(module):
            raise missing(command, module)


def missing(command: str, module: str) -> SettingsError:
    """What to say where a command lacks a module of another project."""
    extra = "local"
    if command == "serve":
        extra = "serve"
    elif command == "inspect" and module.split(".")[0] in CLIENT:
        extra = "client"
    return SettingsError(
        f"`defectline {command}` needs packages that are not installed.",
        got=f"no module {module}",
        expected=f"the packages of the extra {extra}",
        fix=how_to_install(extra),
    )
