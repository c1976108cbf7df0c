"""The endpoint that is qualified, as its client is seen from here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from defectline.components.common.prediction import Prediction


class Endpoint(Protocol):
    """A `client.Client`, which stands beside this floor."""

    url: str
    name: str
    headers: Mapping[str, str] | None

    def inspect(self, image: bytes | Path, *, mask: bool = True, review: bool | None = None) -> Prediction:
        """Raises DefectlineError."""
        ...
