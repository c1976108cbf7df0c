"""`defectline keygen`"""

import stat

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


def test_no_such_folder(tmp_path):
    made = call("keygen", tmp_path / "none" / "plates")
    assert made.returncode == 2
    assert "Traceback" not in made.stderr
