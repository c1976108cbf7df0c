"""Files that are read and written whole."""

from pathlib import Path

import pytest

from defectline.components.common.errors import SettingsError
from defectline.components.common.files import PARTIAL, make_room, read_file, replaced


def test_a_file_that_cannot_be_read_is_named_with_what_it_should_be(tmp_path: Path):
    (tmp_path / "mask.png").write_bytes(b"whole")
    assert read_file(tmp_path / "mask.png", "a mask") == b"whole"
    with pytest.raises(SettingsError) as caught:
        read_file(tmp_path / "other.png", "a mask")
    assert str(tmp_path / "other.png") in caught.value.what
    assert caught.value.expected == "a mask"
    assert caught.value.got == "No such file or directory"


def test_the_old_content_stands_until_the_new_one_is_whole(tmp_path: Path):
    path = tmp_path / "lock.json"
    path.write_text("old")
    with replaced(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.parent == tmp_path
        assert PARTIAL.fullmatch(partial.name)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [file.name for file in tmp_path.iterdir()] == ["lock.json"]


def test_an_error_leaves_nothing_but_the_old_content(tmp_path: Path):
    path = tmp_path / "lock.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replaced(path) as partial:
        partial.write_text("half \udcff", encoding="utf-8")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["lock.json"]


def test_a_folder_that_is_missing_is_an_error_of_the_operating_system(tmp_path: Path):
    with pytest.raises(FileNotFoundError), replaced(tmp_path / "none/lock.json"):
        pass


def test_room_is_made_for_a_file_and_nothing_else(tmp_path):
    make_room(tmp_path / "a/b/file.yaml", "--output")
    assert [str(one.relative_to(tmp_path)) for one in sorted(tmp_path.rglob("*"))] == ["a", "a/b"]
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "a", tmp_path / "file/b"):
        with pytest.raises(SettingsError, match="cannot be written") as caught:
            make_room(wrong, "--output")
        assert "--output" in caught.value.fix
