"""Asks an endpoint about images, from a camera PC or another program.

>>> from defectline.client import Client
>>> with Client("http://localhost:8080", "defects") as client:
...     found = client.inspect(Path("plate.png"))
...     print(found.verdict, found.score, [region.bbox for region in found.regions])

Needs httpx and pydantic alone: `pip install "defectline[client]"`. The modules of common that it imports
are errors, files, installing and prediction.
"""

try:
    from defectline.client.client import AsyncClient, Client, Refused
    from defectline.client.retry import Unavailable
    from defectline.components.common.prediction import Prediction, Region
except ModuleNotFoundError as error:
    from defectline.components.common.installing import how_to_install

    if error.name not in ("httpx", "pydantic"):
        raise
    raise ModuleNotFoundError(
        f"defectline.client needs {error.name}. {how_to_install('client')}", name=error.name
    ) from None
from defectline.components.common.errors import DefectlineError, ServingError, SettingsError

__all__ = [
    "AsyncClient",
    "Client",
    "DefectlineError",
    "Prediction",
    "Refused",
    "Region",
    "ServingError",
    "SettingsError",
    "Unavailable",
]
