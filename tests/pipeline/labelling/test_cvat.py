"""Frames that go to CVAT, and what people decide there, by CVAT's SDK and a server that stands in for it."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cvat_server import TOKEN, CvatServer, cvat_server
from frames import FOUND, IDS, SIZE, keep_frames

from defectline.components.common.errors import ServingError, SettingsError
from defectline.components.common.images.masks import decode_mask
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.readers.cvat import window_runs
from defectline.pipeline.catalog.review import list_frames
from defectline.pipeline.labelling.cvat import Cvat, encode_mask_points
from defectline.pipeline.labelling.exchange import pull, push


@pytest.fixture
def server() -> Iterator[CvatServer]:
    with cvat_server() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> FolderStorage:
    return keep_frames(tmp_path / "store")


def test_there_and_back(server, store):
    done = push(store, "plates", Cvat(server.url, "plates", TOKEN), 4, pytest.fail)
    assert done == (4, 0)
    assert server.frames(1) == sorted(f"{id}.png" for id in IDS[:4])
    assert {label["name"]: label["type"] for label in server.labels.values()} == {
        "defect": "mask",
        "OK": "tag",
        "NG": "tag",
    }
    # What nobody has finished is not decided, whatever is proposed.
    assert pull(store, "plates", Cvat(server.url, "plates", TOKEN), pytest.fail) == ([], 0, [])

    block = np.zeros((SIZE, SIZE), bool)
    block[5:9, 40:50] = True
    server.say(1, f"{IDS[0]}.png", "OK")
    server.say(1, f"{IDS[1]}.png", "defect", block)
    server.say(1, f"{IDS[2]}.png", "NG")
    server.finish(1)
    found = pull(store, "plates", Cvat(server.url, "plates", TOKEN), pytest.fail)
    assert dict(found.new) == {IDS[0]: "OK", IDS[1]: "NG", IDS[3]: "NG"}
    assert [why.partition(":")[0] for why in found.unusable] == [IDS[2]]
    items = {item.frame.id: item for item in list_frames(store, "plates", pytest.fail)}
    assert {item.decision.by for item in items.values() if item.decision} == {"ada"}
    drawn = {
        id: decode_mask(store.read(items[id].key.folder + items[id].decision.mask)) for id in (IDS[1], IDS[3])
    }
    np.testing.assert_array_equal(drawn[IDS[1]] > 0, block)
    # The proposal as it was, which was left as it is.
    proposed = np.zeros((SIZE, SIZE), bool)
    proposed[FOUND] = True
    np.testing.assert_array_equal(drawn[IDS[3]] > 0, proposed)

    # The rest goes with the next push, and what is decided stays.
    assert push(store, "plates", Cvat(server.url, "plates", TOKEN), 4, pytest.fail) == (1, 1)
    assert server.frames(2) == [f"{IDS[4]}.png"]
    assert pull(store, "plates", Cvat(server.url, "plates", TOKEN), pytest.fail).there == 3


@pytest.mark.parametrize("seed", range(5))
def test_runs_are_those_that_the_reader_knows(seed):
    mask = np.random.default_rng(seed).random((17, 23)) < (0.02, 0.3, 0.5, 0.9, 1)[seed]
    points = encode_mask_points(mask)
    *runs, left, top, right, bottom = map(int, points)
    window = struct.pack("<4i", left, top, right - left + 1, bottom - top + 1)
    found = window_runs(window + np.array(runs, np.uint32).tobytes(), 17, 23)
    np.testing.assert_array_equal(found, mask)


def test_what_goes_wrong_is_told(server, store):
    with pytest.raises(SettingsError, match="refuses the token"):
        push(store, "plates", Cvat(server.url, "plates", "wrong"), 4, pytest.fail)
    with pytest.raises(ServingError, match="no project others"):
        pull(store, "plates", Cvat(server.url, "others", TOKEN), pytest.fail)
    with pytest.raises(ServingError, match="does not answer"):
        push(store, "plates", Cvat("http://127.0.0.1:1", "plates", TOKEN), 4, pytest.fail)
