"""An earlier version, to serve again by the same way and with the same checks as a new one."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from defectline.components.common import layout
from defectline.components.common.bundle import Bundle, read_bundle
from defectline.components.common.errors import BundleError
from defectline.components.common.storage import Storage, checksums
from defectline.components.common.trust.approvals import check_approved
from defectline.components.common.trust.keys import read_trust
from defectline.components.common.trust.signatures import check_if_asked

RUN = "rollback"
"""Stands where the champion's run does."""


@contextmanager
def fetched(store: Storage, name: str, version: str, approved: bool = True) -> Iterator[tuple[Path, Bundle]]:
    """The bundle of `version`, checked, in a folder that is there until the block ends.

    Raises BundleError where the store has no such bundle, or not as it was sealed, or where DEFECTLINE_TRUST
    names keys and none of them signed it. With `approved`, also where people had to approve it and did not.
    """
    prefix = layout.model_folder(name, version)
    if not store.exists(f"{prefix}/{checksums.NAME}"):
        there = sorted(
            found.key.split("/")[2]
            for found in store.list(f"{layout.MODELS}{name}/")
            if found.key.endswith(f"/{checksums.NAME}")
        )
        raise BundleError(
            f"There is no bundle {version} of {name}.",
            got=f"nothing whole in {store.url(prefix)}",
            expected=f"one of {', '.join(there)}" if there else "bundles of that name in the store",
            fix="`defectline models` lists them; correct the version, --store or --name.",
        )
    with tempfile.TemporaryDirectory() as temporary:
        store.download_folder(prefix, Path(temporary))
        bundle = read_bundle(Path(temporary), store.url(prefix))
        check_if_asked(Path(temporary), origin=store.url(prefix))
        if approved:
            check_approved(store, name, Path(temporary), bundle, read_trust())
        yield Path(temporary), bundle
