"""One small interface over folders, S3 and Google Cloud Storage.

>>> store = open_storage("s3://factory/defects")
>>> store.write("runs/first/outcome.json", b"{}")
"""

from pathlib import Path
from urllib.parse import unquote

from defectline.components.common.errors import SettingsError
from defectline.components.common.storage.base import Object, Storage, check_key

__all__ = ["Object", "Storage", "check_key", "open_storage"]

SCHEMES = ("s3://bucket/prefix", "gs://bucket/prefix", "file:///folder", "a folder's path")


def open_storage(uri: str) -> Storage:
    """The storage that `uri` names. Nothing is read or written yet.

    Raises SettingsError for a scheme that is not one of SCHEMES.
    """
    # Taken from the text, not by urlsplit: `?` and `#` are ordinary in keys and in names of folders.
    scheme, separator, rest = uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    if not separator:
        from defectline.components.common.storage.folder import FolderStorage

        if not uri.strip():
            raise SettingsError(
                "A location is empty.", got=repr(uri), expected=", ".join(SCHEMES), fix="Name one of these."
            )
        return FolderStorage(Path(uri).expanduser())
    if scheme == "file":
        from defectline.components.common.storage.folder import FolderStorage

        if bucket not in ("", "localhost"):
            raise SettingsError(
                f"{uri} names a host.",
                got=f"host {bucket}",
                expected="file:///folder, with three slashes",
                fix=f"Write file:///{rest}, or the folder's plain path.",
            )
        return FolderStorage(Path("/" + unquote(prefix)))
    if scheme in ("s3", "gs") and not bucket:
        raise SettingsError(
            f"{uri} names no bucket.",
            got=uri,
            expected=f"{scheme}://bucket/prefix",
            fix="Put the bucket's name after the two slashes.",
        )
    if scheme == "s3":
        from defectline.components.common.storage.s3 import S3Storage

        return S3Storage(bucket, prefix)
    if scheme == "gs":
        from defectline.components.common.storage.gcs import GCSStorage

        return GCSStorage(bucket, prefix)
    raise SettingsError(
        f"The scheme of {uri} is unknown.",
        got=f"{scheme}://",
        expected=", ".join(SCHEMES),
        fix="Use one of these, or copy the images into a folder.",
    )
