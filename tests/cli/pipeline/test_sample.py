"""`defectline sample`"""

from commands import call, contents


def test_a_new_folder_with_pairs(tmp_path):
    done = call("sample", tmp_path / "a", "--pairs", "12", "--size", "64")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'a'}: 12 synthetic pairs\n")
    made = contents(tmp_path / "a")
    assert sum(name.startswith(("OK/", "NG/")) for name in made) == 12
    assert call("sample", tmp_path / "b", "--pairs", "12", "--size", "64").returncode == 0
    assert contents(tmp_path / "b") == made
    other = call("sample", tmp_path / "c", "--pairs", "12", "--size", "64", "--seed", "1")
    assert other.returncode == 0
    assert contents(tmp_path / "c") != made


def test_a_folder_with_files_is_left_as_it_is(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = call("sample", tmp_path, "--pairs", "12")
    assert done.returncode == 2
    assert list(contents(tmp_path)) == ["mine.txt"]
