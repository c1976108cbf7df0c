"""What the step and the pods of its TrainJob hand each other through the store.

checkpoints/<TrainJob>/data/<i>/     a shard of the dataset, with SHA256SUMS
checkpoints/<TrainJob>/order.json    the settings, and how many shards there are
checkpoints/<TrainJob>/model/        what was trained, sealed
checkpoints/<TrainJob>/history.html
checkpoints/<TrainJob>/result.json   the values of the best epoch: written last
checkpoints/<TrainJob>/error.json    or what is wrong

It lies where checkpoints do, so that `defectline prune` removes what a step left that was killed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from defectline.components.common.errors import BundleError, DefectlineError, StoreError
from defectline.components.common.layout import checkpoint_prefix
from defectline.components.common.steps import track
from defectline.components.common.storage import Storage, checksums

DATA, ORDER, MODEL, PAGE = "data/", "order.json", "model", "history.html"
RESULT, ERROR = "result.json", "error.json"


class Exchange:
    def __init__(self, store: Storage, name: str):
        self.store, self.prefix = store, checkpoint_prefix(name)

    # Of the step.

    def put_order(self, datasets: Sequence[Path], settings: Mapping[str, Any]) -> None:
        """Upload the shards, and what to do with them; the order comes last."""
        files = [
            (f"{index}/{name}", folder / name)
            for index, folder in enumerate(datasets)
            for name in checksums.sealed(folder)
        ]
        for key, path in track(files, len(files), "train: uploading the dataset"):
            self.store.upload(path, self.prefix + DATA + key)
        for index, folder in enumerate(datasets):
            lines = (f"{checksums.sha256_file(folder / name)}  {name}\n" for name in checksums.sealed(folder))
            self._write(f"{DATA}{index}/{checksums.NAME}", "".join(lines))
        self._write(ORDER, json.dumps({"settings": dict(settings), "shards": len(datasets)}))

    def get_model(self, model: Path, page: Path) -> dict[str, float]:
        """Download the model, checked, and the page of its history; returns the values of its best epoch."""
        best = json.loads(self._read(RESULT))
        self.store.download_folder(self.prefix + MODEL, model)
        checksums.verify(model, self.store.url(self.prefix + MODEL))
        page.parent.mkdir(parents=True, exist_ok=True)
        self.store.download(self.prefix + PAGE, page)
        return best

    def error(self) -> DefectlineError | None:
        """What a pod says is wrong, that the user can fix."""
        key = self.prefix + ERROR
        return DefectlineError.from_json(self._read(ERROR)) if self.store.exists(key) else None

    def forget(self, what: str = "") -> None:
        """Remove all of it, or what begins so."""
        self.store.delete_below(self.prefix + what)

    # Of the pods.

    def get_order(self, folder: Path) -> tuple[list[Path], dict[str, Any]]:
        """Download the shards into `folder`, checked; returns their folders, and the settings.

        Raises StoreError where they are not what was uploaded.
        """
        order = json.loads(self._read(ORDER))
        shards = [folder / str(index) for index in range(order["shards"])]
        for index, shard in enumerate(shards):
            prefix = f"{self.prefix}{DATA}{index}"
            self.store.download_folder(prefix, shard)
            try:
                checksums.verify(shard, self.store.url(prefix))
            except BundleError as error:
                fix = "Run the step again."
                raise StoreError(error.what, got=error.got, expected=error.expected, fix=fix) from error
        return shards, order["settings"]

    def put_model(self, model: Path, page: Path, best: Mapping[str, float]) -> None:
        self.forget(f"{MODEL}/")  # of an attempt that was cut off here
        self.store.upload_folder(model, self.prefix + MODEL)
        self.store.upload(page, self.prefix + PAGE)
        self._write(RESULT, json.dumps(best))

    def put_error(self, error: str) -> None:
        self._write(ERROR, error)

    def _read(self, name: str) -> str:
        return self.store.read(self.prefix + name).decode()

    def _write(self, name: str, text: str) -> None:
        self.store.write(self.prefix + name, text.encode())
