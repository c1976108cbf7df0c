"""`python -m defectline.components.train.cluster STORE NAME`: what each pod of a TrainJob does."""

import os
import sys
import tempfile
from pathlib import Path

from defectline.components.common.errors import DefectlineError, exit_on_error
from defectline.components.common.steps import REPORTS_ENV, say
from defectline.components.common.storage import open_storage
from defectline.components.train.backend.distributed import joined, place
from defectline.components.train.cluster.exchange import Exchange


def main(store: str, name: str) -> None:
    """Fetch what is to be learned, train with the other pods, and hand the model over."""
    exchange = Exchange(open_storage(store), name)
    with joined(), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # The step of this process tells there what is wrong.
        os.environ[REPORTS_ENV] = temporary
        try:
            shards, settings = exchange.get_order(folder / "data")
            say(f"train: the dataset is here, in {len(shards)} {'shard' if len(shards) == 1 else 'shards'}")
            from defectline.components.train.step import train

            best = train(shards, folder / "model", folder / "history.html", settings, store=store)
        except DefectlineError as error:
            exchange.put_error(error.to_json())
            raise
        except SystemExit:
            if (told := folder / "error.json").exists():
                exchange.put_error(told.read_text())
            raise
        if place().first:
            exchange.put_model(folder / "model", folder / "history.html", best)


if __name__ == "__main__":
    with exit_on_error():
        main(*sys.argv[1:])
