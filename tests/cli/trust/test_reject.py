"""`defectline reject`"""

from commands import call
from networks import judge_model
from signed import asking

from defectline.components.deploy.step import deploy


def test_no(tmp_path):
    judged = judge_model(tmp_path / "one")
    version = deploy(asking(judged.folder, tmp_path / "asks", "two"), str(judged.store), {}, "one")
    done = call("reject", version, "--store", judged.store, "--as", "Ada", "--reason", "escapes a scratch")
    assert done.returncode == 0, done.stderr
    assert f"{version} is rejected by Ada" in done.stdout
    assert "refused" in call("runs", "--store", judged.store).stdout
    again = call("approve", version, "--store", judged.store, "--as", "Grace", "--reason", "x")
    assert again.returncode == 2
    assert f"{version} of defects was decided already" in again.stderr
    assert "rejected by Ada" in again.stderr
