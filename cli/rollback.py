"""`defectline rollback`"""

from typing import Annotated

import typer


def rollback(
    store: Annotated[str, typer.Option(help="Where snapshots, models and runs are kept.")] = "./store",
    name: Annotated[str, typer.Option(help="The model's name.")] = "defects",
    to: Annotated[str, typer.Option(metavar="VERSION", help="Default: the version that served before.")] = "",
    namespace: Annotated[str, typer.Option(help="Where KServe serves the model; else this machine.")] = "",
) -> None:
    """Serve an earlier version again, checked as a new one is."""
    from defectline.components.deploy.rollback import roll_back
    from defectline.components.deploy.status import read_status

    before = read_status(store, name, namespace).version
    version = roll_back(store, name, namespace, to)
    typer.echo(
        f"{name}: {version} serves"
        + (", as before" if before == version else f", {before} did before" if before else "")
    )
