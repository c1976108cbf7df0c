"""Keys that look wrong, wherever boto3 found them."""

import os
from pathlib import Path

import pytest
from buckets import keys

from defectline.components.common.errors import SettingsError, StoreError
from defectline.components.common.storage import open_storage
from defectline.components.common.storage.s3_client import oddity

HUSH = "hushhushhush"


@pytest.mark.parametrize(
    ("value", "how"),
    [
        *(("AKIA\n", "ends with a line break"), ("AKIA\r\n", "ends with a line break")),
        *(("AKIA\r", "ends with a line break"), ("\nAKIA", "begins with a line break")),
        *(("AKIA ", "ends with a space"), (" AKIA", "begins with a space"), ("AKIA\t", "ends with a space")),
        *(('"AKIA"', "stands in quotes"), ("'AKIA'", "stands in quotes")),
        *(('"AKIA', "has a quote"), ("AK\nIA", "line break"), ("\ufeffAKIA", "invisible")),
        *(("AKIA", ""), ("a b", ""), ("", ""), (None, "")),
    ],
)
def test_what_is_odd_about_a_key(value: str | None, how: str):
    assert how in oddity(value)
    assert bool(oddity(value)) is bool(how)


@pytest.mark.parametrize(
    "name",
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL"],
)
@pytest.mark.parametrize("end", ["\r\n", " "], ids=["line_break", "space"])
def test_a_variable_with_something_at_its_end_is_named(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, end: str
):
    """Whatever the server or the HTTP library says then; neither key nor signature is told."""
    value = os.environ.get(name, HUSH)
    monkeypatch.setenv(name, f"{value}{end}")
    (tmp_path / "file").write_bytes(b"x")
    store = open_storage(s3)
    for action in (
        keys,
        lambda store: store.read("key"),
        lambda store: store.write("key", b"x"),
        lambda store: store.upload(tmp_path / "file", "key"),
        lambda store: store.download("key", tmp_path / "out"),
    ):
        with pytest.raises(StoreError) as caught:
            action(store)
        told = str(caught.value)
        assert f"{name} ends with a {'space' if end == ' ' else 'line break'}" in caught.value.fix
        assert "Signature=" not in told
        assert os.environ["AWS_SECRET_ACCESS_KEY"].strip() not in told
        assert HUSH not in told


def test_a_session_token_in_an_error_is_not_told(s3: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{HUSH}\nmore{HUSH}")
    with pytest.raises(StoreError, match="line break") as caught:
        keys(open_storage(s3))
    assert HUSH not in str(caught.value)


@pytest.mark.parametrize("quoted", ["access key", "secret key"])
def test_quotes_in_a_file_of_keys_are_named(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quoted: str
):
    access, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    file.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
    assert keys(open_storage(s3)) == []
    file.write_text(
        file.read_text().replace(wrong := access if quoted == "access key" else secret, f'"{wrong}"')
    )
    with pytest.raises(StoreError) as caught:
        keys(open_storage(s3))
    assert f"The {quoted} in the file ~/.aws/credentials stands in quotes" in caught.value.fix
    assert secret not in str(caught.value)


@pytest.mark.parametrize("name", ["PATH_STYLE", "ANONYMOUS", "REQUESTER_PAYS"])
def test_a_flag_that_is_neither_on_nor_off(s3: str, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(f"DEFECTLINE_S3_{name}", "maybe")
    with pytest.raises(SettingsError, match=f"DEFECTLINE_S3_{name}"):
        keys(open_storage(s3))
