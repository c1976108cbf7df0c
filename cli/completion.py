"""What the shell offers on a press of Tab, without the network; nothing where it finds an error.

Runs, versions, snapshots, models and frames come from a store in a folder: --store if that is typed already,
else DEFECTLINE_STORE or ./store.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from defectline.components.common import layout
from defectline.components.common.errors import DefectlineError

SWITCHES = ("true", "false")


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of runs."""
    return _offer(ctx, incomplete, lambda store: store.glob(f"{layout.RUNS}*"))


def versions(ctx: typer.Context, incomplete: str) -> list[str]:
    """Versions of models."""
    return _offer(ctx, incomplete, lambda store: store.glob(f"{layout.MODELS}*/v*"))


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of models."""
    return _offer(ctx, incomplete, lambda store: store.glob(f"{layout.MODELS}*"))


def snapshots(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of snapshots."""
    return _offer(
        ctx, incomplete, lambda store: (path.parent for path in store.glob(f"{layout.SNAPSHOTS}*/*.json"))
    )


def frames(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of frames of the line that wait for a decision."""
    name = ctx.params.get("name") or "defects"

    def undecided(store: Path) -> Iterable[Path]:
        for path in store.glob(f"{layout.review_prefix(name)}*/*.json"):
            if "." not in path.stem and not path.with_suffix(".decision.json").exists():
                yield path.with_suffix("")

    return _offer(ctx, incomplete, undecided)


def _offer(ctx: typer.Context, incomplete: str, find: Callable[[Path], Iterable[Path]]) -> list[str]:
    uri = ctx.params.get("store") or os.environ.get("DEFECTLINE_STORE") or "./store"
    try:
        from defectline.components.common.storage import open_storage
        from defectline.components.common.storage.folder import FolderStorage

        opened = open_storage(uri)
        if not isinstance(opened, FolderStorage):
            return []
        names = {path.name for path in find(opened.root) if path.is_dir() or not path.exists()}
    except (DefectlineError, OSError, ImportError):
        return []
    return sorted(name for name in names if name.startswith(incomplete) and name[0] != ".")


def pairs(incomplete: str) -> list[str]:
    """`name=` of the parameters; then `name=value` with each value that it can have, or its default."""
    try:
        from defectline.pipeline.parameters import Parameters
    except ImportError:
        return []
    fields = {name: one for name, one in Parameters.model_fields.items() if name not in ("source", "store")}
    name, equals, value = incomplete.partition("=")
    if not equals:
        return [f"{one}=" for one in fields if one.startswith(name)]
    if name not in fields:
        return []
    offered = _values(name, fields[name].annotation, fields[name].default)
    return [f"{name}={one}" for one in offered if one.startswith(value)]


def _values(name: str, annotation: Any, default: Any) -> list[str]:
    from defectline.components.train.settings import KEYWORDS

    if annotation is bool:
        return list(SWITCHES)
    if get_origin(annotation) is Literal:
        return [str(one) for one in get_args(annotation)]
    return list(KEYWORDS.get(name) or ([] if default in ("", None) else [str(default)]))


def answer_bash() -> None:
    """Complete `--set tile=t`, and exit: for bash these are three words, which typer does not expect."""
    if os.environ.get("_DEFECTLINE_COMPLETE") != "complete_bash":
        return
    words = os.environ.get("COMP_WORDS", "").split("\n")[: int(os.environ.get("COMP_CWORD", "0")) + 1]
    match words[-4:]:
        case [*_, "--set", name, "="]:
            value = ""
        case ["--set", name, "=", value]:
            pass
        case _:
            return
    typer.echo("\n".join(pair.removeprefix(f"{name}=") for pair in pairs(f"{name}={value}")))
    raise SystemExit(0)
