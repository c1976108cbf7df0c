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
            help="A version, or the start of one. Default: the version that served before.",
            autocompletion=completion.versions,
        ),
    ] = "",
    namespace: ServedIn = "",
    url: Annotated[
        str,
        typer.Option(help="A gateway to ask the endpoint by, where it is not the API server."),
    ] = "",
    host_header: Annotated[str, typer.Option(help="The Host that the gateway of --url routes by.")] = "",
) -> None:
    """Serve an earlier version again, checked as a new one is."""
    from defectline.components.common.reporting.audit import HERE, note, user
    from defectline.components.common.storage import open_storage
    from defectline.components.deploy.deployer import open_deployer
    from defectline.pipeline.catalog.models import find_version

    if (url or host_header) and not (url and namespace):
        raise typer.BadParameter("--url goes with --namespace, and --host-header with --url")
    deployer = open_deployer(store, name, {"namespace": namespace, "url": url, "host_header": host_header})
    opened = open_storage(store)
    to = to and find_version(opened, name, to)
    before = deployer.status().version
    version = deployer.roll_back(to)
    note(opened, "rollback", name, version, user(), namespace or HERE)
    typer.echo(
        f"{name}: {version} serves"
        + (", as before" if before == version else f", {before} did before" if before else "")
    )
