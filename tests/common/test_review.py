"""Frames of the line, as they are kept."""

import pytest
from pydantic import ValidationError

from defectline.components.common.images.reading import FORMATS
from defectline.components.common.review import SUFFIXES, Decision, Frame, frame_id

FRAME = Frame(
    id="0" * 32,
    model="plates",
    version="v20260102-030405-abcdef",
    taken="2026-01-02T03:04:05+00:00",
    reason="near_level",
    threshold=0.5,
    picture="0.png",
    prediction={"verdict": "NG", "score": 0.51},
)


def test_a_frame_is_called_by_its_bytes():
    assert frame_id(b"one") == frame_id(b"one") != frame_id(b"two")
    assert len(frame_id(b"")) == 32
    assert set(frame_id(b"one")) <= set("0123456789abcdef")


def test_every_format_that_is_read_has_a_suffix():
    assert SUFFIXES.keys() == set(FORMATS)


def test_frames_and_decisions_are_read_as_they_were_written():
    assert Frame.model_validate_json(FRAME.model_dump_json()) == FRAME
    decision = Decision(verdict="NG", decided="2026-01-02T03:04:05+00:00", exported=("s3://plates",))
    assert Decision.model_validate_json(decision.model_dump_json()) == decision
    # What earlier versions kept.
    older = FRAME.model_dump() | {"reason": "near_threshold"}
    del older["worth"]
    assert Frame.model_validate(older).reason == "near_threshold"
    with pytest.raises(ValidationError):
        Decision(verdict="MAYBE", decided="")
