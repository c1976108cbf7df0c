"""KolektorSDD and KolektorSDD2 as they are published: a picture and its mask beside each other.

kos01/Part0.jpg    kos01/Part0_label.bmp    a commutator, photographed in eight parts
train/10001.png    train/10001_GT.png       train/ and test/
"""

import re
from collections import Counter
from pathlib import PurePosixPath

from defectline.components.common.classes import DEFAULT_CLASSES
from defectline.components.common.legend import write_legend
from defectline.components.common.storage import Object
from defectline.components.ingest.readers.base import Layout, Listing, Record, unusable

NAME = "kolektor"
EXPECTED = (
    "kosNN/PartN.jpg with PartN_label.bmp (KolektorSDD), or train/ and test/ with NNNNN.png and NNNNN_GT.png"
)
FILE = re.compile(
    r"(?:.*/)?(?:kos(?P<item>\d+)/Part\d+(?P<label>_label)?\.(?:jpg|bmp|png)"
    r"|(?P<split>train|test)/\d+(?P<gt>_GT)?\.png)",
    re.IGNORECASE,
)


def fits(listing: Listing) -> str:
    for item in listing.objects:
        found = FILE.fullmatch(item.key)
        if found and (found["label"] or found["gt"]):
            return f"{item.key} is a mask of Kolektor{'SDD' if found['item'] else 'SDD2'}"
    return ""


def read(listing: Listing) -> Layout:
    """Whether a part is good its mask says, of which every value but 0 is a defect.

    KolektorSDD: the parts of one commutator are a group. KolektorSDD2: its train/ and test/ are the splits.
    """
    pictures: dict[str, Object] = {}
    masks: dict[str, Object] = {}
    ignored: Counter[str] = Counter()
    for item in listing.objects:
        found = FILE.fullmatch(item.key)
        if not found:
            ignored["other files"] += 1
            continue
        stem = PurePosixPath(item.key).with_suffix("").as_posix()
        if ending := found["label"] or found["gt"]:
            masks[stem.removesuffix(ending)] = item
        else:
            pictures[stem] = item
    legend = write_legend(DEFAULT_CLASSES[0])
    records, rejected = [], []
    for stem in sorted(pictures.keys() | masks.keys()):
        picture, mask = pictures.get(stem), masks.get(stem)
        if picture and mask:
            folder = PurePosixPath(stem).parent
            found = FILE.fullmatch(picture.key)
            assert found
            split = (found["split"] or "").lower()
            group = "" if split else folder.as_posix()
            records.append(Record(stem, "", picture, mask, legend, group, split))
        elif picture:
            reason, fix = "No mask of that name.", "Add its mask, or remove the picture."
            rejected.append(unusable(stem, reason, fix, image=picture.key))
        elif mask:
            reason, fix = "No picture of that name.", "Add the picture, or remove the mask."
            rejected.append(unusable(stem, reason, fix, mask=mask.key))
    return Layout(records, rejected, ignored)
