"""`defectline package`"""

from typing import Annotated

import typer

from defectline.cli.options import Name, Store, Version


def package(
    version: Version,
    place: Annotated[
        str, typer.Argument(metavar="OCI", help="oci://registry.example.com/plates, with :TAG or without.")
    ],
    store: Store = "./store",
    name: Name = "defects",
) -> None:
    """Push what an endpoint loads of a version to a registry, as an image that KServe mounts."""
    from defectline.components.common.storage import open_storage
    from defectline.components.deploy.oci import Repository, push
    from defectline.components.deploy.rollback import fetched
    from defectline.pipeline.catalog.models import find_version

    where = Repository.parse(place)
    opened = open_storage(store)
    with fetched(opened, name, find_version(opened, name, version)) as (folder, bundle):
        reference = push(folder, bundle, where)
    typer.echo(f"{where.host}/{where.name}:{where.tag or bundle.version}")
    typer.echo(f"storageUri: oci+native://{reference}")
