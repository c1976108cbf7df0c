"""`defectline keygen`"""

import stat

import pytest
from commands import call

from defectline.components.common.trust.keys import read_signing_key, read_trust


def test_a_pair(tmp_path):
    made = call("keygen", tmp_path / "plates")
    assert made.returncode == 0, made.stderr
    private, public = tmp_path / "plates.key", tmp_path / "plates.pub"
    assert read_trust([str(public)]) == (read_signing_key(str(private)).public,)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert "PRIVATE" not in made.stdout
    assert read_trust([str(public)])[0].fingerprint in made.stdout


def test_nothing_is_written_over(tmp_path):
    call("keygen", tmp_path / "plates")
    before = (tmp_path / "plates.key").read_bytes()
    again = call("keygen", tmp_path / "plates")
    assert again.returncode == 2
    assert "plates.key cannot be written" in again.stderr
    assert (tmp_path / "plates.key").read_bytes() == before


def test_half_a_pair_is_not_left(tmp_path):
    (tmp_path / "plates.pub").write_text("mine")
    made = call("keygen", tmp_path / "plates")
    assert made.returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["plates.pub"]
    assert (tmp_path / "plates.pub").read_text() == "mine"


def test_a_folder_is_made_and_either_file_may_be_named(tmp_path):
    made = call("keygen", tmp_path / "my keys" / "plates.key")
    assert made.returncode == 0, made.stderr
    assert sorted(path.name for path in (tmp_path / "my keys").iterdir()) == ["plates.key", "plates.pub"]
    # As a shell takes it.
    assert f"DEFECTLINE_SIGN_KEY='{tmp_path}/my keys/plates.key'" in made.stdout


@pytest.mark.parametrize("name", ["", ".key", "keys/"])
def test_a_pair_without_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    made = call("keygen", name)
    assert made.returncode == 2
    assert "needs a name" in made.stderr
    assert list(tmp_path.iterdir()) == []
