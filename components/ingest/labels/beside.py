"""Pictures and masks in any folders, paired by their names: beside each other, or in two folders."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from defectline.components.common.legend import write_legend
from defectline.components.common.snapshot import Pair
from defectline.components.common.storage import Object
from defectline.components.ingest.junk import count_ignored
from defectline.components.ingest.labels.names import (
    IMAGE_ENDING,
    MASK_ENDING,
    PICTURES,
    Near,
    means_bad,
    means_good,
    place,
)
from defectline.components.ingest.readers.base import Layout, Record


class File(NamedTuple):
    item: Object
    folders: tuple[str, ...]
    """As in Place."""
    masks: bool
    """Whether it lies in a folder of masks."""
    stem: str
    suffix: str


class Matched(NamedTuple):
    """Which mask belongs to which picture."""

    pictures: list[tuple[File, list[File]]]
    """Each with all masks of its name."""
    alone: list[File]
    """Masks without a picture."""
    ignored: Counter[str]
    """As in Layout."""

    @property
    def found(self) -> int:
        """How many pictures have a mask."""
        return sum(bool(masks) for _, masks in self.pictures)

    @property
    def mask_folder(self) -> str:
        """The folder that one of the masks lies in, where it is not that of its picture."""
        for file, masks in self.pictures:
            for mask in masks:
                if mask.masks:
                    apart = PurePosixPath(mask.item.key).parent
                    return "" if apart == PurePosixPath(file.item.key).parent else str(apart)
        return ""


Where = tuple[tuple[str, ...], str]


def match(objects: Iterable[Object]) -> Matched:
    """Find the masks of all pictures by name. Pure."""
    ignored, files = [], []
    for item in sorted(objects):
        path = PurePosixPath(unicodedata.normalize("NFC", item.key))
        if (suffix := path.suffix.lower()) not in PICTURES:
            ignored.append(item.key)
            continue
        files.append(File(item, *place(path.parts[:-1]), path.stem, suffix))
    pictures: dict[Where, list[File]] = defaultdict(list)
    for file in files:
        if not file.masks:
            pictures[file.folders, file.stem].append(file)
    # A picture's name without what says that it is one comes second: `a_image_mask` is of `a_image`.
    cores: dict[Where, list[Where]] = defaultdict(list)
    for folders, stem in pictures:
        cores[folders, IMAGE_ENDING.sub("", stem, count=1) or stem].append((folders, stem))

    def owner(file: File, name: str) -> Where | None:
        for candidate in (name, _without_suffix(name)):
            where = file.folders, candidate
            if where in pictures and (file.masks or candidate != file.stem):
                return where
            found = [one for one in cores.get(where, ()) if file.masks or one[1] != file.stem]
            if len(found) == 1:
                return found[0]
        return None

    masks: dict[Where, list[File]] = defaultdict(list)
    alone, used, doubtful = [], set(), []
    for file in files:
        base = MASK_ENDING.sub("", file.stem, count=1)
        ending = file.stem.removeprefix(base).lower() if base != file.stem else ""
        if file.masks:
            if where := owner(file, file.stem) or owner(file, base):
                masks[where].append(file)
            else:
                alone.append(file)
        elif where := (owner(file, base) if ending else owner(file, _without_suffix(file.stem))):
            masks[where].append(file)
            used.add(ending)
        elif ending:
            doubtful.append((file, ending))
    taken = {file.item.key for found in masks.values() for file in found}
    for file, ending in doubtful:
        # Where masks end so, it is one whose picture is missing; elsewhere it is only a name.
        if ending in used:
            alone.append(file)
            taken.add(file.item.key)
    pairs = []
    for where, found in pictures.items():
        left = [file for file in found if file.item.key not in taken]
        left.sort(key=lambda file: PICTURES.index(file.suffix))
        if len(left) == 2 and left[0].suffix != left[1].suffix and not masks.get(where):
            masks[where] = [left.pop()]
        for file in left:
            more = [other for other in left if other is not file]
            pairs.append((file, masks.get(where, []) + more))
    return Matched(pairs, alone, count_ignored(ignored))


def _without_suffix(name: str) -> str:
    """`a` of `a.jpg`, where another suffix follows."""
    base, dot, suffix = name.rpartition(".")
    return base if f"{dot}{suffix}".lower() in PICTURES else name


def class_level(matched: Matched) -> int | None:
    """Which of the folders above pictures are classes: that on whose level one means good."""
    levels = Counter(
        level
        for file, _ in matched.pictures
        for level, folder in enumerate(file.folders)
        if means_good(folder)
    )
    return max(levels, key=lambda level: (levels[level], -level)) if levels else None


def to_layout(matched: Matched, masks: str, named: bool) -> Layout:
    """The records of what was matched. Pure.

    With `masks="ng_only"` a picture without a mask is good wherever its folder does not say otherwise. An NG
    one needs no mask, unless one is almost of its name. Where values of masks are `named`, folders name no
    classes.
    """
    level = class_level(matched)
    labelled = [(file, found, *_label(file, level, named)) for file, found in matched.pictures]
    good_needs = masks == "all" and any(found for _, found, label, _ in labelled if label == "OK")
    names = Counter(_stem(file, level, label) for file, _, label, _ in labelled)
    alone = {(file.folders, file.stem): file.item.key for file in matched.alone}
    near: dict[tuple[str, ...], Near] = {
        folders: Near(stem for of, stem in alone if of == folders) for folders in {of for of, _ in alone}
    }
    records, rejected = [], []
    for file, found, label, legend in labelled:
        stem = _stem(file, level, label)
        almost = near[file.folders].find(file.stem) if file.folders in near and not found else ""
        if len(found) > 1 or names[stem] > 1:
            keys = sorted(
                {file.item.key, *(one.item.key for one in found)}
                | {f.item.key for f, _, of, _ in labelled if names[stem] > 1 and _stem(f, level, of) == stem}
            )
            reason = f"More than one image or mask of the same name: {', '.join(keys)}."
            rejected.append(_rejected(file.item.key, "", stem, label, reason, "Keep one of each, or rename."))
        elif found:
            records.append(Record(stem, label, file.item, found[0].item, legend))
        elif label == "NG" and not almost:
            records.append(Record(stem, label, file.item, None, legend))
        elif label == "NG" or (label == "OK" and good_needs) or (not label and masks == "all"):
            fix = "Add one." if label == "NG" else "Add one that is all black, or set masks=ng_only."
            if not label:
                fix = "Add one, all black if it is good; or set masks=ng_only, where what has none is good."
            if almost:
                fix = f"{alone[file.folders, almost]} is almost of that name: call both alike. Or: {fix}"
            rejected.append(_rejected(file.item.key, "", stem, label, "No mask of that name.", fix))
        else:
            records.append(Record(stem, label or "OK", file.item))
    for file in matched.alone:
        label, _ = _label(file, level, named)
        stem = _stem(file, level, label)
        rejected.append(
            _rejected("", file.item.key, stem, label, "No image of that name.", "Add it, or remove the mask.")
        )
    return Layout(records, rejected, matched.ignored)


def _label(file: File, level: int | None, named: bool) -> tuple[str, str]:
    """Label and legend, as far as the folder says them."""
    if level is None or len(file.folders) <= level:
        return "", ""
    folder = file.folders[level]
    if means_good(folder):
        return "OK", ""
    return "NG", "" if named or means_bad(folder) else write_legend(folder)


def _stem(file: File, level: int | None, label: str) -> str:
    folders = file.folders
    if level is not None and len(folders) > level and folders[level] == label:
        # The id begins with it.
        folders = (*folders[:level], *folders[level + 1 :])
    return "/".join((*folders, IMAGE_ENDING.sub("", file.stem, count=1) or file.stem))


def _rejected(image: str, mask: str, stem: str, label: str, reason: str, fix: str) -> Pair:
    id = f"{label}/{stem}" if label else stem
    return Pair(id, label, "rejected", image, mask, reason=reason, fix=fix)
