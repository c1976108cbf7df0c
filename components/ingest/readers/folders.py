"""Folders of pictures and masks, which belong together by name, never by position."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import DefectlineError, SourceError
from defectline.components.common.snapshot import Pair
from defectline.components.common.storage import Object, check_key
from defectline.components.ingest.junk import count_ignored, sidecar
from defectline.components.ingest.labels.beside import Matched, class_level, match, to_layout
from defectline.components.ingest.labels.names import Near, means_good, stem
from defectline.components.ingest.readers.base import CLASSES_KEY, Layout, Listing, Record

FOLDERS = {f"{label}{suffix}": (label, kind) for label in LABELS for suffix, kind in (("", 0), ("_MSK", 1))}
"""Folder of the source → label, and 0 for images or 1 for masks."""
NAME = "folders"
EXPECTED = "a folder OK/ of good images, NG/ of defective ones, masks of the same name in OK_MSK/ and NG_MSK/"


def fits(listing: Listing) -> str:
    """As in Reader."""
    there = [name for name in FOLDERS if any(item.key.startswith(f"{name}/") for item in listing.objects)]
    named = f"the folder{'s' * (len(there) > 1)} {', '.join(f'{name}/' for name in there)}" if there else ""
    if _masks_apart(listing):
        return named
    matched = match(listing.objects)
    if not matched.found:
        return named
    pictures = f"{len(matched.pictures):,} pictures, {matched.found:,} with a mask of their name " + (
        f"in {folder}/" if (folder := matched.mask_folder) else "beside them"
    )
    return ", ".join(filter(None, (pictures, _folders(matched))))


def fits_labels(listing: Listing) -> str:
    """Why it is one of pictures without masks, whose folders say OK or NG; "" where it is not."""
    matched = match(listing.objects)
    folders = _folders(matched)
    return f"{len(matched.pictures):,} pictures without masks, {folders}" if folders else ""


def _folders(matched: Matched) -> str:
    """What the folders of classes say."""
    level = class_level(matched)
    if level is None:
        return ""
    names = sorted({file.folders[level] for file, _ in matched.pictures if len(file.folders) > level})
    good = [name for name in names if means_good(name)]
    return f"in the folders {', '.join(names)}, of which {', '.join(good)} means good"


def read(listing: Listing) -> Layout:
    """As in Reader."""
    if not _masks_apart(listing):
        matched = match(listing.objects)
        four = any(item.key.partition("/")[0] in FOLDERS for item in listing.objects)
        if matched.found or (class_level(matched) is not None and not four):
            return to_layout(matched, listing.masks, CLASSES_KEY in listing.by_key)
    return pair_objects(listing.objects, listing.masks)


def _masks_apart(listing: Listing) -> bool:
    return any(item.key.startswith(("OK_MSK/", "NG_MSK/")) for item in listing.objects)


def pair_objects(objects: Iterable[Object], masks: str = "all") -> Layout:
    """Pair the objects of a source. Pure; their order does not matter.

    A picture without a mask is a pair as well; a good one only with `masks="ng_only"` or where none has one,
    an NG one only where no mask is almost of its name. Raises SourceError where the layout is not that of a
    source, or a class has no images.
    """
    found: dict[tuple[str, str], tuple[list[Object], list[Object]]] = defaultdict(lambda: ([], []))
    elsewhere = 0
    rejected, ignored = [], []
    for item in sorted(objects):
        if sidecar(item.key):
            ignored.append(item.key)
            continue
        folder, _, name = item.key.partition("/")
        if folder not in FOLDERS or not name:
            elsewhere += 1
            continue
        label, kind = FOLDERS[folder]
        try:
            check_key(item.key).encode()
        except (DefectlineError, UnicodeEncodeError):
            reason = "Its name has an empty part, a backslash, a control character, .. or is not UTF-8."
            image, mask = (None, item) if kind else (item, None)
            rejected.append(_rejected(label, name, image, mask, reason, "Rename the file."))
            continue
        found[label, stem(name)][kind].append(item)
    marked = any(drawn for (label, _), (_, drawn) in found.items() if label == "OK")
    good_needs = masks == "all" and marked
    _check_layout(found, elsewhere + len(rejected) + len(ignored))
    near = {
        label: Near(name for (of, name), (images, drawn) in found.items() if of == label and not images)
        for label in LABELS
    }
    records = []
    for (label, name), (images, drawn) in sorted(found.items()):
        if len(images) == len(drawn) == 1:
            records.append(Record(name, label, images[0], drawn[0]))
        elif not drawn and (good_needs if label == "OK" else near[label].find(name)):
            fix = f"Add one to {label}_MSK/."
            if almost := near[label].find(name):
                other = found[label, almost][1][0].key
                fix = f"{other} is almost of that name: call both alike, or add a mask to {label}_MSK/."
            for item in images:
                rejected.append(_rejected(label, name, item, None, "No mask of that name.", fix))
        elif len(images) == 1 and not drawn:
            records.append(Record(name, label, images[0]))
        elif not images:
            for item in drawn:
                rejected.append(
                    _rejected(label, name, None, item, "No image of that name.", f"Add one to {label}/.")
                )
        else:
            names = ", ".join(item.key for item in images + drawn)
            reason = f"More than one image or mask of the same name: {names}."
            rejected.append(
                _rejected(
                    label,
                    name,
                    images[0],
                    drawn[0] if drawn else None,
                    reason,
                    "Keep one of each, or rename.",
                )
            )
    others = f"files outside of {', '.join(f'{name}/' for name in FOLDERS)}"
    outside = Counter({others: elsewhere} if elsewhere else {})
    return Layout(records, rejected, count_ignored(ignored) + outside)


def _rejected(
    label: str, name: str, image: Object | None, mask: Object | None, reason: str, fix: str
) -> Pair:
    return Pair(
        _printable(f"{label}/{name}"),
        label,
        "rejected",
        image_key=_printable(image.key) if image else "",
        mask_key=_printable(mask.key) if mask else "",
        reason=reason,
        fix=fix,
    )


def _printable(name: str) -> str:
    """The name with `\\xff` for what is not UTF-8, which no table can hold."""
    return name.encode(errors="backslashreplace").decode()


def _check_layout(found: dict[tuple[str, str], tuple[list[Object], list[Object]]], elsewhere: int) -> None:
    if not found:
        raise SourceError(
            "The source is empty." if not elsewhere else "The source has another layout.",
            got="no file" if not elsewhere else f"{elsewhere} files, none of them in these folders",
            expected=EXPECTED,
            fix="Check the URI, or try `defectline sample DIR` for an example.",
        )
    labels = {label for label, _ in found}
    for label in LABELS:
        # A source may have pictures of one label alone, but no masks without any picture.
        if not any(images for (of, _), (images, _) in found.items() if of == label) and label in labels:
            raise SourceError(
                f"The class {label} has no images.",
                got=f"no file in {label}/",
                expected=EXPECTED,
                fix=f"Put the {'good' if label == 'OK' else 'defective'} pictures into {label}/.",
            )
