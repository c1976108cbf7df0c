"""Several products by one command: `--config` for each, or a folder of such files."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand

from defectline.cli import hints
from defectline.components.common.errors import DefectlineError, SettingsError

OPTION = "--config"
SUFFIXES = (".yaml", ".yml")
SEVERAL_BY = ("submit", "schedule apply", "status", "models")
"""The commands that take several files, or a folder of them."""
FILES, SEVERAL, LATER = "defectline.files", "defectline.several", "defectline.later"
"""Keys of `context.meta`: the files and the other arguments; whether the command is called once for each of
several products; what is to be done after all of them."""


class Product(NamedTuple):
    """What a file of settings says of where a model is."""

    store: str
    name: str


class OneProduct(TyperCommand):
    """A command that takes one file of --config at most, unless that option of it is repeatable."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, _ = _take_configs(args)
        takes = next((one for one in self.params if OPTION in one.opts), None)
        one_file = takes is not None and not takes.multiple and "--help" not in args
        if one_file and not ctx.resilient_parsing and (len(given) > 1 or any(map(os.path.isdir, given))):
            raise SettingsError(
                f"`defectline {ctx.info_name}` reads one file of settings.",
                got=" and ".join(f"{OPTION} {text}" for text in given),
                expected=f"{OPTION} FILE, once",
                fix="Name one file. Several, or a folder of them, are for "
                f"{', '.join(SEVERAL_BY[:-1])} and {SEVERAL_BY[-1]}.",
            )
        return super().parse_args(ctx, args)


class EachProduct(TyperCommand):
    """A command that is called for each of the files that `--config` names.

    A file that cannot be used, and a product that fails, are told by the file's name; the others go on. The
    exit status is then 2 where something can be fixed, else the highest of them.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, rest = _take_configs(args)
        if "--help" in args or (len(given) < 2 and not any(map(os.path.isdir, given))):
            return super().parse_args(ctx, args)
        ctx.meta[FILES] = find_files([Path(text) for text in given]), rest
        return []

    def invoke(self, ctx: Any) -> Any:
        files, rest = ctx.meta.pop(FILES, ((), ()))
        if not files:
            return super().invoke(ctx)
        if any(text == "--name" or text.startswith("--name=") for text in rest):
            raise _one_name(files)
        with keep_going() as told:
            calls: list[tuple[Path, Any]] = []
            for file in files:
                with told(file):
                    sub = self.make_context(ctx.info_name, [*rest, OPTION, str(file)], ctx.parent)
                    calls.append((file, sub))
            check_different({file: Product(sub.params["store"], sub.params["name"]) for file, sub in calls})
            after: list[tuple[Path, Callable[[], None]]] = []
            ctx.meta[SEVERAL] = True
            for file, sub in calls:
                ctx.meta[LATER] = lambda task, file=file: after.append((file, task))
                typer.secho(f"{sub.params['name']} ({file})", err=True, bold=True)
                with told(file), sub:
                    super().invoke(sub)
            for file, task in after:
                with told(file):
                    task()
        return None


@contextmanager
def keep_going() -> Iterator[Callable[[Path], AbstractContextManager[None]]]:
    """What goes wrong with a product is told by its file, and the block goes on with the others.

    At its end it exits with 2 where something can be fixed, else the highest status of a product, 0 for none.
    """
    seen: set[Path] = set()
    failed: dict[Path, int] = {}

    @contextmanager
    def told(file: Path) -> Iterator[None]:
        seen.add(file)
        try:
            yield
        except DefectlineError as error:
            # What is wrong in the file itself is told by its name already.
            by = "" if str(error).startswith(f"{file}: ") else f"{file}: "
            typer.secho(hints.typed(f"{by}{error}"), err=True, fg=typer.colors.RED)
            failed[file] = 2
        except typer.Exit as end:
            if end.exit_code:
                failed[file] = end.exit_code

    yield told
    if failed:
        names = ", ".join(map(str, failed))
        well = f"{len(seen) - len(failed)} of {len(seen)} products went well; not {names}"
        typer.secho(well, err=True, fg=typer.colors.RED)
        raise typer.Exit(2 if 2 in failed.values() else max(failed.values()))


def is_one_of_several(context: typer.Context) -> bool:
    """Whether the command is being called for each of several products."""
    return bool(context.meta.get(SEVERAL))


def after_all(context: typer.Context, task: Callable[[], None]) -> None:
    """Do it now, or after all products of the command."""
    later = context.meta.get(LATER)
    if later is None:
        task()
    else:
        later(task)


def find_files(given: list[Path]) -> list[Path]:
    """The files of settings: those that are named, and those in the folders that are, by name.

    Raises SettingsError for a folder without any.
    """
    found: dict[Path, None] = {}
    for path in given:
        inside = sorted(one for one in path.glob("*") if one.suffix in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise SettingsError(
                f"The folder {path} has no file of settings.",
                got="no file whose name ends with .yaml or .yml",
                expected="a file a product, as `defectline config` prints one",
                fix="Check the path.",
            )
        found |= dict.fromkeys(inside)
    return list(found)


def check_different(products: dict[Path, Product]) -> None:
    """Raise SettingsError where two files name the same model in the same store."""
    first: dict[Product, Path] = {}
    for file, product in products.items():
        if (other := first.setdefault(product, file)) != file:
            raise SettingsError(
                f"{other} and {file} are the same product.",
                got=f"the name {product.name} in {product.store}, twice",
                expected="another name, or another store, in each",
                fix="Set `name` in each file; without one it is defects.",
            )


def _take_configs(args: list[str]) -> tuple[list[str], list[str]]:
    """What --config names, and the other arguments."""
    given, rest = [], []
    left = iter(args)
    for text in left:
        if text == OPTION:
            given.append(next(left, ""))
        elif text.startswith(f"{OPTION}="):
            given.append(text.removeprefix(f"{OPTION}="))
        else:
            rest.append(text)
    return given, rest


def read_products(
    context: typer.Context, files: list[Path], told: Callable[[Path], AbstractContextManager[None]]
) -> dict[Path, Product]:
    """The products of the files, those that cannot be read `told` and left out.

    A --store that was typed, or is in the environment, counts for all; --name is not for several. Raises
    SettingsError, as `check_different` too.
    """
    from defectline.pipeline.config import read_config

    if _is_given(context, "name"):
        raise _one_name(files)
    store, found = context.params["store"], {}
    for file in find_files(files):
        with told(file):
            read = read_config(file)
            own = "store" in read.model_fields_set and not _is_given(context, "store")
            found[file] = Product(read.store if own else store, read.name)
    check_different(found)
    return found


def _is_given(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


def _one_name(files: list[Path]) -> SettingsError:
    return SettingsError(
        "--name names one product, and --config several.",
        got=", ".join(map(str, files)),
        expected="one of the two",
        fix="Leave out --name: each file has its own.",
    )
