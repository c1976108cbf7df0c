"""`defectline reject`"""

import typer

from defectline.cli.options import As, Key, Name, Reason, Store, Version


def reject(
    version: Version,
    as_: As,
    reason: Reason = "",
    store: Store = "./store",
    name: Name = "defects",
    key: Key = "",
) -> None:
    """Say no to a version that waits for approval; the champion stays."""
    from defectline.cli import ui
    from defectline.components.common.storage import open_storage
    from defectline.components.common.trust.keys import read_signer
    from defectline.components.deploy.approval import reject as run

    signing = read_signer(key) if key else None
    typer.echo(run(open_storage(store), name, version, as_, reason or ui.ask_reason(), signing))
