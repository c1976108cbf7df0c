"""What lies in a source and is not data: files of operating systems and drives, and files about pictures."""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePosixPath

from defectline.components.common.storage.base import SYSTEM_NAMES, hidden_name

SHOWN = 8
"""Kinds that a line names."""


def _by_lower(*names: str) -> dict[str, str]:
    return {name.strip("*").lower(): name for name in names}


FOLDERS = {
    **_by_lower(
        *SYSTEM_NAMES, "__MACOSX", "Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder"
    ),
    **_by_lower("@SynoResource", "@Transcode", "trashbox", "_temporary", "_delta_log", "_spark_metadata"),
    **_by_lower("__pycache__", "CaptureOne", "NKSC_PARAM", "[Originals]"),
    **_by_lower(*(f"FOUND.{number:03}" for number in range(10))),
}
"""Of macOS, Windows, network drives, Spark and programs for photographers."""
FOLDER_ENDINGS = _by_lower("*.lrdata", "*.cocatalog")
FILES = {
    **_by_lower(*SYSTEM_NAMES, "ehthumbs.db", "ehthumbs_vista.db", "ZbThumbnail.info", "Picasa.ini"),
    **_by_lower("pspbrwse.jbf", "_SUCCESS", "_metadata", "_common_metadata", "sync.ffs_db"),
}
FILE_ENDINGS = _by_lower(
    *("*_$folder$", "*:Zone.Identifier", "*:encryptable", "*.lrcat", "*.lrcat-data", "*.lrcat-journal"),
    *("*.lnk", "*.url", "*.webloc", "*.swp", "*~", "*.ctg"),
    *("*.part", "*.partial", "*.filepart", "*.tmp", "*.crdownload", "*.download", "*.!sync", "*.aria2"),
)
"""Markers of folders in S3, marks of downloads, catalogs, links, and files that are not whole yet."""
FILE_STARTS = _by_lower("~$*", "_started_*", "_committed_*", "SYNOPHOTO_*", "SYNOINDEX_*", "_NAS_Recycle_*")
_ENDS, _STARTS = tuple(FILE_ENDINGS), tuple(FILE_STARTS)
SIDECARS = frozenset(
    (
        *(".json", ".jsonl", ".ndjson", ".xml", ".txt", ".csv", ".tsv", ".yaml", ".yml", ".toml", ".ini"),
        *(".md", ".rst", ".html", ".htm", ".pdf", ".rtf", ".doc", ".docx", ".xls", ".xlsx", ".odt", ".ods"),
        *(".log", ".xmp", ".aae", ".thm", ".pp3", ".dop", ".cos", ".nksc", ".exif", ".mie"),
        *(".md5", ".sha1", ".sha256", ".sfv", ".par2", ".db", ".sqlite", ".pkl", ".parquet", ".cache"),
        *(".py", ".ipynb", ".sh", ".bat", ".ps1", ".names", ".lst", ".dvc"),
        *(
            ".tfw",
            ".jgw",
            ".pgw",
            ".bpw",
            ".wld",
            ".prj",
            ".ovr",
            ".zip",
            ".gz",
            ".tar",
            ".tgz",
            ".7z",
            ".rar",
        ),
    )
)
"""Endings of files that tell something about pictures, or hold them as a whole; in lower case."""
SIDECAR_NAMES = _by_lower(
    *(
        "README",
        "LICENSE",
        "LICENCE",
        "NOTICE",
        "CHANGELOG",
        "AUTHORS",
        "CITATION",
        "TODO",
        "INDEX",
        "MANIFEST",
    ),
    *(
        "classes",
        "labels",
        "notes",
        "checksums",
        "MD5SUMS",
        "SHA1SUMS",
        "SHA256SUMS",
        "Makefile",
        "Dockerfile",
    ),
)
"""Files about pictures whose names have no ending."""


def junk(key: str) -> tuple[str, str]:
    """The leading part of a key that makes it junk, and what kind it is; two empty texts for other keys.

    >>> junk("NG/@eaDir/000.png/SYNOPHOTO_THUMB_M.jpg"), junk("OK/THUMBS.DB"), junk("OK/000.png")
    (('NG/@eaDir/', '@eaDir/'), ('OK/THUMBS.DB', 'Thumbs.db'), ('', ''))
    """
    folder, _, name = key.rpartition("/")
    in_folder = _junk_folder(folder)
    if in_folder[1] or not name:
        return in_folder
    kind = _kind(name, FILES, FILE_ENDINGS, FILE_STARTS)
    return (key, kind) if kind else ("", "")


@lru_cache(maxsize=4096)
def _junk_folder(folder: str) -> tuple[str, str]:
    parts = folder.split("/")
    for number, part in enumerate(parts, 1):
        if part and (kind := _kind(part, FOLDERS, FOLDER_ENDINGS, {})):
            return "/".join(parts[:number]) + "/", f"{kind}/"
    return "", ""


def _kind(name: str, names: dict[str, str], endings: dict[str, str], starts: dict[str, str]) -> str:
    lower = name.lower()
    if lower in names:
        return names[lower].strip()
    if hidden_name(name):
        return "._*" if name.startswith("._") else ".DS_Store" if lower == ".ds_store" else ".*"
    # The first look is quick, and nearly all names end with it.
    if lower.endswith(_ENDS if endings is FILE_ENDINGS else tuple(endings)) or (
        starts and lower.startswith(_STARTS)
    ):
        return next(
            kind
            for text, kind in (*endings.items(), *starts.items())
            if (lower.endswith(text) if kind.startswith("*") else lower.startswith(text))
        )
    return ""


def sidecar(key: str) -> str:
    """What a file about pictures is called: its ending or its name; empty for what may be a picture or mask.

    >>> sidecar("NG/000.json"), sidecar("README"), sidecar("NG/000.png")
    ('.json', 'README', '')
    """
    name = key.rpartition("/")[2].lower()
    _, dot, last = name.rpartition(".")
    ending = dot + last
    return ending if dot and ending in SIDECARS else SIDECAR_NAMES.get(name, "")


def count_ignored(keys: Iterable[str]) -> Counter[str]:
    """How many files of each kind, which is an ending, a name, or of junk what `junk` says."""
    kinds: dict[str, str] = {}
    for key in keys:
        part, kind = junk(key)
        # All of a folder is one.
        kinds[part or key] = kind or sidecar(key) or PurePosixPath(key).suffix.lower() or "without an ending"
    return Counter(kinds.values())


def describe(ignored: Counter[str]) -> str:
    """Kinds and numbers in a line, the most frequent first.

    >>> describe(Counter({".json": 400, "@eaDir/": 2}))
    '400 .json, 2 @eaDir/'
    """
    ranked = sorted(ignored.items(), key=lambda item: (-item[1], item[0]))
    more = sum(count for _, count in ranked[SHOWN:])
    told = [f"{count:,} {kind}" for kind, count in ranked[:SHOWN]] + ([f"{more:,} others"] if more else [])
    return ", ".join(told)
