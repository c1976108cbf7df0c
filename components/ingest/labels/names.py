"""What the names of files and folders say: which is a picture and which a mask, and which folder is good."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".png")
"""Of two files of one name that end so, the first in this order is the picture, and the other its mask."""
KIND = re.compile(r"(^|[_\-. ]+|(?<=\d))(image|img|mask|msk)$", re.IGNORECASE)
"""What the names of images and masks may end with: `a_mask`, not `damask`."""
_MASK = r"masks?|msk|gt|ground[_\-]?truth|labels?|seg|segmentations?|annotations?|annos?|anns?"
_IMAGE = r"images?|imgs?"
_MASK_FOLDER = r"masks?|msks?|gt|ground[_\-]?truths?|seg|segs|segmentations?|annotations?|annos?"
MASK_ENDING = re.compile(rf"(?:[_\-. ]+|(?<=\d))(?:{_MASK})$|^(?:masks?|msk|gt)[_\-. ]+", re.IGNORECASE)
IMAGE_ENDING = re.compile(rf"(?:[_\-. ]+|(?<=\d))(?:{_IMAGE})$|^(?:{_IMAGE})[_\-. ]+(?=.*\d)", re.IGNORECASE)
MASK_FOLDER = re.compile(
    rf"^(?:{_MASK})$|[_\-. ]+(?:{_MASK_FOLDER})$|^(?:{_MASK_FOLDER})[_\-. ]+", re.IGNORECASE
)
IMAGE_FOLDER = re.compile(
    rf"^(?:{_IMAGE}|pictures|photos|rgb)$|[_\-. ]+(?:{_IMAGE})$|^(?:{_IMAGE})[_\-. ]+", re.IGNORECASE
)
_GOOD = re.compile(
    r"(?:^|.*[_\-. ])(?:ok|good|free|normal|clean|pass|passed|perfect|intact|flawless|healthy|undamaged|"
    r"defect[_\- ]?free|(?:no|non|without)[_\- ]?(?:defects?|defective|anomal(?:y|ies)|faults?|damages?))$",
    re.IGNORECASE,
)
_NOT_GOOD = re.compile(r"(?:^|[_\-. ])(?:not?|non|un|ab)[_\-. ]?(?:ok|good|normal|clean)$", re.IGNORECASE)
_BAD = re.compile(
    r"ng|nok|n\.?i\.?o\.?|(?:not?)[_\- ]?(?:ok|good)|bad|defects?|defective|anomal(?:y|ies|ous)|abnormal|"
    r"faulty|rejects?|rejected|fail|failed|scrap",
    re.IGNORECASE,
)


_NUMBERED_KIND = re.compile(
    rf"(?:[_\-. ]+|(?<=\d))(?:{_MASK}|{_IMAGE}|mark|map|defects?)[_\-. ]?\d*$", re.IGNORECASE
)
SHORTEST = 4
"""Of names that may differ in a letter."""


def stem(name: str) -> str:
    """What a picture and its mask have in common: the name without its suffix and its kind.

    >>> stem("00007_NG_Image.bmp"), stem("00007_NG_Mask.bmp"), stem("part.7.png"), stem("p1/Mask.png")
    ('00007_NG', '00007_NG', 'part.7', 'p1')
    """
    folder, _, file = name.rpartition("/")
    last, _, suffix = file.rpartition(".")
    whole = last if last and suffix else file
    base = KIND.sub("", whole) or ("" if folder else whole)
    # Macs write ü as two characters, which is another name to everybody else.
    return unicodedata.normalize("NFC", f"{folder}/{base}".strip("/"))


class Place(NamedTuple):
    """Where a file lies, as far as a picture and its mask share it."""

    folders: tuple[str, ...]
    """Without those that only say whether they hold pictures or masks."""
    masks: bool
    """Whether it is a folder of masks."""


def place(folders: tuple[str, ...]) -> Place:
    """What the folders above a file say.

    >>> place(("MT_Free", "Imgs")), place(("train_masks",))
    (Place(folders=('MT_Free',), masks=False), Place(folders=('train',), masks=True))
    """
    left, masks = [], False
    for folder in folders:
        rest = MASK_FOLDER.sub("", folder, count=1)
        if rest != folder:
            masks = True
        else:
            rest = IMAGE_FOLDER.sub("", folder, count=1)
        if rest:
            left.append(rest)
    return Place(tuple(left), masks)


_TAIL = re.compile(r"[\W_]+(masks?|msk|gt|labels?|seg|annotations?)[\W_].*$", re.IGNORECASE)
"""A word for mask within a name, and what follows it."""


class Near:
    """Finds, for a picture without a mask, a mask without a picture whose name is almost its own.

    Almost: but for case, separators, leading zeros, a word for mask and what follows it, or one letter. Two
    numbers are never almost the same. `stems` are unique names without suffixes.
    """

    def __init__(self, stems: Iterable[str]):
        self._loose: dict[str, list[str]] = defaultdict(list)
        self._shorter: dict[str, list[str]] = defaultdict(list)
        for found in sorted(stems):
            loose = _loosen(found)
            self._loose[loose].append(found)
            base = _TAIL.sub("", found, count=1)
            if base and base != found:
                self._loose[_loosen(base)].append(found)
            for shorter in {loose, *without_a_letter(loose)}:
                self._shorter[shorter].append(found)

    def find(self, stem: str) -> str:
        """The nearest name, or "" where none is near."""
        loose = _loosen(stem)
        if same := self._loose.get(loose):
            return same[0]
        found = {
            one for shorter in (loose, *without_a_letter(loose)) for one in self._shorter.get(shorter, ())
        }
        # Where several are as near, none is meant.
        return found.pop() if len(found) == 1 else ""


def _loosen(stem: str) -> str:
    base = _NUMBERED_KIND.sub("", unicodedata.normalize("NFKC", stem).casefold(), count=1) or stem
    return re.sub(r"0*(\d+)", r"\1", re.sub(r"[^\w\0]+|_", "", re.sub(r"(?<=\d)[\W_]+(?=\d)", "\0", base)))


def without_a_letter(text: str) -> set[str]:
    """The text with one letter left out; none of short names, which that would leave nothing to tell by."""
    letters = (at for at, letter in enumerate(text) if letter.isalpha())
    return {text[:at] + text[at + 1 :] for at in letters} if len(text) >= SHORTEST else set()


def means_good(folder: str) -> bool:
    """Whether a folder of this name holds good pictures.

    >>> [means_good(name) for name in ("MT_Free", "good", "No-Defect", "not_ok", "crack")]
    [True, True, True, False, False]
    """
    return bool(_GOOD.fullmatch(folder)) and not _NOT_GOOD.search(folder)


def means_bad(folder: str) -> bool:
    """Whether a folder of this name holds defects of no class in particular."""
    return bool(_BAD.fullmatch(folder))
