"""NG pictures without masks: meant so, or are their masks there and were not found?"""

import re
from collections.abc import Collection
from pathlib import PurePosixPath

from defectline.components.common.errors import SourceError
from defectline.components.ingest.labels.names import PICTURES, place, without_a_letter
from defectline.components.ingest.readers.base import Layout, Listing

WORDS = ("mask", "masks", "ngmsk", "groundtruth", "annotation", "annotations", "segmentation")
"""What folders of masks are called."""
WORDS_OF_THEIR_OWN = ("mass",)
"""Which are almost one of them, and may well be a kind of defect."""


def check_masks(listing: Listing, layout: Layout, named: Collection[str] = ()) -> None:
    """Raise SourceError where no NG picture has a mask, and files seem to be masks all the same, but for the
    keys that are `named` as pictures."""
    bad = [record for record in layout.records if record.label == "NG"]
    if not bad or any(record.mask for record in layout.records if record.label != "OK"):
        return
    alone = [row.mask_key for row in layout.rejected if row.mask_key and not row.image_key]
    folders = {str(PurePosixPath(item.key).parent) for item in listing.objects if _is_picture(item.key)}
    inside = {folder for folder in folders if any(map(_says_masks, PurePosixPath(folder).parts))}
    found = sorted(
        {key for key in alone if _is_picture(key)}
        | {item.key for item in listing.objects if str(PurePosixPath(item.key).parent) in inside}
    )
    if found := [key for key in found if key not in named]:
        raise SourceError(
            "No NG picture has a mask.",
            got=f"{len(bad)} NG pictures, and {len(found)} files that seem to be masks, such as {found[0]}",
            expected="masks called as their pictures, in folders that docs/data.md names; or none at all",
            fix="Correct the names of the files or of their folder. If these are not masks, or the labels "
            "alone are to be learned, move them elsewhere.",
        )


def _is_picture(key: str) -> bool:
    return PurePosixPath(key).suffix.lower() in PICTURES


def _says_masks(folder: str) -> bool:
    """Whether a folder's name says masks, or would but for a letter.

    >>> [_says_masks(name) for name in ("NG_MSK", "crack_maks", "msaks", "mark", "mass", "tasks")]
    [True, True, True, False, False, False]
    """
    if place((folder,)).masks:
        return True
    words = [*re.split(r"[\W_]+", folder.casefold()), re.sub(r"[\W_]+", "", folder.casefold())]
    return any(_almost(word, known) for word in words for known in WORDS)


def _almost(word: str, known: str) -> bool:
    """Whether a letter is missing, too much, or has changed places. Another letter makes another word."""
    if word[:1] != known[:1] or word in WORDS_OF_THEIR_OWN:
        return False
    return sorted(word) == sorted(known) or word in without_a_letter(known) or known in without_a_letter(word)
