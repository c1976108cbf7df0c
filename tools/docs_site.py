"""The documentation as a site: `python tools/docs_site.py build` makes build/docs and from it build/site.

Pages come from docs/, from the files of the root, from the command line's own parser and from the classes of
the settings. A broken link is an error.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from settings_page import tables
from typer.main import get_command

from defectline.cli import app

ROOT = Path(__file__).resolve().parents[1]
TABLES = "<!-- tables -->"
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def build(folder: Path) -> int:
    """Make the site in `folder`/site; the exit status, which is not 0 where a link is broken."""
    pages = folder / "docs"
    for old in (pages, folder / "site"):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(ROOT / "docs", pages)
    for page in pages.glob("*.md"):
        page.write_text(page.read_text().replace("](../README.md", "](index.md"))
    for name, content in generated().items():
        (pages / name).write_text(content)
    shutil.copy(ROOT / "zensical.toml", folder)
    broken = list(broken_links(pages))
    for text in broken:
        print(text, file=sys.stderr)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    status = subprocess.run(command, cwd=folder).returncode
    return status or bool(broken)


def generated() -> dict[str, str]:
    """The pages that are not in docs/, by their file's name."""
    return {
        "index.md": _for_site((ROOT / "README.md").read_text()),
        "contributing.md": _for_site((ROOT / "CONTRIBUTING.md").read_text()),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(),
        "licence.md": f"# Licence\n\n```\n{(ROOT / 'LICENSE').read_text()}\n```\n",
        "cli.md": "\n".join(command_line()),
        "settings.md": (ROOT / "docs/settings.md").read_text().replace(TABLES, "\n".join(tables())),
    }


def broken_links(pages: Path) -> Iterator[str]:
    """A line for each link to a file that is not on the site: Zensical looks at pages and anchors only."""
    for page in sorted(pages.glob("*.md")):
        for target in LINK.findall(page.read_text()):
            if not (page.parent / target).resolve().is_relative_to(pages.resolve()):
                yield f"{page.name}: {target} is outside of the site"
            elif not (page.parent / target).exists():
                yield f"{page.name}: {target} does not exist"


def _for_site(text: str) -> str:
    """A page of the repository's root, with links as they are below docs/."""
    text = re.sub(r"\]\(docs/", "](", text)
    return text.replace("](CONTRIBUTING.md)", "](contributing.md)").replace("](LICENSE)", "](licence.md)")


def command_line() -> Iterator[str]:
    """The page of every command, as Markdown lines."""
    yield "# Command line\n"
    yield "`defectline COMMAND --help` says the same. `defectline --version` tells the versions that matter."
    yield "`defectline --install-completion` sets up completion in bash, zsh, fish and PowerShell.\n"
    yield "Exit status: 0 done; 2 you can fix it, and the message says how; 3 refused by the gate, with"
    yield "`--fail-on-gate`; 1 an internal error, or a run on a cluster that failed.\n"
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
    elif default in (None, "", False, []) or parameter.name == "help":
        default = ""
    else:
        default = f"`{default}`"
    if parameter.envvar:
        default = f"{default} or `{parameter.envvar}`".removeprefix(" or ")
    about = " ".join((parameter.help or "").split()).replace("|", "\\|")
    return f"| {shown} | {default} | {about} |".replace("VERSION|IMAGE", "VERSION\\|IMAGE")


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1])))
