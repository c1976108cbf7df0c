"""Frames that go to Label Studio, and what people decide there: against its own server."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import defectline
from frames import FOUND, IDS, SIZE, keep_frames
from kinds import CLASSES
from servers import LabelStudioServer

from defectline.components.common.errors import ServingError, SettingsError
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.catalog.review import list_frames
from defectline.pipeline.labelling import label_studio
from defectline.pipeline.labelling.exchange import pull, push
from defectline.pipeline.labelling.label_studio import LabelStudio

BLOCK = np.zeros((SIZE, SIZE), bool)
BLOCK[5:9, 40:50] = True


@pytest.fixture
def store(tmp_path: Path) -> FolderStorage:
    return keep_frames(tmp_path / "store")


def annotate(server: LabelStudioServer, task: dict[str, Any], *regions: dict[str, Any], **more: Any) -> None:
    """What a person says of a task; where nothing is given, what is proposed."""
    result = list(regions) or task["predictions"][0]["result"]
    body = {"result": [{"to_name": "image", **region} for region in result], **more}
    server.client.post(f"/api/tasks/{task['id']}/annotations/", json=body).raise_for_status()


def verdict(label: str) -> dict[str, Any]:
    return {"type": "choices", "from_name": "verdict", "value": {"choices": [label]}}


def polygon(label: str = "defect") -> dict[str, Any]:
    """The BLOCK, in percent of the picture."""
    points = [[100 * x / SIZE, 100 * y / SIZE] for x, y in ((40, 5), (50, 5), (50, 9), (40, 9))]
    about = {"original_width": SIZE, "original_height": SIZE, "image_rotation": 0}
    return {
        "type": "polygonlabels",
        "from_name": "polygon",
        "value": {"points": points, "polygonlabels": [label]},
        **about,
    }


def drawn(store: FolderStorage) -> dict[str, np.ndarray]:
    """The masks of decided frames."""
    items = [item for item in list_frames(store, "plates", pytest.fail) if item.decision]
    return {
        item.frame.id: decode_mask(store.read(item.key.folder + item.decision.mask), numbered=True)
        for item in items
        if item.decision.mask
    }


def test_there_and_back(label_studio_server: LabelStudioServer, store, monkeypatch):
    """With two tasks a page, so that four fill theirs, and by a personal access token that ends soon."""
    monkeypatch.setattr(label_studio, "PAGE", 2)
    server = label_studio_server

    def project() -> LabelStudio:
        return LabelStudio(server.url, "plates, line 3", server.access_token)

    assert push(store, "plates", project(), 4, pytest.fail) == (4, 0)
    tasks = {task["data"]["frame"]: task for task in server.tasks("plates, line 3")}
    assert tasks.keys() == set(IDS[:4])
    assert server.client.get(tasks[IDS[0]]["data"]["image"]).content == store.read(
        next(item for item in list_frames(store, "plates", print) if item.frame.id == IDS[0]).picture_key
    )
    assert pull(store, "plates", project(), pytest.fail) == ([], 0, [])

    annotate(server, tasks[IDS[0]], verdict("OK"))
    annotate(server, tasks[IDS[1]], polygon(), verdict("NG"))
    annotate(server, tasks[IDS[2]], verdict("NG"))
    annotate(server, tasks[IDS[3]], was_cancelled=True)
    found = pull(store, "plates", project(), pytest.fail)
    assert dict(found.new) == {IDS[0]: "OK", IDS[1]: "NG"}
    assert [why.partition(":")[0] for why in found.unusable] == [IDS[2]]
    annotate(server, tasks[IDS[3]])
    tool = project()
    tool._api._client.headers["Authorization"] = "Bearer of.before.yesterday"
    found = pull(store, "plates", tool, pytest.fail)
    assert (found.new, found.there) == ([(IDS[3], "NG")], 2)

    masks = drawn(store)
    np.testing.assert_array_equal(masks[IDS[1]] > 0, BLOCK)
    proposed = np.zeros((SIZE, SIZE), bool)
    proposed[FOUND] = True
    np.testing.assert_array_equal(masks[IDS[3]] > 0, proposed)
    items = list_frames(store, "plates", pytest.fail)
    assert {item.decision.by for item in items if item.decision} == {server.user}

    # What is open goes with the next push: of two, one is there.
    assert push(store, "plates", project(), 4, pytest.fail) == (1, 1)


def test_classes_keep_their_names(label_studio_server: LabelStudioServer, tmp_path):
    server, store = label_studio_server, keep_frames(tmp_path / "store", CLASSES)
    tool = LabelStudio(server.url, "classes", server.token)
    push(store, "plates", tool, 4, pytest.fail)
    tasks = {task["data"]["frame"]: task for task in server.tasks("classes")}
    annotate(server, tasks[IDS[0]], polygon(CLASSES[2]))
    annotate(server, tasks[IDS[3]])
    assert set(pull(store, "plates", tool, pytest.fail).new) == {(IDS[0], "NG"), (IDS[3], "NG")}
    decided = {item.frame.id: item.decision for item in list_frames(store, "plates", print) if item.decision}
    masks = drawn(store)
    for id, name in ((IDS[0], CLASSES[2]), (IDS[3], CLASSES[1])):
        values = set(np.unique(masks[id]).tolist()) - {0}
        assert {decided[id].classes[value - 1] for value in values} == {name}


def test_the_commands(label_studio_server: LabelStudioServer, store):
    server = label_studio_server
    env = {"LABEL_STUDIO_API_KEY": server.token}
    place = ["--to", "labelstudio", "--url", server.url, "--store", store.root, "--name", "plates"]
    sent = defectline("review", "push", *place, "--most", "2", env=env).stdout
    assert "2 frames sent, 0 there already: " in sent
    (task, _) = server.tasks("plates")
    annotate(server, task, verdict("OK"))
    pulled = defectline("review", "pull", *place, env=env).stdout
    assert pulled.splitlines() == [
        f"{task['data']['frame']}: accepted as OK",
        "1 decisions taken over, 0 decided here before",
    ]


def test_what_goes_wrong_is_told(label_studio_server: LabelStudioServer, store):
    server = label_studio_server
    for key in ("wrong", "a.b.c"):
        with pytest.raises(SettingsError, match="refuses the token"):
            push(store, "plates", LabelStudio(server.url, "plates", key), 4, pytest.fail)
    with pytest.raises(ServingError, match="no project others"):
        pull(store, "plates", LabelStudio(server.url, "others", server.token), pytest.fail)
    with pytest.raises(ServingError, match="does not answer"):
        push(store, "plates", LabelStudio("http://127.0.0.1:1", "plates", "key"), 4, pytest.fail)
    with pytest.raises(SettingsError, match="not the address"):
        push(store, "plates", LabelStudio("127.0.0.1", "plates", "key"), 4, pytest.fail)
