"""A training that was cut off goes on from what was kept of it."""

import shutil
import subprocess
from collections.abc import Callable

import pytest
from small_network import IMAGING, same

from defectline.components.common.errors import StoreError
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.train.loop import fit
from defectline.components.train.progress.checkpoints import Checkpoints
from defectline.components.train.settings import TrainSettings


class Cut:
    """A tracker that ends training after an epoch, once its checkpoint is written, or only listens."""

    def __init__(self, after: int = 0):
        self.after, self.epochs = after, []

    def log(self, row):
        self.epochs.append(row["epoch"])
        if row["epoch"] == self.after:
            raise KeyboardInterrupt


def kept(store: FolderStorage) -> list[str]:
    return sorted(found.key.rpartition("/")[2] for found in store.list())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_training_that_was_cut_off_comes_to_the_same(splits, store, capsys, after):
    """Unfrozen at epoch 3: before it, at it, after it, and with all done."""
    settings = TrainSettings(epochs=4, freeze_encoder_until="bn_Conv1", unfreeze_at_epoch=3)
    whole, history = fit(splits, IMAGING, settings)
    checkpoints = Checkpoints(store, "one")
    with pytest.raises(KeyboardInterrupt):
        fit(splits, IMAGING, settings, checkpoints=checkpoints, trackers=[Cut(after)])
    assert f"epoch-{after:05d}.npz" in kept(store)
    assert len(kept(store)) <= 2
    again = Cut()
    resumed, rows = fit(splits, IMAGING, settings, checkpoints=checkpoints, trackers=[again])
    assert rows == history
    assert same(whole, resumed)
    # Trackers see the epochs before the cut as well.
    assert again.epochs == [1, 2, 3, 4]
    assert f"going on after epoch {after} of 4" in capsys.readouterr().out
    checkpoints.remove()
    assert kept(store) == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: _flip(data)])
def test_a_damaged_checkpoint_is_named_and_not_used(splits, store, capsys, damage: Callable[[bytes], bytes]):
    settings, checkpoints = TrainSettings(epochs=2), Checkpoints(store, "one")
    whole, _ = fit(splits, IMAGING, settings, checkpoints=checkpoints)
    capsys.readouterr()
    for name in kept(store):
        path = store.root / "checkpoints/one" / name
        path.write_bytes(damage(path.read_bytes()))
    again, _ = fit(splits, IMAGING, settings, checkpoints=checkpoints)
    said = capsys.readouterr().out
    assert "is damaged and not used" in said
    assert "going on" not in said
    assert same(whole, again)


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


@pytest.mark.usefixtures("small")
def test_a_full_disk_stops_training_and_leaves_the_last_checkpoint(splits, tmp_path, monkeypatch):
    settings = TrainSettings(epochs=3)
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.decode().strip()}")
    try:
        store = FolderStorage(folder)

        class Fill:
            def log(self, row):
                size = shutil.disk_usage(folder).free - 4096
                (folder / "others").write_bytes(bytes(size))

        with pytest.raises(StoreError, match="No space left"):
            fit(splits, IMAGING, settings, checkpoints=Checkpoints(store, "one"), trackers=[Fill()])
        files = [p.name for p in (folder / "checkpoints/one").iterdir()]
        assert files == ["epoch-00001.npz"]
        (folder / "others").unlink()
        resumed, _ = fit(splits, IMAGING, settings, checkpoints=Checkpoints(store, "one"))
    finally:
        subprocess.run(["umount", folder], check=True)
    assert same(resumed, fit(splits, IMAGING, settings)[0])
