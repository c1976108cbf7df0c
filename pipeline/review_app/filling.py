"""What a stored model says of each pixel of a frame, to fill a mask from."""

import tempfile
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.bundle import NAME, bundle_roi, read_bundle
from defectline.components.common.errors import SettingsError
from defectline.components.common.inference.inspection import LEVELS
from defectline.components.common.inference.network import Network
from defectline.components.common.layout import model_folder
from defectline.components.common.storage import Storage


class Likelihood:
    """The models of one name, of which the last one asked for stays loaded; safe to use from several
    threads."""

    def __init__(self, store: Storage, model: str):
        self._store, self._model = store, model
        self._lock = threading.Lock()
        self._loaded: tuple[str, Network] | None = None

    def of(self, version: str, picture: bytes) -> NDArray[np.uint8]:
        """Probability of a defect in each pixel of an encoded picture, (H, W), 255 for certain.

        Raises SettingsError where the store has that version no more, BundleError where it is damaged, and
        UnreadableImage.
        """
        with self._lock:
            if self._loaded is None or self._loaded[0] != version:
                self._loaded = version, self._open(version)
            network = self._loaded[1]
        scores = network.score_map(picture)
        return np.round(scores * (255 / LEVELS)).astype(np.uint8)

    def _open(self, version: str) -> Network:
        published = model_folder(self._model, version)
        if not self._store.exists(f"{published}/{NAME}"):
            raise SettingsError(
                f"The model {version} is not in the store.",
                got=f"nothing below {self._store.url(published)}",
                expected="the model that judged the frame",
                fix="Draw with the brush or a polygon.",
            )
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, version)
            self._store.download_folder(published, folder)
            bundle = read_bundle(folder, self._store.url(published))
            return Network(
                folder / bundle.network,
                bundle.imaging,
                classes=bundle.classes,
                roi=bundle_roi(folder),
                first_look=bundle.first_look,
            )
