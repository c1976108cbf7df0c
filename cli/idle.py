"""Options that somebody typed and that do nothing, told instead of left out silently."""

from collections.abc import Sequence

import typer


def tell_idle(context: typer.Context, names: Sequence[str], purpose: str, here: str) -> None:
    """Say which of the options of these names were typed: that they are for a purpose, and do nothing `here`.

    What a file or a variable sets is for other commands as well, and not told.
    """
    mine = [one for one in context.command.params if one.name in names]
    typed = [max(one.opts, key=len) for one in mine if is_typed(context, str(one.name))]
    if typed:
        listed = " and ".join(filter(None, (", ".join(typed[:-1]), typed[-1])))
        are, they = ("is", "it does") if len(typed) == 1 else ("are", "they do")
        typer.echo(f"{listed} {are} for {purpose}: {here} {they} nothing.")


def is_typed(context: typer.Context, name: str) -> bool:
    """Whether the option is on the command line, and not only in a file or a variable."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
