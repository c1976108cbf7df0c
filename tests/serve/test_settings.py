"""The server's settings, which are its options."""

import sys
from pathlib import Path

import pytest
from servers import free_port

from defectline.components.common.errors import SettingsError
from defectline.components.serve import server
from defectline.components.serve.model import DefectModel
from defectline.components.serve.settings import ServeSettings


def _settings(monkeypatch, model: Path, *options: str) -> ServeSettings:
    port = str(free_port())
    monkeypatch.setattr(sys, "argv", ["serve", "--model_dir", str(model), "--http_port", port, *options])
    return server._settings(server._arguments())


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--queue", "-1", "setting queue is wrong"),
        ("--deadline_ms", "0", "setting deadline_ms is wrong"),
        ("--deadline_ms", "nan", "setting deadline_ms is wrong"),
        ("--max_mb", "0", "setting max_mb is wrong"),
        ("--max_mb", "many", "setting max_mb is wrong"),
        ("--max_megapixels", "51", "setting max_megapixels is wrong"),
        ("--workers", "2", "--workers cannot be used"),
        ("--drift_window", "199", "setting drift_window is wrong"),
        ("--review_margin", "1.5", "setting review_margin is wrong"),
        ("--review_share", "-0.1", "setting review_share is wrong"),
        ("--review_per_day", "0", "setting review_per_day is wrong"),
    ],
)
def test_options_that_cannot_be(model, monkeypatch, option, value, says):
    with pytest.raises(SettingsError, match=says):
        _settings(monkeypatch, model, option, value)


def test_every_setting_is_an_option_with_its_default_and_help(model, monkeypatch, capsys):
    assert _settings(monkeypatch, model) == ServeSettings()
    assert _settings(monkeypatch, model, "--max_mb", "0.5", "--threads", "2").body_bytes == 500_000
    with pytest.raises(SystemExit):
        _settings(monkeypatch, model, "--help")
    said = " ".join(capsys.readouterr().out.split())
    for name, field in ServeSettings.model_fields.items():
        assert f"--{name} " in said
        assert f"{field.description} ({field.default})" in said


def test_a_store_for_review_must_have_a_known_scheme(model, monkeypatch):
    port = str(free_port())
    options = ["--http_port", port, "--review", "ftp://elsewhere"]
    monkeypatch.setattr(sys, "argv", ["serve", "--model_dir", str(model), *options])
    arguments = server._arguments()
    with pytest.raises(SettingsError, match="scheme of ftp://elsewhere is unknown"):
        server._reviewers(arguments, server._settings(arguments), [DefectModel("plates", model)])


@pytest.mark.parametrize(
    ("options", "got"),
    [
        (("--also", "rings"), "no --store"),
        (("--store", "s", "--also", "plates", "--model_name", "plates"), "plates plates"),
        (("--store", "s", "--also", "rings", "--alias", "r"), "--alias r"),
    ],
)
def test_models_that_cannot_be_served_together(monkeypatch, options, got):
    monkeypatch.setattr(sys, "argv", ["serve", *options])
    with pytest.raises(SettingsError, match="cannot be served together") as refused:
        server._models(server._arguments(), ServeSettings())
    assert refused.value.got == got
