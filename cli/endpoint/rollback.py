"""`defectline rollback`"""

from typing import Annotated

import typer

from defectline.cli import completion
from defectline.cli.options import Name, ServedIn, Store


def rollback(
    store: Store = "./store",
    name: Name = "defects",
    to: Annotated[
        str,
        typer.Option(
            metavar="VERSION",
            help="Default: the version that served before.",
            autocompletion=completion.versions,
        ),
    ] = "",
    namespace: ServedIn = "",
) -> None:
    """Serve an earlier version again, checked as a new one is."""
    from defectline.components.deploy.deployer import open_deployer

    deployer = open_deployer(store, name, {"namespace": namespace})
    before = deployer.status().version
    version = deployer.roll_back(to)
    typer.echo(
        f"{name}: {version} serves"
        + (", as before" if before == version else f", {before} did before" if before else "")
    )
