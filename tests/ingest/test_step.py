"""The ingest step: what is new, what is said, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import encode, mask, remove_pair, write_pair, write_source

from defectline.components.common.layout import champion_key
from defectline.components.common.records import ChampionRecord, GateRecord, read_outcome, write_gate
from defectline.components.common.snapshot import read_head
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.ingest.step import ingest


@pytest.mark.parametrize("place", ["OK/store", "NG_MSK/a/b"])
def test_a_store_among_the_pictures_is_refused(source: Path, place: str, capfd: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as caught:
        ingest(str(source), str(source / place))
    assert caught.value.code == 2
    assert "The store lies among the source's pictures." in capfd.readouterr().out
    assert not (source / place).exists()


@pytest.mark.parametrize(
    "numbers", [{"max_rejected": -1.0}, {"max_rejected": float("nan")}, {"min_new_images": 0}]
)
def test_numbers_that_make_no_sense_are_refused(
    source: Path, store: FolderStorage, numbers: dict[str, float], capfd: pytest.CaptureFixture
):
    with pytest.raises(SystemExit) as caught:
        ingest(str(source), str(store.root), settings=numbers)
    assert caught.value.code == 2
    assert f"The setting {next(iter(numbers))} is wrong." in capfd.readouterr().out


def gate(store: FolderStorage, snapshot: str, settings: str = "") -> None:
    """Say that a run with this snapshot reached its gate."""
    write_gate(store, "defects", GateRecord(run="earlier", snapshot=snapshot, settings_key=settings))


def step(
    source: Path, store: FolderStorage, key: str = "", model: str = "defects", **settings: object
) -> str:
    return ingest(str(source), str(store.root), "now", model, settings, key)


def summary(reports: Path) -> str:
    return json.loads((reports / "ingest.json").read_text())["summary"]


def test_the_first_run_goes_on(source: Path, store: FolderStorage, reports: Path):
    snapshot = step(source, store)
    assert snapshot == read_head(store)
    assert summary(reports) == "16 pairs, 0 rejected, all of them new"
    assert store.read("runs/now/quarantine.csv") == b"id,image,mask,status,reason,fix\n"
    assert read_outcome(store, "now") is None


def test_nothing_new_ends_the_run(source: Path, store: FolderStorage, reports: Path):
    gate(store, step(source, store))
    store.write(
        champion_key("defects"), ChampionRecord(version="v1", run="earlier").model_dump_json().encode()
    )
    assert step(source, store) == ""
    outcome = read_outcome(store, "now")
    assert outcome is not None
    assert (outcome.state, outcome.version) == ("nothing_new", "v1")
    assert outcome.reason == "0 new since run earlier, 1 needed"


def test_five_new_pairs(source: Path, store: FolderStorage, reports: Path):
    gate(store, step(source, store))
    for number in range(30, 35):
        write_pair(source, "NG", number)
    assert step(source, store, min_new_images=6) == ""
    assert read_outcome(store, "now").reason == "5 new since run earlier, 6 needed"
    # Not counted from the last ingest but from the last gate.
    assert step(source, store, min_new_images=5) == read_head(store)
    assert summary(reports) == "21 pairs, 0 rejected, 5 new"


def test_a_new_mask_is_new_but_a_touched_or_lost_pair_is_not(source: Path, store: FolderStorage):
    write_source(source, range(10, 20))
    gate(store, step(source, store))
    os.utime(source / "OK/00000_OK_Image.png", ns=(1, 1))
    remove_pair(source, "OK", 7)
    (source / "OK_MSK/00006_OK_Mask.png").write_bytes(b"broken")
    assert step(source, store) == ""
    truth = mask(True)
    truth[0, 0] = 255
    (source / "NG_MSK/00003_NG_Mask.png").write_bytes(encode(truth))
    assert step(source, store) != ""


def test_other_settings_and_force_count_as_new(source: Path, store: FolderStorage, reports: Path):
    gate(store, step(source, store), settings="epochs=1")
    assert step(source, store, key="epochs=1") == ""
    assert step(source, store, key="epochs=2") != ""
    assert summary(reports).endswith("0 new, and other settings")
    assert step(source, store, key="epochs=1", force=True) != ""
    assert summary(reports).endswith("0 new, and --force")


def test_settings_in_another_order_are_the_same(source: Path, store: FolderStorage):
    gate(store, step(source, store), settings="epochs=1 training=patience=3 learning_rate=0.1 tile=True")
    assert step(source, store, key="tile=True epochs=1 training=patience=3 learning_rate=0.1") == ""
    assert step(source, store, key="tile=True epochs=1 training=patience=3") != ""


def test_a_gate_whose_settings_have_their_old_name_is_read(source: Path, store: FolderStorage):
    old = {"run": "earlier", "snapshot": step(source, store), "settings": "epochs=1"}
    store.write("models/defects/gated.json", json.dumps(old).encode())
    assert step(source, store, key="epochs=1") == ""
    assert step(source, store, key="epochs=2") != ""


def test_another_models_gate_does_not_count(source: Path, store: FolderStorage):
    gate(store, step(source, store))
    assert step(source, store, model="other") != ""


def test_files_that_are_ignored_are_mentioned(
    source: Path, store: FolderStorage, capsys: pytest.CaptureFixture[str]
):
    for name in ("notes.txt", ".DS_Store", "overview.png", "NG/00000_NG_Image.json", "OK/Thumbs.db"):
        (source / name).write_text("")
    step(source, store)
    said = capsys.readouterr().out
    assert (
        "ignored 1 .DS_Store, 1 .json, 1 .txt, 1 Thumbs.db, 1 files outside of OK/, OK_MSK/, NG/, NG_MSK/"
        in said
    )


def test_a_step_that_fails_writes_its_error(source: Path, store: FolderStorage, reports: Path):
    for number in range(3):
        (source / f"OK/{number:05d}_OK_Image.png").write_bytes(b"broken")
    with pytest.raises(SystemExit) as caught:
        step(source, store)
    assert caught.value.code == 2
    error = json.loads((reports / "error.json").read_text())
    assert error["what"] == "3 of 16 pairs are unusable."
    assert len(store.read("runs/now/quarantine.csv").splitlines()) == 4
    assert read_head(store) is None


def test_the_step_as_a_command(source: Path, tmp_path: Path):
    command = [sys.executable, "-m", "defectline.components.ingest"]
    done = subprocess.run([*command, source, tmp_path / "store"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ingest: 16 pairs, 0 rejected, all of them new" in done.stdout
    missing = tmp_path / "missing"
    done = subprocess.run([*command, missing, tmp_path / "store"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "")
    assert str(missing) in done.stdout
    assert "Traceback" not in done.stdout
