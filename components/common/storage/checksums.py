"""SHA256SUMS, in the format of `sha256sum -c`."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from defectline.components.common.errors import BundleError

NAME = "SHA256SUMS"
SIGNATURE, PROVENANCE = "model.sig", "provenance.json"
ATTACHED = (SIGNATURE, PROVENANCE)
"""Names beside SHA256SUMS of what is said about a sealed folder: signed itself, and not sealed."""


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(folder: Path) -> list[str]:
    """The files that a seal covers, as paths below `folder`."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [name for name in names if name not in (NAME, *ATTACHED)]


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file that a seal or a signature covers, by its path below `folder`."""
    names = [*sealed(folder), *([NAME] if (folder / NAME).is_file() else [])]
    return {name: sha256_file(folder / name) for name in names}


def seal(folder: Path) -> str:
    """Write SHA256SUMS over every file below `folder`, and return the SHA-256 of that list."""
    lines = "".join(f"{sha256_file(folder / name)}  {name}\n" for name in sealed(folder))
    (folder / NAME).write_text(lines, encoding="utf-8")
    return hashlib.sha256(lines.encode()).hexdigest()


def verify(folder: Path, origin: str = "", found: Mapping[str, str] | None = None) -> None:
    """Raise BundleError unless `folder` holds just the files that its SHA256SUMS lists, unchanged.

    `origin` is where it was fetched from, which errors name instead of `folder`. `found` are its `digests`,
    where they are known already.
    """
    where = origin or str(folder)
    fix = "Go back to another version with `defectline rollback`, or train again; never edit it by hand."
    try:
        lines = (folder / NAME).read_text(encoding="utf-8").splitlines()
        listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except FileNotFoundError:
        raise BundleError(
            f"{where} is not sealed.", got=f"no {NAME} in it", expected="a model or bundle", fix=fix
        ) from None
    except ValueError as error:
        raise BundleError(
            f"{where}/{NAME} is damaged.", got=str(error), expected="lines as of sha256sum", fix=fix
        ) from error
    found = digests(folder) if found is None else found
    present = found.keys() - {NAME}
    for name, digest in listed.items():
        if name not in present:
            got = "no such file"
        elif (actual := found[name]) != digest:
            got = f"SHA-256 {actual[:12]}…"
        else:
            continue
        raise BundleError(
            f"{where}/{name} is not what was sealed.", got=got, expected=f"SHA-256 {digest[:12]}…", fix=fix
        )
    if extra := sorted(present - listed.keys()):
        raise BundleError(
            f"{where} holds files that were not sealed.", got=", ".join(extra[:3]), expected="none", fix=fix
        )
