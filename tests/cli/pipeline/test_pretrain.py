"""`defectline pretrain`"""

from commands import call

from defectline.pipeline import pretraining
from defectline.pipeline.local import RunFailed


def test_what_init_from_takes_is_printed(tmp_path, monkeypatch):
    asked = []

    def trained(parameters, pairs, say):
        asked.append((parameters.store, parameters.epochs, pairs))
        say("trained")
        return "store/pretrained/a.keras"

    monkeypatch.setattr(pretraining, "pretrain", trained)
    done = call("pretrain", "--store", tmp_path, "--pairs", "20", "--set", "epochs=2")
    assert done.returncode == 0, done.stderr
    assert asked == [(str(tmp_path), 2, 20)]
    assert done.stdout.splitlines() == ["▸ trained", "init_from=store/pretrained/a.keras"]


def test_an_internal_error_is_told_with_its_log(tmp_path, monkeypatch):
    log = tmp_path / "log.txt"
    log.write_text("KeyError: 'a'\n")

    def fails(*_):
        raise RunFailed(log, tmp_path / "fault.txt")

    monkeypatch.setattr(pretraining, "pretrain", fails)
    done = call("pretrain", "--store", tmp_path)
    assert done.returncode == 1
    assert "KeyError: 'a'" in done.stdout


def test_too_few_pairs(tmp_path):
    assert call("pretrain", "--store", tmp_path, "--pairs", "3").returncode == 2
