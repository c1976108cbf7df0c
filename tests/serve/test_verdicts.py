"""A model with two levels behind the endpoint: the third verdict, and what is promised while frames are the
same."""

import json
from collections.abc import Iterator

import pytest
import requests
from endpoints import (
    Running,
    frame,
    metric,
    near_and_far,
    plate,
    post,
    serving,
    v1_body,
    v2_body,
    wait_for_metric,
)
from pictures import encode
from tensors import by_name, from_grpc, from_tensors, infer

from defectline.client import Client
from defectline.client.overlay import COLOURS, draw_overlay
from defectline.components.common.bundle import Promise, copy_served
from defectline.components.common.images.reading import decode_image
from defectline.components.common.inference.inspection import judge_score
from defectline.components.common.storage import checksums

PROMISED = Promise(rate="escape", at_most=0.1, pictures=20, level=0.3, holds=True)


@pytest.fixture(scope="module")
def running(judged, tmp_path_factory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("levels") / "model"
    copy_served(judged.folder, folder)
    content = json.loads((folder / "bundle.json").read_text())
    levels = {"threshold": judged.bundle.threshold - 0.1, "ng_from": judged.bundle.threshold + 0.1}
    content |= {**levels, "promises": [PROMISED.model_dump()]}
    (folder / "bundle.json").write_text(json.dumps(content))
    checksums.seal(folder)
    with serving(folder, tmp_path_factory.mktemp("log") / "log", "--drift_window", "200") as running:
        yield running


@pytest.fixture(scope="module")
def unsure(judged) -> bytes:
    """A picture whose score lies between the two levels."""
    return near_and_far(judged)[0]


def test_every_protocol_says_that_a_person_should_look(running, judged, unsure, tmp_path):
    with Client(running.url, "plates") as client:
        found = client.inspect(unsure)
        assert [client.inspect(plate(label=label)).verdict for label in ("OK", "NG")] == ["OK", "NG"]
        # A caller who brings a threshold has one level.
        assert client.inspect(unsure, threshold=judged.bundle.threshold - 0.05).verdict == "NG"
    assert found.verdict == "LOOK"
    assert found.regions
    v2 = requests.post(f"{running.url}/v2/models/plates/infer", json=v2_body(unsure), timeout=60).json()
    over_grpc = from_tensors(from_grpc(infer(running.grpc, unsure)))
    assert from_tensors(by_name(v2))["verdict"] == over_grpc["verdict"] == "LOOK"
    assert metric(running.url, 'defectline_verdicts_total{verdict="LOOK"}') == 3
    overlay = tmp_path / "look.png"
    draw_overlay(unsure, found.model_dump(by_alias=True), overlay)
    assert tuple(decode_image(overlay.read_bytes(), channels=3)[5, 0]) == COLOURS["LOOK"]


def test_the_guarantee_is_off_while_frames_look_otherwise(running):
    def properties() -> dict[str, str]:
        return requests.get(f"{running.url}/v2/models/plates", timeout=60).json()["properties"]

    def send(darker: int) -> None:
        for start in range(0, 200, 50):
            pictures = [encode(frame(number, darker)) for number in range(start, start + 50)]
            assert post(f"{running.url}/v1/models/plates:predict", v1_body(*pictures)).status_code == 200

    assert properties()["promises"] == str(PROMISED)
    assert properties()["guarantee"] == "on"
    assert metric(running.url, 'defectline_guarantee{rate="escape"}') == 1
    # Nothing was said of the other.
    assert metric(running.url, 'defectline_guarantee{rate="overkill"}') == 0
    send(darker=60)
    wait_for_metric(running.url, 'defectline_drift_psi{feature="brightness"}', 0.25)
    assert metric(running.url, 'defectline_guarantee{rate="escape"}') == 0
    assert properties()["guarantee"].startswith("off: brightness drifted (PSI ")


def test_a_model_that_promises_one_rate_says_which(served, judged):
    """With four defective validation pictures no escape rate of 10 % can be promised."""
    holds = {promise.rate: promise.holds for promise in judged.bundle.promises}
    properties = requests.get(f"{served.url}/v2/models/plates", timeout=60).json()["properties"]
    kept = [rate for rate, held in holds.items() if held]
    told = {0: "none: nothing is promised", 1: f"on for {', '.join(kept)} alone", 2: "on"}
    assert properties["guarantee"] == told[len(kept)]
    for rate, held in holds.items():
        assert metric(served.url, f'defectline_guarantee{{rate="{rate}"}}') == held


def test_the_pictures_of_one_part_get_one_verdict(running, judged, unsure):
    """A camera's burst: one frame is sure to be bad, one is not sure, three show nothing."""
    burst = [plate(seed, "OK") for seed in (1, 2, 3)] + [unsure, plate()]
    address = f"{running.url}/v1/models/plates:predict"
    alone = post(address, v1_body(*burst)).json()
    assert "part" not in alone
    scores = [one["score"] for one in alone["predictions"]]
    any_ = post(address, v1_body(*burst, part="any")).json()
    assert any_["predictions"][3]["verdict"] == "LOOK"
    assert any_["part"] == {"verdict": "NG", "score": max(scores)}
    assert post(address, v1_body(*burst[:4], part="any")).json()["part"]["verdict"] == "LOOK"
    mean = post(address, v1_body(*burst, part="mean")).json()["part"]
    expected = judge_score(mean["score"], judged.bundle.threshold - 0.1, judged.bundle.threshold + 0.1)
    assert mean == {"verdict": expected, "score": pytest.approx(sum(scores) / 5, abs=1e-6)}
    # By the threshold of the request, where it brings one.
    low = post(address, v1_body(*burst, part="mean", threshold=0.1)).json()["part"]
    assert low["verdict"] == "NG"
    v2 = post(f"{running.url}/v2/models/plates/infer", v2_body(*burst, parameters={"part": "any"})).json()
    assert v2["parameters"] == {"part_verdict": "NG", "part_score": max(scores)}
    refused = post(address, v1_body(*burst, part="most"))
    assert refused.status_code == 400
    assert "Expected any or mean" in refused.text
