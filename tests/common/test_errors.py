"""Errors in four sentences, which come through processes and files whole."""

import pickle
import subprocess
import sys

import pytest

from defectline.components.common import errors
from defectline.components.common.errors import Conflict, DefectlineError, SourceError, StoreError
from defectline.components.common.images.reading import UnreadableImage

ERROR = StoreError("It is full.", got="0 bytes", expected="größere Platte", fix="Free some space.")


def test_an_error_says_what_got_expected_and_fix():
    assert str(ERROR).splitlines() == [
        "It is full.",
        "  got:      0 bytes",
        "  expected: größere Platte",
        "  fix:      Free some space.",
    ]


@pytest.mark.parametrize(
    ("got", "reason"),
    [("0 bytes.", "It is full. Got 0 bytes."), ("full", "It is full."), ("", "It is full.")],
)
def test_a_reason_says_nothing_twice(got: str, reason: str):
    assert StoreError("It is full.", got=got, expected="", fix="").reason == reason


def test_json_holds_the_four_sentences():
    found = DefectlineError.from_json(ERROR.to_json())
    assert (found.what, found.got, found.expected, found.fix) == (
        ERROR.what,
        ERROR.got,
        ERROR.expected,
        ERROR.fix,
    )
    assert "größere" in ERROR.to_json()


def test_an_error_of_a_file_is_of_its_kind_where_that_is_known():
    assert type(DefectlineError.from_json(ERROR.to_json())) is StoreError
    picture = UnreadableImage("It is damaged.", got="b'x'", fix="Copy it again.")
    assert type(SourceError.from_json(picture.to_json())) is UnreadableImage
    assert type(StoreError.from_json(picture.to_json())) is StoreError
    older = '{"what": "a", "got": "b", "expected": "c", "fix": "d"}'
    assert type(DefectlineError.from_json(older)) is DefectlineError


@pytest.mark.parametrize(
    "error", [ERROR, UnreadableImage("It is damaged.", got="b'x'", fix="Copy it again.")]
)
def test_an_error_of_another_process_comes_through_whole(error: DefectlineError):
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert vars(found) == vars(error)
    assert str(found) == str(error)


def test_the_tree_is_as_it_is_drawn():
    drawn = errors.__doc__ or ""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(kind.__name__ in drawn for kind in kinds if issubclass(kind, DefectlineError))
    assert issubclass(Conflict, StoreError)
    assert issubclass(UnreadableImage, SourceError)


@pytest.mark.parametrize(
    ("step", "arguments"), [("ingest", 2), ("preprocess", 3), ("train", 2), ("evaluate", 5)]
)
def test_a_wrong_setting_of_a_step_ends_in_its_own_words(step: str, arguments: int):
    command = [
        sys.executable,
        "-m",
        f"defectline.components.{step}",
        *"abcde"[:arguments],
        "--set",
        "epoch=1",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr.startswith("There is no setting epoch.")
    assert "Traceback" not in ended.stderr
