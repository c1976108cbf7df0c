"""`defectline verify`"""

from pathlib import Path
from typing import Annotated

import typer

from defectline.cli.options import Json, Name, Store, Trust


def verify(
    what: Annotated[
        str,
        typer.Argument(
            metavar="VERSION|BUNDLE|ANSWER",
            help="A version of the store or the start of one, a bundle's folder, or a file with an answer of "
            "the endpoint.",
        ),
    ],
    store: Store = "./store",
    name: Name = "defects",
    trust: Trust = None,
    log: Annotated[
        Path | None, typer.Option(help="With an answer: the endpoint's log, which must have its line.")
    ] = None,
    request: Annotated[str, typer.Option(help="With --log: the answer's X-Request-ID.")] = "",
    image: Annotated[
        Path | None, typer.Option(help="With an answer: its picture, which is judged again.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Also write the chain as a page to this file.")] = None,
    json_: Json = False,
) -> None:
    """Prove which pictures, labels, training and gate led to a version or an answer, without a network.

    Exit status 0: every link that is there is proved. 2: a link is broken; the first one is named.
    """
    from defectline.cli import ui
    from defectline.components.common import layout
    from defectline.components.common.files import explained, replaced
    from defectline.components.common.storage import open_storage
    from defectline.components.common.trust.keys import read_trust
    from defectline.pipeline.catalog.chain import verify_folder, verify_version
    from defectline.pipeline.catalog.chain_page import write_page
    from defectline.pipeline.catalog.models import find_version

    trusted = read_trust(trust or ())
    answer = bool(log or request or image)
    if request and not log:
        raise typer.BadParameter("--request goes with --log")
    if answer and not Path(what).is_file():
        raise typer.BadParameter("--log and --image go with an answer, which is a file")
    # A folder that is called as a version is named as a path.
    if not what:
        raise typer.BadParameter("name a version, a bundle's folder, or a file with an answer")
    if Path(what).is_dir() and not layout.is_version(what):
        chain = verify_folder(Path(what), trusted)
    elif Path(what).is_file():
        from defectline.pipeline.catalog.answers import verify_answer

        chain = verify_answer(open_storage(store), Path(what), trusted, log, request, image)
    else:
        opened = open_storage(store)
        what = find_version(opened, name, what)
        chain = verify_version(opened, name, what, trusted)
    if page:
        with (
            explained(f"{page} cannot be written.", expected="a file in a folder", fix="Name another one."),
            replaced(page) as partial,
        ):
            partial.write_text(write_page(what, chain), encoding="utf-8")
    if json_:
        broken = chain.broken and chain.broken._asdict()
        links = [link._asdict() for link in chain.links]
        state = {"proved": broken is None, "signed": chain.signed, "missing": chain.missing, "broken": broken}
        ui.print_json({**state, "links": links})
    else:
        rows = [(link.version, link.name, link.state, link.says) for link in chain.links]
        ui.table(("version", "link", "", "which"), rows, whole=("version", "link"))
        if not chain.signed:
            ui.note(
                "No key was given: seals and digests were compared, which anybody who can write to the store "
                "can make fit. --trust names public keys."
            )
        if not chain.broken:
            missing = f"; not there: {', '.join(chain.missing)}" if chain.missing else ""
            ui.console.print(("[green]proved[/]" if chain.signed else "every seal fits") + missing)
    if chain.broken:
        ui.warn(f"broken: {chain.broken.name} of {chain.broken.version or 'the store'}", bad=True)
        raise typer.Exit(2)
