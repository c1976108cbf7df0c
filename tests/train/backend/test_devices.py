"""What a training runs on."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT

from defectline.components.common.errors import SettingsError
from defectline.components.train.backend import devices
from defectline.components.train.backend.devices import GPU, policy, replicate


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


MIRRORED = """
import json, sys
from pathlib import Path
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, sys.argv[1])
import numpy as np
from small_network import IMAGING, build_small, make_splits
from defectline.components.train import loop
from defectline.components.train.backend import devices
from defectline.components.train.settings import TrainSettings
loop.build_network = build_small
whole = loop.Trainer.call
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
# Batch norm and AdamW as they are trained, of both copies.
loop.Trainer.call = whole
network, history = loop.fit(data, IMAGING, TrainSettings(epochs=2, batch_size=2))
found["trained"] = [row["loss"] for row in history]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_two_devices_share_a_batch():
    # The kernels of oneDNN keep a state that two devices of one process share.
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(ROOT / "tests/support")],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    one, two = found["1"], found["2"]
    for a, b in zip(one["history"], two["history"], strict=True):
        # Every pixel is counted once; the loss differs as Dice is taken over each half.
        assert b["val_iou"] == pytest.approx(a["val_iou"], abs=0.02)
        assert b["loss"] == pytest.approx(a["loss"], abs=0.2)
    assert found["trained"][1] < found["trained"][0]
    moved = [np.abs(np.subtract(a, b)).max() for a, b in zip(one["weights"], two["weights"], strict=True)]
    assert max(moved) < 0.02
