"""`defectline pretrain`"""

from typing import Annotated

import typer

from defectline.cli.options import Config, Set, Store


def pretrain(
    store: Store = "./store",
    pairs: Annotated[int, typer.Option(min=20, help="Synthetic light guide plates to train on.")] = 6000,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Train on synthetic samples, for weights to start from; prints what `init_from` takes."""
    from defectline.cli import ui
    from defectline.pipeline import pretraining
    from defectline.pipeline.local import RunFailed
    from defectline.pipeline.parameters import parse

    parameters = parse("drawn", store, [*pretraining.DEFAULTS, *(set_ or [])])
    try:
        made = pretraining.pretrain(parameters, pairs, ui.say)
    except RunFailed as error:
        ui.end_failed(error)
    typer.echo(f"init_from={made}")
