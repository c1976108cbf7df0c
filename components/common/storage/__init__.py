"""One small interface over folders, S3 and Google Cloud Storage.

>>> store = open_storage("s3://factory/defects")
>>> store.write("runs/first/outcome.json", b"{}")
"""

from pathlib import Path

from defectline.components.common.storage.base import Object, Storage, check_key
from defectline.components.common.storage.uris import read_uri

__all__ = ["Object", "Storage", "check_key", "open_storage"]


def open_storage(uri: str) -> Storage:
    """The storage that `uri` names. Nothing is read or written yet.

    Raises SettingsError for a location that `read_uri` refuses.
    """
    place = read_uri(uri)
    if place.scheme == "s3":
        from defectline.components.common.storage.s3 import S3Storage

        return S3Storage(place.bucket, place.path)
    if place.scheme == "gs":
        from defectline.components.common.storage.gcs import GCSStorage

        return GCSStorage(place.bucket, place.path)
    from defectline.components.common.storage.folder import FolderStorage

    return FolderStorage(Path(place.path).expanduser())
