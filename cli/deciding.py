"""What `defectline approve` and `defectline reject` have in common: all but the word."""

from collections.abc import Callable
from typing import Literal

import typer

from defectline.cli import hints
from defectline.cli.options import As, Key, Name, Reason, Store, Version


def decision(what: Literal["approve", "reject"], help_: str) -> Callable[..., None]:
    """The command of this name in components/deploy/approval.py."""

    def decide(
        version: Version,
        as_: As,
        reason: Reason = "",
        store: Store = "./store",
        name: Name = "defects",
        key: Key = "",
    ) -> None:
        from defectline.cli import ui
        from defectline.components.common.storage import open_storage
        from defectline.components.common.trust.keys import read_signer
        from defectline.components.deploy import approval
        from defectline.pipeline.catalog.models import find_version

        opened, signing = open_storage(store), read_signer(key) if key else None
        found = find_version(opened, name, version)
        run = {"approve": approval.approve, "reject": approval.reject}[what]
        typer.echo(run(opened, name, found, as_, reason or ui.ask_reason(), signing))
        typer.echo(f"all that was decided: {hints.program()} audit --store {store}")

    decide.__doc__ = help_
    return decide
