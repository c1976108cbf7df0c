"""How training goes: settings, order, freezing, precision, early ends and checkpoints, on a small network."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from paths import ROOT
from small_network import IMAGING, build_small, make_splits

from defectline.components.common.dataset import Split
from defectline.components.common.errors import SettingsError, StoreError
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.train import devices, loop, weights
from defectline.components.train import step as training
from defectline.components.train.batches import Batches
from defectline.components.train.checkpoints import Checkpoints
from defectline.components.train.devices import GPU, policy, replicate
from defectline.components.train.loop import Progress, fit
from defectline.components.train.network import build_network, freeze_encoder
from defectline.components.train.optimizer import Schedule
from defectline.components.train.settings import TrainSettings, read_settings, write_options
from defectline.components.train.tracking import MLFLOW_ENV, tracked
from defectline.pipeline.parameters import check_weights, parse


@pytest.fixture(scope="module")
def splits() -> dict[str, Split]:
    return make_splits()


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(loop, "build_network", build_small)


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


@pytest.fixture
def store(tmp_path) -> FolderStorage:
    (tmp_path / "store").mkdir()
    return FolderStorage(tmp_path / "store")


# Settings


def test_training_text_is_read_and_written_back():
    settings = read_settings("learning_rate=1e-3, patience=7\n precision=auto", epochs=3)
    assert (settings.learning_rate, settings.patience, settings.epochs) == (0.001, 7, 3)
    assert write_options(settings) == "learning_rate=0.001 patience=7"
    assert read_settings(write_options(settings), epochs=3) == settings


def test_weights_that_know_the_task_learn_at_a_lower_rate():
    known = "store/model.keras#sha256=" + "0" * 64
    assert read_settings("", init_from=known).learning_rate < read_settings("").learning_rate
    for text in ("", "learning_rate=0.002", "learning_rate=0.0005 patience=3"):
        settings = read_settings(text, init_from=known)
        assert read_settings(write_options(settings), init_from=known) == settings
    assert read_settings("learning_rate=0.002", init_from=known).learning_rate == 0.002


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("learning_rat=1", "Did you mean learning_rate"),
        ("learning_rate", "Write learning_rate=…"),
        ("epochs=3", "Set epochs with --set epochs="),
        ("learning_rate=inf", "finite"),
        ("optimizer=adamx", "'adamw' or 'sgd'"),
        ("unfreeze_at_epoch=3", "nothing is frozen"),
        ("warmup=1", "less than 1"),
    ],
)
def test_wrong_training_settings_are_refused_before_anything_starts(text, says):
    with pytest.raises(SettingsError) as caught:
        parse("source", "store", [f"training={text}"])
    assert says in str(caught.value)


def test_two_places_to_start_from_are_refused():
    with pytest.raises(SettingsError, match="do not go together") as caught:
        parse("source", "store", ["init_from=a.keras", "encoder_weights=imagenet"])
    assert "not both" in caught.value.expected
    assert caught.value.got == "encoder_weights=imagenet, init_from=a.keras"


@pytest.mark.parametrize("name", ["init_from", "encoder_weights"])
def test_a_digest_that_is_none_is_refused_before_anything_starts(name):
    with pytest.raises(SettingsError) as caught:
        parse("source", "store", [f"{name}=a.keras#sha256=abc"])
    assert "64 hex digits" in caught.value.expected


@pytest.mark.parametrize("reference", ["imagenet", "", "/", "/nosuch.keras", "folder", "folder/"])
def test_weights_to_start_from_are_a_file_or_a_keyword(tmp_path, monkeypatch, reference):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link.keras").symlink_to("nowhere")
    for name in ("init_from", "encoder_weights"):
        parameters = parse("source", "store", [f"{name}={reference}"])
        if (name, reference) == ("encoder_weights", "imagenet"):
            check_weights(parameters)
            continue
        with pytest.raises(SettingsError, match=f"The file of {name} is missing") as caught:
            check_weights(parameters)
        assert caught.value.got == (f"no file at {reference}" if reference else "an empty value")


@pytest.mark.parametrize("start", ["", "{folder}/", "file://{folder}/"])
def test_weights_to_start_from_that_are_there(tmp_path, monkeypatch, start):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.keras").touch()
    check_weights(parse("source", "store", [f"init_from={start.format(folder=tmp_path)}one.keras"]))


def test_the_same_training_settings_are_one_text():
    texts = [
        "patience=3 learning_rate=1e-3",
        "learning_rate=0.001,patience=3",
        "patience=03 learning_rate=.001",
    ]
    assert {parse("a", "b", [f"training={text}"]).training for text in texts} == {
        "learning_rate=0.001 patience=3"
    }


def test_settings_are_checked_without_keras():
    code = "import sys, defectline.pipeline.parameters\nprint({'keras', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Order, learning rate, devices


def test_order_is_a_function_of_seed_and_epoch(splits):
    def order(seed: int, *epochs: int) -> list[int]:
        batches = Batches(splits["train"], 4, seed)
        for epoch in epochs:
            batches.shuffle(epoch)
        return batches.order.tolist()

    assert order(1, 0, 1, 2) == order(1, 2)
    assert sorted(order(1, 2)) == list(range(6))
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1, 2)}) == 6


def rates(schedule: Schedule, *steps: int) -> list[float]:
    return [round(float(schedule(step)), 4) for step in steps]


def test_schedules():
    assert rates(Schedule(2, 100, 10), 0, 5, 10, 55, 100, 120) == [0, 1, 2, 1, 0, 0]
    assert rates(Schedule(2, 100, 0, cosine=False), 0, 50, 99) == [2, 2, 2]
    assert rates(Schedule(2, 100, 10, cosine=False, thaw=50), 49, 50, 55, 60) == [2, 0, 1, 2]


def test_a_long_epoch_is_told_of_on_its_way(capsys):
    progress = Progress(epochs=2, steps=3, every_s=0)
    for epoch in range(2):
        progress.on_epoch_begin(epoch)
        for step in range(3):
            progress.on_train_batch_end(step, {"loss": 1 / (step + 1)})
        progress.on_epoch_end(epoch, {"loss": 0.5, "val_loss": 0.25, "val_iou": 0.125})
    said = [line.partition(", ")[2].rpartition(", ")[0] for line in capsys.readouterr().out.splitlines()]
    epoch = [
        "step 1 of 3, loss 1.000",
        "step 2 of 3, loss 0.500",
        "loss 0.500, validation loss 0.250, IoU 0.12",
    ]
    assert said == epoch * 2


@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [
        ([9.0], "mixed_bfloat16"),
        ([8.0, 7.5], "mixed_float16"),
        ([6.1], "float32"),
        ([], "float32"),
    ],
)
def test_precision_by_hardware(monkeypatch, capabilities, wanted):
    gpus = [GPU(f"/gpu:{index}", value) for index, value in enumerate(capabilities)]
    monkeypatch.setattr(devices, "visible_gpus", lambda: gpus)
    assert policy("auto") == wanted
    assert policy("float16") == "mixed_float16"
    assert policy("float32") == "float32"


def test_a_batch_that_gpus_cannot_share_is_refused():
    with pytest.raises(SettingsError, match="evenly") as caught:
        replicate(4, ["/gpu:0", "/gpu:1", "/gpu:2"])
    assert "batch_size to 6" in caught.value.fix


# Fitting


def same(a: keras.Model, b: keras.Model) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


@pytest.mark.usefixtures("small")
def test_two_trainings_are_the_same_and_another_seed_is_not(splits):
    (a, one), (b, two), (c, other) = (
        fit(splits, IMAGING, TrainSettings(epochs=2, seed=seed)) for seed in (0, 0, 1)
    )
    assert same(a, b)
    assert one == two != other
    assert not same(a, c)
    assert {weight.dtype for weight in a.weights} == {"float32"}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_training_that_was_cut_off_comes_to_the_same(splits, store, capsys, after):
    """With the thaw at epoch 3: before it, at it, after it, and with all done."""
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


@pytest.mark.usefixtures("small")
def test_a_loss_that_is_no_number_stops_at_its_step(splits, store, monkeypatch):
    settings = TrainSettings(epochs=3, schedule="constant", warmup=0)
    step = loop.Trainer.compute_loss

    def poisoned(self, *args, **kwargs):
        # Two batches an epoch: the second of the second epoch.
        ruined = keras.ops.equal(self.optimizer.iterations, 3) if kwargs.get("training") else False
        return keras.ops.where(ruined, float("nan"), step(self, *args, **kwargs))

    def remember(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = poisoned(self, x, y, y_pred, sample_weight, training=training)
        self.loss_mean.update_state(loss)
        return loss

    monkeypatch.setattr(loop.Trainer, "compute_loss", remember)
    with pytest.raises(SettingsError, match="epoch 2, after step 2 of 2") as caught:
        fit(splits, IMAGING, settings, checkpoints=Checkpoints(store, "one"))
    assert "learning_rate, which is 0.002" in caught.value.fix
    assert kept(store) == ["epoch-00001.npz"]


@pytest.mark.usefixtures("small")
def test_training_stops_when_nothing_gets_better(splits):
    settings = TrainSettings(epochs=30, patience=2, learning_rate=1e-12)
    _, history = fit(splits, IMAGING, settings)
    best = max(history, key=lambda row: row["val_iou"])
    assert len(history) == best["epoch"] + 2 < 30
    # Patience counts from the thaw.
    settings = TrainSettings(
        epochs=30, patience=2, learning_rate=1e-12, freeze_encoder_until="Conv1", unfreeze_at_epoch=5
    )
    assert len(fit(splits, IMAGING, settings)[1]) >= 7


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("fields", [{"optimizer": "sgd"}, {"precision": "float16"}, {"schedule": "constant"}])
def test_other_ways_to_train(splits, fields):
    settings = TrainSettings(epochs=2, learning_rate=0.01, **fields)
    seen = []

    class Look:
        def log(self, row):
            seen.append(row["loss"])

    fit(splits, IMAGING, settings, policy(settings.precision), trackers=[Look()])
    assert seen[1] < seen[0]
    assert keras.config.dtype_policy().name == "float32"


def test_float16_scales_its_loss(splits):
    with loop._dtype_policy("mixed_float16"):
        trainer = loop.Trainer(build_small(32), seed=0)
        loop._compile(trainer, TrainSettings(), 2, epoch=0)
    assert isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer)


def test_frozen_layers_stay_and_the_optimizer_keeps_its_state_at_the_thaw(splits):
    settings = TrainSettings(freeze_encoder_until="bn_Conv1", unfreeze_at_epoch=2)
    trainer = loop.Trainer(build_small(32), seed=0)
    loop._compile(trainer, settings, 2, epoch=0)
    encoder = trainer.network.get_layer("encoder")
    frozen = [w for name in ("Conv1", "bn_Conv1") for w in encoder.get_layer(name).weights]
    free = encoder.get_layer("block_1_project").kernel
    before, moved = [w.numpy() for w in frozen], free.numpy()
    batch = Batches(splits["train"], 4, 0)[0][0]
    for _ in range(2):
        trainer.train_on_batch(batch)
    assert all(np.array_equal(a, w.numpy()) for a, w in zip(before, frozen, strict=True))
    assert not np.array_equal(moved, free.numpy())
    old = {v.path: v.numpy() for v in trainer.optimizer.variables}
    loop._compile(trainer, settings, 2, epoch=1)
    new = {v.path: v.numpy() for v in trainer.optimizer.variables}
    assert len(new) > len(old)
    assert all(np.array_equal(new[path], value) for path, value in old.items())
    # The rate rises from zero again, so that the first step after the thaw moves nothing.
    for _ in range(3):
        trainer.train_on_batch(batch)
    assert all(not np.array_equal(a, w.numpy()) for a, w in zip(before, frozen, strict=True))


@pytest.mark.parametrize(("name", "near"), [("block_6_expnd_relu", "block_6_expand_relu"), ("?", "Use one")])
def test_a_layer_that_is_not_there(name, near):
    with pytest.raises(SettingsError, match="no layer") as caught:
        freeze_encoder(build_network(32), name)
    assert near in caught.value.fix


# What to start from


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[keras.Model, Path]:
    """A small network, and the folder of a.keras and a.weights.h5 of it."""
    folder, network = tmp_path_factory.mktemp("saved"), build_small(32)
    network.save(folder / "a.keras")
    network.save_weights(folder / "a.weights.h5")
    return network, folder


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5"])
def test_starting_from_a_whole_network(saved, name):
    network, folder = saved
    other = build_small(64)
    digest = weights.sha256_file(folder / name)
    weights.load_network(other, f"{folder / name}#sha256={digest}")
    assert same(network, other)
    weights.load_network(other, f"{(folder / name).as_uri()}")


@pytest.mark.parametrize("kind", ["keras", "weights.h5"])
@pytest.mark.parametrize("change", ["name", "shape"])
def test_starting_from_another_network_is_refused(tmp_path, saved, kind, change):
    network = keras.models.clone_model(saved[0], clone_function=lambda layer: _other(layer, change))
    file = tmp_path / f"b.{kind}"
    network.save(file) if kind == "keras" else network.save_weights(file)
    with pytest.raises(SettingsError, match="do not fit") as caught:
        weights.load_network(build_small(32), str(file))
    assert "logits" in caught.value.got


def _other(layer: keras.Layer, change: str) -> keras.Layer:
    config = layer.get_config()
    if layer.name == "logits":
        config |= {"name": "answers"} if change == "name" else {"kernel_size": (5, 5)}
    return type(layer).from_config(config)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("{folder}/none.keras", "missing"),
        ("{folder}/a.keras#sha256=" + "0" * 64, "not the one"),
        ("{folder}/notes.txt", "do not fit"),
        ("{folder}/broken.keras", "do not fit"),
        ("{folder}/broken.weights.h5", "do not fit"),
    ],
)
def test_a_file_to_start_from_that_is_wrong(saved, reference, says):
    folder = saved[1]
    for name in ("notes.txt", "broken.keras", "broken.weights.h5"):
        (folder / name).write_text("no weights")
    with pytest.raises(SettingsError, match=says):
        weights.load_network(build_small(32), reference.format(folder=folder))


# What to train on


def prepared(folder: Path, label: str, size: int = 32) -> Path:
    folder.mkdir()
    rows = [{"id": f"{label}/{i}", "label": label, "split": "train"} for i in range(3)]
    content = {"snapshot": "s", "fingerprint": "f", "imaging": {"image_size": 32}, "rows": rows}
    (folder / "dataset.json").write_text(json.dumps(content))
    np.save(folder / "images.npy", np.zeros((3, size, size, 1), np.uint8))
    np.save(folder / "masks.npy", np.zeros((3, size, size), np.uint8))
    return folder


@pytest.mark.parametrize(("label", "size", "says"), [("OK", 32, "No picture"), ("NG", 64, "arrays of the")])
def test_a_dataset_that_teaches_nothing_or_does_not_fit_is_refused(tmp_path, capsys, label, size, says):
    with pytest.raises(SystemExit):
        training.train(prepared(tmp_path / "data", label, size), tmp_path / "model", tmp_path / "page", {})
    assert says in capsys.readouterr().out
    assert not (tmp_path / "model").exists()


def test_a_dataset_without_good_pictures_is_trained_on_and_said(tmp_path, capsys):
    training._check_labels(training.open_dataset(prepared(tmp_path / "data", "NG"))[0])
    assert "no good picture to train on" in capsys.readouterr().out


# Trackers


ROWS = [{"epoch": n, "loss": 1 / n, "iou": 0.5, "val_loss": 2 / n, "val_iou": n / 10} for n in (1, 2)]


def test_tensorboard_files_hold_the_course(tmp_path):
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    with tracked("name", {}, tmp_path) as trackers:
        for row in ROWS:
            trackers[0].log(row)
    found = {}
    for path in tmp_path.glob("*/events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found[path.parent.name, value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    assert found["train", "epoch_loss", 2] == 0.5
    assert found["validation", "epoch_iou", 1] == pytest.approx(0.1)
    assert len(found) == 8


@pytest.fixture
def mlflow(mlflow_server, monkeypatch):
    """The client, which keeps an address in this process and in the environment, asking a server."""
    import mlflow

    monkeypatch.setenv(MLFLOW_ENV, mlflow_server)
    mlflow.set_tracking_uri(mlflow_server)
    yield mlflow
    mlflow.set_tracking_uri(None)


@pytest.mark.slow
def test_mlflow_gets_settings_and_course(mlflow):
    with tracked("name", {"epochs": 2}, None) as trackers:
        for row in ROWS:
            trackers[0].log(row)
    with pytest.raises(KeyboardInterrupt), tracked("broken", {"epochs": 2}, None):
        raise KeyboardInterrupt
    client = mlflow.MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name == "defectline"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs["name"].info.status == "FINISHED"
    assert runs["broken"].info.status == "FAILED"
    assert runs["name"].data.params == {"epochs": "2"}
    course = client.get_metric_history(runs["name"].info.run_id, "val_iou")
    assert [(m.step, m.value) for m in course] == [(1, 0.1), (2, 0.2)]


@pytest.mark.slow
def test_mlflow_that_goes_away_costs_the_curves_alone(mlflow, capsys):
    with tracked("cut", {}, None) as trackers:
        trackers[0].log(ROWS[0])
        mlflow.set_tracking_uri("http://127.0.0.1:9")
        trackers[0].log(ROWS[1])
        trackers[0].log(ROWS[1])
    said = capsys.readouterr().out
    assert said.count("MLflow takes no more values from epoch 2 on") == 1
    assert "MLflow was not told that this run is FINISHED" in said


def test_mlflow_that_is_missing_or_away_is_said(monkeypatch):
    import mlflow

    mlflow.set_tracking_uri(None)  # forgets the variable as well
    monkeypatch.setenv(MLFLOW_ENV, "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SettingsError, match="cannot be used"), tracked("name", {}, None):
        pass
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(SettingsError, match="not installed") as caught, tracked("name", {}, None):
        pass
    assert "defectline[mlflow]" in caught.value.fix


# Several devices


MIRRORED = """
import json, sys
from pathlib import Path
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, sys.argv[1])
import numpy as np
from small_network import IMAGING, build_small, make_splits
from defectline.components.train import devices, loop
from defectline.components.train.settings import TrainSettings
loop.build_network = build_small
# No random picture: both copies draw the same, one device draws others.
loop.Trainer.call = lambda self, x, training=False: (
    self.network(tf.cast(x[0], "float32"), training=False)[..., 1], tf.cast(x[1], "float32"))
data = make_splits()
found = {}
for names in (["/cpu:0"], ["/cpu:0", "/cpu:1"]):
    devices.visible_gpus = lambda names=names: [devices.GPU(name, 0.0) for name in names]
    settings = TrainSettings(epochs=2, batch_size=2, warmup=0, schedule="constant", optimizer="sgd")
    network, history = loop.fit(data, IMAGING, settings)
    found[len(names)] = {"history": history, "weights": [w.tolist() for w in network.get_weights()]}
print(json.dumps(found))
"""


@pytest.mark.slow
def test_two_devices_share_a_batch():
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(ROOT / "tests/support")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    one, two = found["1"], found["2"]
    for a, b in zip(one["history"], two["history"], strict=True):
        # Every pixel is counted once; the loss differs as Dice is taken over each half.
        assert b["val_iou"] == pytest.approx(a["val_iou"], abs=0.02)
        assert b["loss"] == pytest.approx(a["loss"], abs=0.2)
    moved = [np.abs(np.subtract(a, b)).max() for a, b in zip(one["weights"], two["weights"], strict=True)]
    assert max(moved) < 0.02
