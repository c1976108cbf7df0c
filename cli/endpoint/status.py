"""`defectline status`"""

from typing import TYPE_CHECKING

import typer

from defectline.cli.options import Json, Name, ServedIn, Store

if TYPE_CHECKING:
    from defectline.components.deploy.status import Status


def status(
    store: Store = "./store",
    name: Name = "defects",
    namespace: ServedIn = "",
    json_: Json = False,
) -> None:
    """What serves, and what is under way."""
    from defectline.components.deploy.deployer import open_deployer

    found = open_deployer(store, name, {"namespace": namespace}).status()
    typer.echo(found.model_dump_json(indent=2) if json_ else "\n".join(lines(found)))


def lines(status: "Status") -> list[str]:
    """The status for people, one fact a line."""
    where = f"namespace {status.namespace}" if status.namespace else "this machine"
    rows = [("model", f"{status.name} on {where}"), ("version", status.version or "none serves")]
    if status.namespace and status.version:
        rows.append(("pods", f"{status.ready_pods} ready of {status.wanted_pods}"))
        rows.append(("url", status.url or "none yet"))
    rows.append(("before", status.previous or "none to go back to"))
    rows += [("under way", text) for text in status.under_way]
    if status.last_outcome:
        outcome = status.last_outcome
        rows.append(("last run", f"{status.last_run}: {outcome.state}, {outcome.reason}"))
    return [f"{title:10} {text}" for title, text in rows]
