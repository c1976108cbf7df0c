"""The settings of a training, read from a text and checked before anything starts."""

import subprocess
import sys

import pytest

from defectline.components.common.errors import SettingsError
from defectline.components.train.settings import even, read_settings, write_options
from defectline.pipeline.parameters import check_weights, parse


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
        ("decoder=lite", "'pix2pix' or 'light'"),
        ("encoder_width=0.6", "not one of 0.35, 0.5"),
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


def test_the_next_batch_that_devices_can_share():
    assert [even(8, devices) for devices in (1, 2, 3, 8, 16)] == [8, 8, 9, 8, 16]
