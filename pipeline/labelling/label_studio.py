"""Label Studio, by its REST API: a project of its server, whose tasks hold the frames."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from defectline.components.common.errors import ServingError
from defectline.pipeline.labelling.brush import encode_brush
from defectline.pipeline.labelling.exchange import Proposal
from defectline.pipeline.labelling.http import Api

KEY = "LABEL_STUDIO_API_KEY"
"""The environment variable with the user's token."""
PAGE = 100
MADE_BY = "defectline"


class LabelStudio:
    """The project called `title` of the server at `url`; a `Tool`. Nothing is asked before `open` or `there`.

    `key` is a personal access token, or a legacy one.
    """

    layout = "labelstudio"

    def __init__(self, url: str, title: str, key: str):
        self._api = Api(url, "Label Studio", KEY, self._sign_in)
        self._title, self._key = title, key
        self._project: dict[str, Any] | None = None

    @property
    def url(self) -> str:
        return f"{self._api.url}/projects/{self._project['id']}" if self._project else self._api.url

    def open(self, classes: Sequence[str]) -> None:
        if self._find() is None:
            body = {"title": self._title, "label_config": labelling(classes)}
            self._project = self._api.json("POST", "/api/projects/", json=body)

    def there(self) -> set[str]:
        found = {str(task["data"].get("frame", "")) for task in self._tasks()}
        return found - {""}

    def push(self, proposals: Iterator[Proposal]) -> None:
        for proposal in proposals:
            self._push(proposal)

    def _push(self, proposal: Proposal) -> None:
        project = self._known()
        # Only what was uploaded first can be shown together with a prediction.
        files = {"file": (proposal.file, proposal.picture)}
        address = f"/api/projects/{project['id']}/import?commit_to_project=false"
        (upload,) = self._api.json("POST", address, files=files)["file_upload_ids"]
        file = self._api.json("GET", f"/api/import/file-upload/{upload}")["file"]
        task = {
            "data": {"image": f"/data/{file}", "frame": proposal.id, "said": proposal.said},
            "predictions": [{"model_version": MADE_BY, "result": propose(proposal)}],
        }
        self._api.json("POST", f"/api/projects/{project['id']}/import", json=[task])

    def export(self, folder: Path) -> Mapping[str, str]:
        project = self._known()
        people = {user["id"]: user.get("email") or user["username"] for user in self._users()}
        found = self._api.json(
            "GET", f"/api/projects/{project['id']}/export?exportType=JSON&download_all_tasks=false"
        )
        by, kept = {}, []
        for task in found:
            done = [one for one in task["annotations"] if not one.get("was_cancelled")]
            if frame := task["data"].get("frame") if done else "":
                newest = max(done, key=lambda one: str(one.get("updated_at")))
                who = newest.get("completed_by")
                by[frame] = people.get(who["id"] if isinstance(who, dict) else who, "Label Studio")
                # The server gives an uploaded file a name of its own.
                suffix = task["data"]["image"].rpartition(".")[2]
                kept.append({**task, "data": {"image": f"{frame}.{suffix}"}})
        (folder / "export.json").write_text(json.dumps(kept))
        return by

    def _users(self) -> list[dict[str, Any]]:
        return self._api.json("GET", "/api/users/")

    def _known(self) -> dict[str, Any]:
        if (project := self._find()) is None:
            raise ServingError(
                f"Label Studio has no project {self._title}.",
                got=f"no project of this title at {self._api.url}",
                expected="the project that frames were pushed to",
                fix="Correct --project, or push first.",
            )
        return project

    def _find(self) -> dict[str, Any] | None:
        if self._project is None:
            projects = self._pages("/api/projects/?page_size={size}&page={page}", "results", "count")
            self._project = next((one for one in projects if one["title"] == self._title), None)
        return self._project

    def _sign_in(self) -> str:
        """A personal access token is a JSON web token, which is changed for one that lasts five minutes."""
        if self._key.count(".") != 2:
            return f"Token {self._key}"
        body = {"refresh": self._key}
        return f"Bearer {self._api.json('POST', '/api/token/refresh', signed=False, json=body)['access']}"

    def _tasks(self) -> Iterator[dict[str, Any]]:
        address = f"/api/tasks?project={self._known()['id']}&page_size={{size}}&page={{page}}"
        return self._pages(address, "tasks", "total")

    def _pages(self, address: str, field: str, total: str) -> Iterator[dict[str, Any]]:
        """What is in the `field` of all pages, which have so many in `total`; one more would be an error."""
        done = 0
        for page in count(1):
            found = self._api.json("GET", address.format(size=PAGE, page=page))
            yield from found[field]
            done += len(found[field])
            if done >= found[total]:
                return


def labelling(classes: Sequence[str]) -> str:
    """The project's labelling interface: brush and polygon for each class, and the verdict."""
    labels = "".join(f"<Label value={quoteattr(name)}/>" for name in classes)
    return (
        '<View><Header value="$said"/>'
        '<Image name="image" value="$image" zoom="true" zoomControl="true"/>'
        f'<BrushLabels name="brush" toName="image">{labels}</BrushLabels>'
        f'<PolygonLabels name="polygon" toName="image">{labels}</PolygonLabels>'
        '<Choices name="verdict" toName="image" choice="single" required="true">'
        '<Choice value="OK"/><Choice value="NG"/></Choices></View>'
    )


def propose(proposal: Proposal) -> list[dict[str, Any]]:
    """The regions and the verdict of a prediction."""
    height, width = proposal.mask.shape
    about = {"original_width": width, "original_height": height, "image_rotation": 0, "to_name": "image"}
    found: list[dict[str, Any]] = []
    for number, name in enumerate(proposal.classes, start=1):
        inside = proposal.mask == number
        if np.any(inside):
            value = {"format": "rle", "rle": encode_brush(inside), "brushlabels": [name]}
            region = {"id": f"defect{number}", "type": "brushlabels", "from_name": "brush", "value": value}
            found.append({**about, **region})
    # Whether a part between two levels is good is the question.
    if proposal.verdict != "LOOK":
        value = {"choices": [proposal.verdict]}
        found.append({"type": "choices", "from_name": "verdict", "to_name": "image", "value": value})
    return found
