"""A server with the part of CVAT's API that its SDK needs for tasks of pictures.

The SDK checks what it gets against CVAT's own description of its API. Background work takes a moment, frames
are in the order of their names whatever order they are sent in, and annotations come as CVAT exports them.
"""

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from defectline.components.common.ports import free_port

TOKEN = "secret-token"


class CvatServer:
    """What it holds; safe to look at between requests."""

    def __init__(self) -> None:
        self.url = ""
        self.projects: dict[int, dict[str, Any]] = {}
        self.labels: dict[int, dict[str, Any]] = {}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.asked: dict[str, int] = {}
        """How often each background request was asked about."""

    def app(self) -> Starlette:
        routes = [
            ("/api/projects", self._list_projects, "GET"),
            ("/api/projects", self._make_project, "POST"),
            ("/api/projects/{id:int}", self._project, "GET"),
            ("/api/labels", self._list_labels, "GET"),
            ("/api/tasks", self._list_tasks, "GET"),
            ("/api/tasks", self._make_task, "POST"),
            ("/api/tasks/{id:int}", self._task, "GET"),
            ("/api/tasks/{id:int}/data/", self._take_data, "POST"),
            ("/api/tasks/{id:int}/data", self._take_data, "POST"),
            ("/api/tasks/{id:int}/data/meta", self._meta, "GET"),
            ("/api/tasks/{id:int}/annotations/", self._annotate, "PATCH"),
            ("/api/tasks/{id:int}/dataset/export", self._export, "POST"),
            ("/api/jobs", self._list_jobs, "GET"),
            ("/api/requests/{id}", self._request, "GET"),
            ("/api/exports/{id:int}", self._download, "GET"),
        ]
        return Starlette(routes=[Route(path, _known(do), methods=[how]) for path, do, how in routes])

    def finish(self, task: int, by: str = "ada") -> None:
        """A person completes the job of a task."""
        self.tasks[task].update(state="completed", by=by)

    def frames(self, task: int) -> list[str]:
        return sorted(self.tasks[task]["files"])

    def say(self, task: int, frame: str, label: str, mask: np.ndarray | None = None) -> None:
        """A person takes away what is proposed for a frame, and says this instead."""
        found, index = self.tasks[task], self.frames(task).index(frame)
        for kind in ("shapes", "tags"):
            found[kind] = [one for one in found[kind] if one["frame"] != index]
        (number,) = (id for id, one in self.labels.items() if one["name"] == label)
        found["tags" if mask is None else "shapes"].append(
            {"frame": index, "label_id": number, **({} if mask is None else {"points": _points(mask)})}
        )

    async def _list_projects(self, request: Request) -> Response:
        return _page([_shown(one) for one in self.projects.values()])

    async def _make_project(self, request: Request) -> Response:
        body = await request.json()
        id = len(self.projects) + 1
        for label in body["labels"]:
            number = len(self.labels) + 1
            self.labels[number] = {**label, "id": number, "project_id": id}
        self.projects[id] = {"id": id, "name": body["name"]}
        return JSONResponse(_shown(self.projects[id]), 201)

    async def _project(self, request: Request) -> Response:
        return JSONResponse(_shown(self.projects[request.path_params["id"]]))

    async def _list_labels(self, request: Request) -> Response:
        project = int(request.query_params["project_id"])
        return _page([label for label in self.labels.values() if label["project_id"] == project])

    async def _list_tasks(self, request: Request) -> Response:
        project = int(request.query_params["project_id"])
        return _page([_shown(one) for one in self.tasks.values() if one["project_id"] == project])

    async def _make_task(self, request: Request) -> Response:
        body = await request.json()
        id = len(self.tasks) + 1
        self.tasks[id] = {
            "id": id,
            **body,
            "files": {},
            "shapes": [],
            "tags": [],
            "state": "new",
            "by": "",
        }
        return JSONResponse(_shown(self.tasks[id]), 201)

    async def _task(self, request: Request) -> Response:
        return JSONResponse(_shown(self.tasks[request.path_params["id"]]))

    async def _take_data(self, request: Request) -> Response:
        task = self.tasks[request.path_params["id"]]
        if "upload-start" in request.headers:
            return Response(status_code=202)
        if "upload-multiple" in request.headers:
            form = await request.form()
            for name, file in form.multi_items():
                if name.startswith("client_files"):
                    assert not isinstance(file, str)
                    # The server takes the last part of a path.
                    task["files"][str(file.filename).rpartition("/")[2]] = await file.read()
            return Response(status_code=200)
        assert "upload-finish" in request.headers
        return JSONResponse({"rq_id": f"action=create&target=task&id={task['id']}"}, 202)

    async def _meta(self, request: Request) -> Response:
        task = self.tasks[request.path_params["id"]]
        frames = []
        for name in sorted(task["files"]):
            width, height = Image.open(io.BytesIO(task["files"][name])).size
            frames.append({"name": name, "width": width, "height": height, "related_files": 0})
        return JSONResponse(
            {
                "chunks_updated_date": "2026-01-01T00:00:00Z",
                "frames": frames,
                "deleted_frames": [],
                "size": len(frames),
                "start_frame": 0,
                "stop_frame": len(frames) - 1,
            }
        )

    async def _annotate(self, request: Request) -> Response:
        assert request.query_params["action"] == "create"
        task, body = self.tasks[request.path_params["id"]], await request.json()
        task["shapes"] += body.get("shapes", [])
        task["tags"] += body.get("tags", [])
        return JSONResponse({"version": 0, "shapes": [], "tags": [], "tracks": []})

    async def _list_jobs(self, request: Request) -> Response:
        task = self.tasks[int(request.query_params["task_id"])]
        job = {
            "id": task["id"],
            "task_id": task["id"],
            "state": task["state"],
            "start_frame": 0,
            "stop_frame": len(task["files"]) - 1,
            "issues": {"count": 0, "url": ""},
            "labels": {"count": 0, "url": ""},
            "assignee": {"id": 1, "username": task["by"]} if task["by"] else None,
        }
        return _page([job])

    async def _export(self, request: Request) -> Response:
        assert request.query_params["format"] == "CVAT for images 1.1"
        assert request.query_params["save_images"].lower() == "false"
        return JSONResponse({"rq_id": f"action=export&target=task&id={request.path_params['id']}"}, 202)

    async def _request(self, request: Request) -> Response:
        id = request.path_params["id"]
        self.asked[id] = self.asked.get(id, 0) + 1
        number = id.rpartition("=")[2]
        return JSONResponse(
            {
                "id": id,
                "status": "finished" if self.asked[id] > 1 else "started",
                "message": "",
                "created_date": "2026-01-01T00:00:00Z",
                "operation": {"type": "create:task", "target": "task", "task_id": int(number)},
                "result_url": f"{self.url}/api/exports/{number}" if "export" in id else None,
                "result_id": int(number),
            }
        )

    async def _download(self, request: Request) -> Response:
        task = self.tasks[request.path_params["id"]]
        root = ElementTree.Element("annotations")
        ElementTree.SubElement(root, "version").text = "1.1"
        for index, name in enumerate(sorted(task["files"])):
            width, height = Image.open(io.BytesIO(task["files"][name])).size
            about = {"id": str(index), "name": name, "width": str(width), "height": str(height)}
            image = ElementTree.SubElement(root, "image", about)
            for shape in task["shapes"]:
                if shape["frame"] == index:
                    *runs, left, top, right, bottom = map(int, shape["points"])
                    box = {
                        "left": left,
                        "top": top,
                        "width": right - left + 1,
                        "height": bottom - top + 1,
                    }
                    fields = {"label": self.labels[shape["label_id"]]["name"], "source": "manual"}
                    fields |= {"occluded": "0", "rle": ", ".join(map(str, runs)), "z_order": "0"}
                    ElementTree.SubElement(image, "mask", {**fields, **{k: str(v) for k, v in box.items()}})
            for tag in task["tags"]:
                if tag["frame"] == index:
                    name = self.labels[tag["label_id"]]["name"]
                    ElementTree.SubElement(image, "tag", {"label": name, "source": "manual"})
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("annotations.xml", ElementTree.tostring(root))
        return Response(buffer.getvalue(), media_type="application/zip")


@contextmanager
def cvat_server() -> Iterator[CvatServer]:
    server, port = CvatServer(), free_port()
    server.url = f"http://127.0.0.1:{port}"
    running = uvicorn.Server(uvicorn.Config(server.app(), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive()
    yield server
    running.should_exit = True
    thread.join(30)


def _known(do: Any) -> Any:
    """Refuses other tokens, as CVAT does."""

    async def handle(request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            raise HTTPException(401, "Invalid token.")
        return await do(request)

    return handle


def _page(found: list[dict[str, Any]]) -> Response:
    return JSONResponse({"count": len(found), "next": None, "previous": None, "results": found})


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    """A project or task as it is listed."""
    return {
        "id": found["id"],
        "name": found["name"],
        "project_id": found.get("project_id"),
        "organization": None,
        "organization_id": None,
        "target_storage": None,
        "tasks": {"count": 0, "url": ""},
        "jobs": {"count": 1, "completed": 0, "validation": 0, "url": ""},
        "labels": {"count": 0, "url": ""},
    }


def _points(mask: np.ndarray) -> list[float]:
    """One run of a mask that is a full box."""
    rows, columns = np.nonzero(mask)
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    return [0.0, float(mask.sum()), float(left), float(top), float(right), float(bottom)]
