"""Frames for review on their way to a labelling tool, and what people said there on its way back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import DEFAULT_CLASSES, DEFECT, IGNORE
from defectline.components.common.errors import Conflict, SettingsError, SourceError
from defectline.components.common.images.colours import encode_numbers
from defectline.components.common.images.masks import encode_mask
from defectline.components.common.layout import review_prefix
from defectline.components.common.legend import read_legend
from defectline.components.common.prediction import Verdict
from defectline.components.common.steps import Say, track
from defectline.components.common.storage import Storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.readers import choose
from defectline.components.ingest.readers.base import Listing, Record, Sidecar
from defectline.pipeline.catalog.review import (
    Item,
    accept,
    classes_of,
    list_frames,
    predicted_mask,
    teaches_most,
)

NO_CLASSES = tuple(DEFAULT_CLASSES)


class Proposal(NamedTuple):
    """A frame, and what the model says of it: what people are asked about."""

    id: str
    file: str
    """The name of its picture's file, which begins with the id."""
    picture: bytes
    verdict: Verdict
    mask: NDArray[np.uint8]
    """(H, W), 0 or the number of a class."""
    classes: Sequence[str]
    """The names of the numbers 1, 2, …"""
    said: str
    """What the model says, in a line."""


class Tool(Protocol):
    """A project of a labelling tool. All raise ServingError where it does not answer as it should."""

    layout: str
    """The layout of what it exports, as ingest's readers call it."""

    @property
    def url(self) -> str:
        """Where people label."""

    def open(self, classes: Sequence[str]) -> None:
        """Make the project where there is none, for defects of these classes."""

    def there(self) -> set[str]:
        """Ids of the frames that the project has."""

    def push(self, proposals: Iterator[Proposal]) -> None:
        """Add frames; each is asked for when it is sent."""

    def export(self, folder: Path) -> Mapping[str, str]:
        """Write all annotations below `folder`; who made that of each frame, by its id. A frame that nobody
        has finished is left out of both."""


class Pushed(NamedTuple):
    new: int
    there: int
    """Open frames that the project had already."""


class Pulled(NamedTuple):
    new: list[tuple[str, str]]
    """Ids of frames, and what they are now decided to be."""
    there: int
    """Frames that were decided before, which stay as they are."""
    unusable: list[str]
    """What could not be taken over, and why."""


def push(store: Storage, model: str, tool: Tool, most: int, say: Say) -> Pushed:
    """Send the open frames of a model to a tool, those first that teach most, `most` at most."""
    items = [item for item in list_frames(store, model, say) if not item.decided]
    items.sort(key=teaches_most)
    if not items:
        raise SettingsError(
            f"There are no frames of {model} to label.",
            got=f"no open frame in {store.url(review_prefix(model))}",
            expected="frames that the endpoint has kept",
            fix="Correct --store or --name; `defectline review list` shows what is there.",
        )
    tool.open(_classes(items))
    there = tool.there()
    new = [item for item in items if item.frame.id not in there][:most]
    tool.push(_propose(store, item) for item in track(new, len(new), "sending frames"))
    return Pushed(len(new), sum(item.frame.id in there for item in items))


def pull(store: Storage, model: str, tool: Tool, say: Say) -> Pulled:
    """Take over what people said of a model's frames in a tool. What is decided here already stays.

    The tool's export is read as ingest reads a source in its layout, so that both understand the same.
    """
    done = Pulled([], 0, [])
    items = {item.frame.id: item for item in list_frames(store, model, say)}
    with TemporaryDirectory() as name:
        folder = Path(name)
        people = tool.export(folder)
        for id in people.keys() & items.keys():
            # A reader looks for a picture of this name, and never into it.
            (folder / items[id].frame.picture).touch()
        source = FolderStorage(folder)
        listing = Listing(source, source.list_all())
        if not people.keys() & items.keys():
            return done
        layout = choose(listing, tool.layout)[0].read(listing)
        done.unusable.extend(f"{_id(row.image_key or row.id)}: {row.reason}" for row in layout.rejected)
        for record in layout.records:
            item = items[_id(record.image.key)]
            if item.decided:
                done = done._replace(there=done.there + 1)
                continue
            try:
                verdict = _take_over(store, model, item, record, people[item.frame.id])
            except (SourceError, SettingsError, Conflict) as error:
                done.unusable.append(f"{item.frame.id}: {error.reason}")
            else:
                done.new.append((item.frame.id, verdict))
    return done


def _take_over(store: Storage, model: str, item: Item, record: Record, by: str) -> Verdict:
    assert not isinstance(record.mask, Sidecar)
    height, width = predicted_mask(item.frame).shape
    values = np.zeros((height, width), np.uint8)
    if record.mask is not None:
        values = record.mask.draw(height, width)  # type: ignore[union-attr]
        values = np.where(values == IGNORE, 0, values).astype(np.uint8)
    verdict: Verdict = "OK" if record.label == "OK" or not (record.label or values.any()) else "NG"
    if verdict == "OK":
        accept(store, model, item.frame.id, "OK", None, by, item.version)
        return "OK"
    if not values.any():
        raise SourceError(
            "It is called NG, and nothing is marked.",
            got="no region",
            expected="the defect, marked",
            fix="Mark it in the tool, and pull again.",
        )
    names = read_legend(record.legend)
    several = len(classes_of(item.frame)) > 1
    mask = encode_numbers(values) if several else encode_mask((values > 0).astype(np.uint8) * DEFECT)
    accept(store, model, item.frame.id, "NG", mask, by, item.version, names if several else ())
    return "NG"


def _propose(store: Storage, item: Item) -> Proposal:
    frame = item.frame
    prediction = frame.prediction
    said = f"{prediction['verdict']}, score {prediction['score']:.3f}, threshold {frame.threshold:.3f}"
    return Proposal(
        frame.id,
        frame.picture,
        store.read(item.picture_key),
        prediction["verdict"],
        predicted_mask(frame),
        classes_of(frame) or NO_CLASSES,
        said,
    )


def _classes(items: Iterable[Item]) -> list[str]:
    names = [name for item in items for name in classes_of(item.frame) or NO_CLASSES]
    return list(dict.fromkeys(names)) or list(NO_CLASSES)


def _id(key: str) -> str:
    return key.rpartition("/")[2].partition(".")[0]
