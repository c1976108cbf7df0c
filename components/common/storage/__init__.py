"""One small interface over folders, S3 and Google Cloud Storage.

>>> store = open_storage("s3://factory/defects")
>>> store.write("runs/first/outcome.json", b"{}")
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from defectline.components.common.errors import SettingsError
from defectline.components.common.storage.base import Object, Storage, check_key

__all__ = ["Object", "Storage", "check_key", "open_storage"]

SCHEMES = ("s3://bucket/prefix", "gs://bucket/prefix", "file:///folder", "a folder's path")


def open_storage(uri: str) -> Storage:
    """The storage that `uri` names. Nothing is read or written yet.

    Raises SettingsError for a scheme that is not one of SCHEMES.
    """
    parts = urlsplit(uri)
    if "://" not in uri:
        from defectline.components.common.storage.folder import FolderStorage

        if not uri.strip():
            raise SettingsError(
                "A location is empty.", got=repr(uri), expected=", ".join(SCHEMES), fix="Name one of these."
            )
        return FolderStorage(Path(uri).expanduser())
    if parts.scheme == "file":
        from defectline.components.common.storage.folder import FolderStorage

        if parts.netloc not in ("", "localhost"):
            raise SettingsError(
                f"{uri} names a host.",
                got=f"host {parts.netloc}",
                expected="file:///folder, with three slashes",
                fix=f"Write file:///{parts.netloc}{parts.path}, or the folder's plain path.",
            )
        return FolderStorage(Path(unquote(parts.path)))
    if parts.scheme in ("s3", "gs") and not parts.netloc:
        raise SettingsError(
            f"{uri} names no bucket.",
            got=uri,
            expected=f"{parts.scheme}://bucket/prefix",
            fix="Put the bucket's name after the two slashes.",
        )
    # The path is taken from the text, not from urlsplit: `?` and `#` are ordinary in object keys.
    bucket, _, prefix = uri.split("://", 1)[1].partition("/")
    if parts.scheme == "s3":
        from defectline.components.common.storage.s3 import S3Storage

        return S3Storage(bucket, prefix)
    if parts.scheme == "gs":
        from defectline.components.common.storage.gcs import GCSStorage

        return GCSStorage(bucket, prefix)
    raise SettingsError(
        f"The scheme of {uri} is unknown.",
        got=f"{parts.scheme}://",
        expected=", ".join(SCHEMES),
        fix="Use one of these, or copy the images into a folder.",
    )
