"""Many images at once, of which a bad one does not stop the others: what `defectline inspect` does."""

import csv
import glob
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from defectline.client.client import Client, Refused
from defectline.components.common.errors import DefectlineError, SettingsError
from defectline.components.common.files import explained, read_file, replaced
from defectline.components.common.installing import how_to_install
from defectline.components.common.prediction import Prediction

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
AREAS = "class_areas_px"
NAME_BYTES = 240
COLUMNS = ("image", *(name for name in Prediction.model_fields if name not in ("mask_png", AREAS)), "error")
"""Of a table. Where the model tells several classes apart there are further columns, the area of each."""
AS_CSV: dict[str, Any] = {"encoding": "utf-8", "newline": "", "errors": "surrogateescape"}
"""A file's name need not be UTF-8; its bytes are written as they are."""


class Inspected(NamedTuple):
    image: Path
    prediction: Prediction | None
    error: DefectlineError | None
    """Why there is no prediction; just one of both is None."""


class Inspection(NamedTuple):
    done: list[Inspected]
    """In the order of the images; of a run that was stopped, what was done until then."""
    stopped: DefectlineError | None
    """What would have failed for every other image too."""


def find_images(named: Sequence[str]) -> list[Path]:
    """The files, those in folders (not in folders below), and those that globs match, each once.

    Raises SettingsError for a folder without images, for a glob that matches nothing, and where none of the
    files is there.
    """
    found: dict[str, Path] = {}
    for name in named:
        path = Path(name)
        if path.is_dir():
            inside = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "."]
            matching = sorted(p for p in inside if p.is_file())
        elif path.exists() or not glob.has_magic(name):
            matching = [path]
        else:
            matching = sorted(p for p in map(Path, glob.glob(name, recursive=True)) if p.is_file())
        if not matching:
            raise SettingsError(
                f"There are no images in {name}.",
                got="a folder without any" if path.is_dir() else "no file of that pattern",
                expected=f"files that end with {', '.join(SUFFIXES)}",
                fix="Check the path; a pattern with ** looks into folders below.",
            )
        for image in matching:
            found.setdefault(os.path.abspath(image), image)
    if not any(image.exists() for image in found.values()):
        raise SettingsError(
            "There is no such image.",
            got=", ".join(str(image) for image in list(found.values())[:3]),
            expected="files, folders or patterns",
            fix="Check the path.",
        )
    return list(found.values())


def inspect_all(
    client: Client,
    images: Sequence[Path],
    jobs: int = 4,
    overlays: Path | None = None,
    on_done: Callable[[], object] = lambda: None,
) -> Inspection:
    """Ask about the images, `jobs` at once, and draw what was found into the folder `overlays`.

    Raises SettingsError where what draws is not installed, or there is no such folder to write to, before an
    image is sent.
    """
    if overlays:
        draw_overlay = _import_draw_overlay()
        with explained(
            f"{overlays} cannot be written.",
            expected="a folder that this user may write to",
            fix="Name another one with --overlays.",
        ):
            overlays.mkdir(parents=True, exist_ok=True)
    stop, lock = threading.Event(), threading.Lock()
    targets = overlay_names(images)
    rois: dict[str, bytes | None] = {}

    def roi_of(version: str) -> bytes | None:
        with lock:
            if version not in rois:
                rois[version] = client.roi(version)
            return rois[version]

    def ask(image: Path) -> Inspected | None:
        if stop.is_set():
            return None
        try:
            data = read_file(image, "an image file")
        except SettingsError as error:
            return Inspected(image, None, error)
        try:
            prediction = client.inspect(data)
        except Refused as error:
            return Inspected(image, None, error)
        if overlays:
            roi = roi_of(prediction.model_version)
            draw_overlay(data, prediction.model_dump(), overlays / targets[image], roi)
        return Inspected(image, prediction, None)

    done: dict[Path, Inspected] = {}
    stopped = None
    with ThreadPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(ask, image) for image in images]):
            try:
                one = future.result()
            except DefectlineError as error:
                stop.set()
                stopped = stopped or error
            else:
                if one:
                    done[one.image] = one
            on_done()
    return Inspection([done[image] for image in images if image in done], stopped)


