"""Pages of the site that come from elsewhere: the README, and the command line's own parser.

`mkdocs.yml` names this file as a hook.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.main import get_command

from defectline.cli import app

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages = {
        "index.md": _for_site((ROOT / "README.md").read_text()),
        "contributing.md": _for_site((ROOT / "CONTRIBUTING.md").read_text()),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(),
        "licence.md": f"# Licence\n\n```\n{(ROOT / 'LICENSE').read_text()}\n```\n",
        "cli.md": "\n".join(command_line()),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return markdown.replace("](../README.md", "](index.md")


def _for_site(text: str) -> str:
    """A page of the repository's root, with links as they are below docs/."""
    text = re.sub(r"\]\(docs/", "](", text)
    return text.replace("](CONTRIBUTING.md)", "](contributing.md)").replace("](LICENSE)", "](licence.md)")


def command_line() -> Iterator[str]:
    """The page of every command, as Markdown lines."""
    yield "# Command line\n"
    yield "`defectline COMMAND --help` says the same. `defectline --version` tells the versions that matter."
    yield "`defectline --install-completion` sets up completion in bash, zsh, fish and PowerShell.\n"
    yield "Exit status: 0 done; 2 you can mend it, and the message says how; 3 refused by the gate, with"
    yield "`--fail-on-gate`; 1 a fault of ours, or a run on a cluster that failed.\n"
    for name, command in sorted(commands().items()):
        yield f"## {name}\n"
        yield f"{command.help}\n"
        yield "| | default | |\n|---|---|---|"
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                yield _row(parameter)
        yield ""


def commands() -> dict[str, Any]:
    """Every command by its whole name, such as `schedule apply`."""
    found = {}
    for name, command in get_command(app).commands.items():
        if hasattr(command, "commands"):
            found |= {f"{name} {inner}": one for inner, one in command.commands.items()}
        else:
            found[name] = command
    return found


def _row(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    names = [parameter.metavar or parameter.name.upper()] if argument else parameter.opts
    shown = ", ".join(f"`{name}`" for name in [*names, *parameter.secondary_opts])
    default = parameter.default
    if parameter.required:
        default = "needed"
    elif parameter.envvar:
        default = f"`{parameter.envvar}`"
    elif default in (None, "", False, []) or parameter.name == "help":
        default = ""
    else:
        default = f"`{default}`"
    about = " ".join((parameter.help or "").split()).replace("|", "\\|")
    return f"| {shown} | {default} | {about} |".replace("VERSION|IMAGE", "VERSION\\|IMAGE")
