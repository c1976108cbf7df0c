"""The study's file, and what is wrong with it."""

import pytest

from defectline.components.common.errors import SettingsError
from defectline.pipeline.qualification.study import by_part, read_study


def write(folder, text: str):
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(b"x")
    file = folder / "study.csv"
    file.write_bytes(text.encode())
    return file


def test_pictures_parts_and_people(tmp_path):
    lines = ["\ufeffimage,part,truth,anna,anna:2,ben", "a.png,p1,ok,OK,OK,", "b.png,p1,OK,ng,OK,LOOK"]
    text = "\r\n".join([*lines, "c.png,p2,NG,NG,,NG", ""])
    found = read_study(write(tmp_path, text))
    assert [one.truth for one in found] == ["OK", "OK", "NG"]
    assert found[0].path == tmp_path / "a.png"
    assert found[0].said == {"anna": "OK", "anna:2": "OK"}
    assert found[1].said == {"anna": "NG", "anna:2": "OK", "ben": "LOOK"}
    assert by_part(found) == {"p1": [0, 1], "p2": [2]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column image, part, truth"),
        ("image,part\na.png,p1\n", "no column truth"),
        ("image,part,truth\n", "no column"),
        ("image,part,truth\nd.png,p1,OK\n", "line 2: no file 'd.png'"),
        ("image,part,truth\n,p1,OK\n", "line 2: no file ''"),
        ("image,part,truth\na.png,,OK\n", "line 2 without a part"),
        ("image,part,truth\na.png,p1,good\n", "line 2: the truth 'good'"),
        ("image,part,truth,anna\na.png,p1,OK,fine\n", "line 2: anna said 'FINE'"),
        ("image,part,truth\na.png,p1\n", "line 2 with another number of fields"),
        ("image,part,truth\na.png,p1,OK,x\n", "line 2 with another number of fields"),
        ("image,part,truth\na.png,p1,OK\nb.png,p1,NG\n", "the part p1 with two truths"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, says):
    with pytest.raises(SettingsError) as caught:
        read_study(write(tmp_path, text))
    assert says in caught.value.got


def test_where_pictures_may_lie(tmp_path):
    """Beside the study, below it, or anywhere by a whole path."""
    (tmp_path / "here").mkdir()
    study = write(tmp_path / "here", "")
    (tmp_path / "elsewhere.png").write_bytes(b"x")
    names = ("a.png", "../elsewhere.png", str(tmp_path / "elsewhere.png"))
    study.write_text("\n".join(["image,part,truth", *(f"{name},{n},OK" for n, name in enumerate(names))]))
    assert [one.path.name for one in read_study(study)] == ["a.png", "elsewhere.png", "elsewhere.png"]
    study.write_text("image,part,truth\nnone.png,1,OK\n")
    with pytest.raises(SettingsError) as caught:
        read_study(study)
    assert caught.value.expected == f"a path from {study.parent}, or one that begins with /"


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        read_study(tmp_path / "none.csv")
    (tmp_path / "study.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError) as caught:
        read_study(tmp_path / "study.csv")
    assert "UTF-8" in caught.value.got
