"""CVAT, by its SDK: a project of its server, with a task for each fifty frames that were sent."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import LABELS
from defectline.components.common.errors import ServingError, SettingsError
from defectline.components.common.installing import how_to_install
from defectline.pipeline.labelling.exchange import Proposal

if TYPE_CHECKING:
    from cvat_sdk.core.proxies.projects import Project
    from cvat_sdk.core.proxies.tasks import Task

KEY = "CVAT_ACCESS_TOKEN"
"""The environment variable with the user's personal access token, as CVAT's own tools call it."""
FORMAT = "CVAT for images 1.1"
TASK_FRAMES = 50
QUALITY = 95
"""Of the JPEGs that CVAT shows; it keeps the pictures as they are as well."""


class Cvat:
    """The project called `title` of the server at `url`; a `Tool`. Nothing is asked before `open` or `there`.

    A frame counts as finished where its job is completed.
    """

    layout = "cvat"

    def __init__(self, url: str, title: str, key: str):
        try:
            from cvat_sdk import Client
            from cvat_sdk.core.client import AccessTokenCredentials, Config
        except ImportError as error:
            raise SettingsError(
                "CVAT's SDK is not installed.",
                got=str(error),
                expected="the package cvat-sdk",
                fix=how_to_install("cvat"),
            ) from error
        self.url, self._title = url, title
        logger = logging.getLogger("defectline.cvat")
        # Its own version and that of the server often differ by a little, which it would refuse.
        config = Config(status_check_period=1, allow_unsupported_server=True)
        with self._told():
            self._client: Client = Client(url, logger=logger, config=config, check_server_version=False)
            self._client.login(AccessTokenCredentials(key))
        self._project: Project | None = None

    def open(self, classes: Sequence[str]) -> None:
        with self._told():
            if self._find() is None:
                labels = [{"name": name, "type": "mask"} for name in classes]
                labels += [{"name": label, "type": "tag"} for label in LABELS]
                self._project = self._client.projects.create({"name": self._title, "labels": labels})  # type: ignore[arg-type]
                self._find()

    def there(self) -> set[str]:
        with self._told():
            frames = (frame for task in self._known().get_tasks() for frame in task.get_frames_info())
            return {_id(frame.name) for frame in frames}

    def push(self, proposals: Iterator[Proposal]) -> None:
        with self._told():
            labels = {label.name: label.id for label in self._known().get_labels()}
            while batch := list(islice(proposals, TASK_FRAMES)):
                self._push(batch, labels)

    def _push(self, batch: Sequence[Proposal], labels: Mapping[str, int]) -> None:
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
        with TemporaryDirectory() as name:
            files = []
            for proposal in batch:
                files.append(Path(name) / proposal.file)
                files[-1].write_bytes(proposal.picture)
            task = self._client.tasks.create_from_data(
                {"name": f"{self._title} {now}", "project_id": self._known().id},  # type: ignore[arg-type]
                files,
                data_params={"image_quality": QUALITY},
            )
        places = {_id(frame.name): index for index, frame in enumerate(task.get_frames_info())}
        shapes, tags = [], []
        for proposal in batch:
            place = places[proposal.id]
            for number, kind in enumerate(proposal.classes, start=1):
                if np.any(inside := proposal.mask == number):
                    shape = {"type": "mask", "frame": place, "label_id": labels[kind]}
                    shapes.append({**shape, "points": encode_mask_points(inside)})
            # Whether a part between two levels is good is the question.
            if proposal.verdict != "LOOK":
                tags.append({"frame": place, "label_id": labels[proposal.verdict]})
        if shapes or tags:
            self._add(task, shapes, tags)

    def _add(self, task: "Task", shapes: list[dict[str, Any]], tags: list[dict[str, Any]]) -> None:
        from cvat_sdk import models
        from cvat_sdk.core.proxies.annotations import AnnotationUpdateAction

        found = models.PatchedLabeledDataRequest(
            shapes=[models.LabeledShapeRequest(**shape) for shape in shapes],
            tags=[models.LabeledImageRequest(**tag) for tag in tags],
        )
        task.update_annotations(found, action=AnnotationUpdateAction.CREATE)

    def export(self, folder: Path) -> Mapping[str, str]:
        people: dict[str, str] = {}
        with self._told():
            for task in self._known().get_tasks():
                names = [_id(frame.name) for frame in task.get_frames_info()]
                done = {}
                for job in task.get_jobs():
                    if job.state == "completed":
                        by = job.assignee.username if job.assignee else "CVAT"
                        done.update(dict.fromkeys(names[job.start_frame : job.stop_frame + 1], by))
                if done:
                    self._export(task, folder, done)
                    people.update(done)
        return people

    def _export(self, task: "Task", folder: Path, done: Mapping[str, str]) -> None:
        """Write the annotations of the frames that are `done`."""
        file = folder / f"task-{task.id}.zip"
        task.export_dataset(FORMAT, file, include_images=False)
        with ZipFile(file) as archive:
            root = ElementTree.fromstring(archive.read("annotations.xml"))
        file.unlink()
        for image in root.findall("image"):
            if _id(image.attrib["name"]) not in done:
                root.remove(image)
        (folder / f"task-{task.id}.xml").write_bytes(ElementTree.tostring(root))

    def _known(self) -> "Project":
        if (project := self._find()) is None:
            raise ServingError(
                f"CVAT has no project {self._title}.",
                got=f"no project of this name at {self.url}",
                expected="the project that frames were pushed to",
                fix="Correct --project, or push first.",
            )
        return project

    def _find(self) -> "Project | None":
        if self._project is None:
            named = (project for project in self._client.projects.list() if project.name == self._title)
            self._project = next(named, None)
        if self._project is not None and "/projects/" not in self.url:
            self.url = f"{self.url.rstrip('/')}/projects/{self._project.id}"
        return self._project

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong with the server, in words."""
        from cvat_sdk.api_client.exceptions import ApiException
        from cvat_sdk.core.exceptions import CvatSdkException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            if error.status in (401, 403):
                raise SettingsError(
                    "CVAT refuses the token.",
                    got=f"HTTP {error.status}",
                    expected=f"a valid personal access token of {self.url} in {KEY}",
                    fix="Make one in CVAT's profile, under security.",
                ) from None
            raise _odd(self.url, f"HTTP {error.status} {error.reason}: {str(error.body)[:300]}") from None
        except HTTPError:
            raise ServingError(
                "CVAT does not answer.",
                got=f"no answer from {self.url}",
                expected="CVAT's API",
                fix="Correct --url, or start the server.",
            ) from None
        except CvatSdkException as error:
            raise _odd(self.url, str(error)) from None


def _odd(url: str, got: str) -> ServingError:
    return ServingError(
        "CVAT does not answer as it should.",
        got=f"{got}, from {url}",
        expected="CVAT's API",
        fix="Correct --url, or start the server.",
    )


def encode_mask_points(mask: NDArray[np.bool_]) -> list[float]:
    """A mask (H, W) that is not empty as CVAT has it: run lengths of its bounding box, row by row, the first
    of what is not marked, and then the box's left, top, right and bottom, both ends inside."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    flat = mask[top : bottom + 1, left : right + 1].ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff([0, *changes.tolist(), flat.size]).tolist()
    return [float(number) for number in ([0] if flat[0] else []) + runs + [left, top, right, bottom]]


def _id(name: str) -> str:
    return Path(name).stem