def _import_draw_overlay() -> Callable[[bytes, Mapping[str, Any], Path, bytes | None], None]:
    """Of all that the client does, only this needs NumPy and OpenCV."""
    try:
        from defectline.client.overlay import draw_overlay
    except ModuleNotFoundError as error:
        raise SettingsError(
            "Overlays need packages that are not installed.",
            got=f"no {error.name}",
            expected="NumPy, OpenCV and Pillow",
            fix=f"{how_to_install('common')} Or leave --overlays out.",
        ) from error
    return draw_overlay


def overlay_names(images: Iterable[Path]) -> dict[Path, str]:
    """A name of its own for each image's overlay: OK/1.png and NG/1.png are two images."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for image in images:
        # With room for a number and the suffix: a name has 255 bytes at most.
        base = os.fsdecode(os.fsencode(f"{image.absolute().parent.name}-{image.stem}")[:NAME_BYTES])
        number, name = 1, f"{base}.png"
        while name.lower() in taken:
            number += 1
            name = f"{base}-{number}.png"
        taken.add(name.lower())
        names[image] = name
    return names


def as_lines(done: Iterable[Inspected]) -> Iterator[str]:
    """One JSON object an image: `image`, and `prediction` or `error`."""
    for one in done:
        if one.error:
            result: dict[str, Any] = {"error": json.loads(one.error.to_json())}
        else:
            assert one.prediction
            result = {"prediction": one.prediction.model_dump(exclude_none=True)}
        yield json.dumps({"image": str(one.image), **result}, ensure_ascii=False)


def write_rows(done: Iterable[Inspected], file: TextIO) -> None:
    """As CSV: one row an image, with COLUMNS and one for the area of each class."""
    done = list(done)
    areas = {
        f"area_px {name}": None
        for one in done
        if one.prediction
        for name in getattr(one.prediction, AREAS) or ()
    }
    rows = csv.DictWriter(file, [*COLUMNS[:-1], *areas, COLUMNS[-1]], restval="")
    rows.writeheader()
    rows.writerows(map(_row, done))


def check_csv(target: Path, images: Iterable[Path]) -> None:
    """Raise SettingsError where rows cannot go to `target`, before an image is sent."""
    folder = target.is_dir()
    if folder or (target.exists() and any(one.exists() and one.samefile(target) for one in images)):
        raise SettingsError(
            f"{target} cannot be written.",
            got="a folder" if folder else "one of the images",
            expected="a file for the rows",
            fix="Name another one with --csv.",
        )


def write_csv(done: Iterable[Inspected], target: Path) -> None:
    """The rows in a file, whole or not at all; in what is not a regular file, as they come. Raises
    SettingsError."""
    with explained(
        f"{target} cannot be written.",
        expected="a file in a folder that this user may write to",
        fix="Name another one with --csv.",
    ):
        if target.exists() and not target.is_file():
            with target.open("w", **AS_CSV) as stream:
                return write_rows(done, stream)
        with (
            replaced(Path(os.path.realpath(target))) as partial,
            partial.open("w", **AS_CSV) as file,
        ):
            write_rows(done, file)


def _row(one: Inspected) -> dict[str, object]:
    if one.error:
        return {"image": one.image, "error": f"{one.error.what} Got {one.error.got}."}
    assert one.prediction
    row = {name: getattr(one.prediction, name) for name in COLUMNS[1:-1]}
    row["regions"] = json.dumps(
        [
            [*region.bbox, region.area_px, *filter(None, [region.class_, region.class_probability])]
            for region in one.prediction.regions
        ],
        ensure_ascii=False,
    )
    areas = getattr(one.prediction, AREAS) or {}
    return {"image": one.image, **row, **{f"area_px {name}": area for name, area in areas.items()}}
