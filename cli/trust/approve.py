"""`defectline approve`"""

import typer

from defectline.cli import hints
from defectline.cli.options import As, Key, Name, Reason, Store, Version


def approve(
    version: Version,
    as_: As,
    reason: Reason = "",
    store: Store = "./store",
    name: Name = "defects",
    key: Key = "",
) -> None:
    """Say yes to a version that waits for approval, and deploy it where that is enough."""
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.components.common.trust.keys import read_signer
    from defectline.components.deploy.approval import approve as run

    signing = read_signer(key) if key else None
    typer.echo(run(open_storage(store), name, version, as_, reason or ui.ask_reason(), signing))
    typer.echo(f"all that was decided: {hints.program()} audit --store {store}")
