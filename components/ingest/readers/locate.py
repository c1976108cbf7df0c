"""Which picture of the source an annotation file means: its path was written on another machine, mostly."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import PurePosixPath
from urllib.parse import unquote

from defectline.components.common.errors import DefectlineError, SourceError
from defectline.components.common.snapshot import Pair
from defectline.components.common.storage import Object, check_key
from defectline.components.ingest.readers.base import Layout, Listing, Marked, Record, Sidecar

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp"})
TEXTS = frozenset({".json", ".xml", ".txt", ".csv", ".yaml", ".yml", ".md", ".html", ".zip"})
"""Never what an annotation means by a picture."""
URL = re.compile(r"([a-z][a-z0-9+.\-]*)://(.*)", re.IGNORECASE)


class Missing(SourceError):
    """One picture that an annotation names cannot be found."""


class Pictures:
    """The files of a source that annotations may name."""

    def __init__(self, listing: Listing):
        self._source = listing.source.uri.rstrip("/")
        self._by_name: dict[str, list[Object]] = defaultdict(list)
        self._named: set[str] = set()
        self.renamed: Counter[str] = Counter()
        """Annotation file → how many pictures lie in another folder than it says, found by name alone."""
        for item in listing.objects:
            if PurePosixPath(item.key).suffix.lower() not in TEXTS and _usable(item.key):
                self._by_name[_folded(item.key).rpartition("/")[2]].append(item)

    def find(self, name: str, at: str, subset: str = "", otherwise: str = "") -> Object:
        """The file that `name` means in the annotation file `at`, of a `subset` where it has several.

        `otherwise` is what it may be called as well.

        Of several that fit, the one beside the annotation file is taken, or the one in images/ beside it. A
        path that fits no file is shortened from its front. Raises Missing where nothing fits, or several do;
        SourceError for a URL of another place than the source.
        """
        for path in dict.fromkeys((name, unquote(name), otherwise, unquote(otherwise))):
            if found := self._search(self._relative(path), at, subset):
                self.name(found)
                return found
        raise Missing(
            f"{at} names a picture that the source does not have.",
            got=name,
            expected="a file beside it, in images/ beside it, or one of that name anywhere",
            fix="Add the picture, or remove it from the annotations.",
        )

    def name(self, picture: Object) -> None:
        """Note that an annotation means this picture."""
        self._named.add(picture.key)

    def unnamed(self) -> list[Object]:
        """The pictures that no annotation means."""
        return [
            item
            for items in self._by_name.values()
            for item in items
            if is_picture(item.key) and item.key not in self._named
        ]

    def _relative(self, name: str) -> str:
        """The path of a name, from the source where it is a URL of it."""
        # `C:\parts\a.png` is a path, and on Windows `//server/share/a.png` as well.
        match = URL.fullmatch(name.strip())
        if not match or match[1].lower() == "file":
            return (match[2] if match else name).replace("\\", "/")
        # Folders are files of this machine: no URL but file:// means them.
        if name.startswith(f"{self._source}/"):
            return name[len(self._source) + 1 :]
        scheme, rest = match[1].lower(), match[2]
        folder = f"{scheme}://{rest.partition('?')[0].rpartition('/')[0]}"
        bucket = f"name the bucket as the source: --source {folder}" if scheme in ("s3", "gs") else ""
        raise SourceError(
            "The annotations name pictures of another place than the source.",
            got=name,
            expected=f"paths, or URLs that start with {self._source}/",
            fix=f"Copy the pictures to the source and replace {folder}/ by nothing in the annotation file"
            + (f", or {bucket}." if bucket else "."),
        )

    def _search(self, name: str, at: str, subset: str) -> Object | None:
        parts = [part for part in _folded(name).split("/") if part not in ("", ".", "..")]
        if not parts:
            return None
        named = self._by_name.get(parts[-1], [])
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            fitting = [item for item in named if f"/{_folded(item.key)}".endswith(f"/{tail}")]
            if not fitting:
                continue
            found = _nearest(fitting, tail, name, at, subset)
            if start and "/" not in tail:
                self.renamed[at] += 1
            return found
        return None


def _nearest(fitting: list[Object], tail: str, name: str, at: str, subset: str) -> Object:
    """The one of several files whose paths end alike that an annotation file in the folder of `at` means."""
    if len(fitting) == 1:
        return fitting[0]
    # The spelling decides where names differ in case alone.
    spelled = [item for item in fitting if _normal(item.key).endswith(_normal(name).lstrip("./"))]
    by_key = {_folded(item.key): item for item in spelled or fitting}
    folder = PurePosixPath(_folded(at)).parent
    split = _folded(subset) or PurePosixPath(_folded(at)).stem.rpartition("_")[2]
    inside_first = ("", f"images/{split}", split, "images", "data", "img", "imgs")
    for root in dict.fromkeys((folder, folder.parent, PurePosixPath())):
        for inside in inside_first[1:3] + inside_first if subset else inside_first:
            if found := by_key.get((root / inside / tail).as_posix()):
                return found
    raise Missing(
        f"{at} names a picture, and several files fit.",
        got=f"{name}: {', '.join(item.key for item in fitting[:3])}",
        expected="one file of that name",
        fix="Write the path of the picture into the annotations, or remove the copies.",
    )


def _normal(name: str) -> str:
    # Macs write ü as two characters.
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _folded(name: str) -> str:
    return _normal(name).casefold()


def _usable(key: str) -> bool:
    try:
        check_key(key).encode()
    except (DefectlineError, UnicodeEncodeError):
        return False
    return True


class Gathering:
    """Collects what annotation files say of pictures, and makes a Layout of it."""

    def __init__(self, listing: Listing):
        self.pictures = Pictures(listing)
        self.rejected: list[Pair] = []
        self.ignored: Counter[str] = Counter()
        self.notes: list[str] = []
        self._found: dict[str, list[tuple[str, Record]]] = defaultdict(list)

    def add(
        self,
        name: str,
        at: str,
        mark: Callable[[], Marked],
        split: str = "",
        subset: str = "",
        otherwise: str = "",
    ) -> None:
        """What the annotation file `at` says of a picture. A SourceError of `mark` rejects the picture.

        `subset` and `otherwise` are as in `Pictures.find`.

        Raises SourceError where `name` is a URL of another place.
        """
        try:
            image = self.pictures.find(name, at, subset, otherwise)
        except Missing as error:
            self.reject(name, "", at, error.reason, error.fix)
            return
        try:
            self.put(image, at, mark(), split)
        except SourceError as error:
            self.reject(image.key, image.key, at, error.what, error.fix)

    def put(self, image: Object, at: str, mask: Marked | Sidecar | None, split: str = "") -> None:
        """A picture that is there, and what `at` says of it: None where it is good."""
        self.pictures.name(image)
        if isinstance(mask, Marked):
            record = Record("", mask.label, image, mask.mask, mask.legend, split=split)
        else:
            record = Record("", "" if mask else "OK", image, mask, split=split)
        self._found[image.key].append((at, record))

    def reject(self, name: str, image: str, at: str, reason: str, fix: str) -> None:
        # A picture that was annotated is most likely a defective one.
        id_, image, at = (_printable(part) for part in (f"NG/{stem(name or '?')}", image, at))
        self.rejected.append(Pair(id_, "NG", "rejected", image, at, reason=reason, fix=fix))

    def layout(self) -> Layout:
        """The records. Raises SourceError where no picture was found that is annotated."""
        if not self._found:
            raise SourceError(
                "No picture of the annotations can be used.",
                got=self.rejected[0].reason if self.rejected else "no picture in the annotation files",
                expected="annotations of pictures in the source",
                fix=self.rejected[0].fix if self.rejected else "Export the annotations again.",
            )
        stems = Counter(map(stem, self._found))
        records = []
        for key, entries in sorted(self._found.items()):
            _, record = entries[0]
            splits = {each.split for _, each in entries if each.split}
            if len(entries) > 1 and (contradiction := _contradiction([each for _, each in entries], splits)):
                files = ", ".join(dict.fromkeys(at for at, _ in entries))
                reason = f"It is annotated {len(entries)} times, {contradiction}: {files}."
                self.reject(key, key, entries[0][0], reason, "Keep one of them.")
                continue
            name = stem(key) if stems[stem(key)] == 1 else key
            records.append(record._replace(stem=name, split=next(iter(splits), "")))
        if unnamed := len(self.pictures.unnamed()):
            self.ignored["pictures that no annotation names"] += unnamed
        notes = [
            f"{at}: {count} pictures are in another folder than it says, and were found by their names"
            for at, count in sorted(self.pictures.renamed.items())
        ]
        return Layout(records, self.rejected, self.ignored, (*self.notes, *notes))


def _contradiction(records: list[Record], splits: set[str]) -> str:
    """What several annotations of one picture do not agree in, or ""."""
    if len({(each.label, each.mask.version if each.mask else "") for each in records}) > 1:
        return "in different ways"
    return f"for {' and '.join(sorted(splits))}" if len(splits) > 1 else ""


def _printable(name: str) -> str:
    """The name with `\\xff` for what is not UTF-8, which no table can hold."""
    return name.encode(errors="backslashreplace").decode()


def is_picture(key: str) -> bool:
    return PurePosixPath(key).suffix.lower() in PICTURES


def stem(key: str) -> str:
    """A picture's name without its suffix, unique together with its folder."""
    name, dot, suffix = key.rpartition(".")
    return _normal(name if dot and "/" not in suffix else key)
