"""S3 alone: keys, settings and rights that are wrong, checksums and signatures."""

from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from buckets import Between, keys
from servers import S3Server, free_port

from defectline.components.common.errors import Corrupt, StoreError
from defectline.components.common.storage import Storage, open_storage


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("AWS_SECRET_ACCESS_KEY", "hush", "SignatureDoesNotMatch"),
        ("AWS_ACCESS_KEY_ID", "AKIAWRONG", "InvalidAccessKeyId"),
    ],
)
def test_s3_keys_that_are_wrong(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, got: str
):
    monkeypatch.setenv(name, value)
    (tmp_path / "file").write_bytes(b"x")
    store = open_storage(s3)
    for action in (
        lambda: keys(store),
        lambda: store.read("key"),
        lambda: store.write("key", b"x"),
        lambda: store.upload(tmp_path / "file", "key"),
        lambda: store.download("key", tmp_path / "out"),
        lambda: store.compare_and_swap("key", b"x", None),
        lambda: store.delete("key"),
    ):
        with pytest.raises(StoreError, match=got) as caught:
            action()
        assert s3 in caught.value.what
        assert name in caught.value.fix
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("env", "got", "fix"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "credentials", "AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "credentials", "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_PROFILE": "nobody"}, "nobody", "AWS_PROFILE"),
        ({"AWS_ENDPOINT_URL": "localhost:9000"}, "localhost:9000", "AWS_ENDPOINT_URL"),
        ({"AWS_REGION": "no region"}, "no region", "AWS_"),
    ],
    ids=["no_credentials", "half_of_them", "profile", "endpoint", "region"],
)
def test_s3_settings_that_are_wrong(
    s3: str, monkeypatch: pytest.MonkeyPatch, env: dict[str, str | None], got: str, fix: str
):
    for name, value in env.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=s3) as caught:
        keys(open_storage(s3))
    assert got in caught.value.got
    assert fix in caught.value.fix


def test_s3_without_rights(s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.stranger_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.stranger_secret)
    store = open_storage(s3)
    for action in (
        lambda: keys(store),
        lambda: store.read("key"),
        lambda: store.download("key", tmp_path / "out"),
        lambda: store.write("key", b"x"),
    ):
        with pytest.raises(StoreError, match="AccessDenied") as caught:
            action()
        assert "rights" in caught.value.fix


def test_s3_puts_the_bucket_into_the_host_name_on_request(s3: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://nohost.invalid:{free_port()}")
    monkeypatch.setenv("DEFECTLINE_S3_PATH_STYLE", "0")
    bucket = urlsplit(s3).netloc
    with pytest.raises(StoreError, match=f"{bucket}.nohost.invalid"):
        keys(open_storage(s3))


def test_s3_skips_the_markers_that_consoles_leave_for_folders(s3: str, s3_server: S3Server):
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.url,
        region_name="us-east-1",
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
    )
    for key in ("lgp/", "lgp/OK/", "lgp/OK/1.png"):
        client.put_object(Bucket=urlsplit(s3).netloc, Key=key, Body=b"")
    assert keys(open_storage(f"{s3}/lgp")) == ["OK/1.png"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("between", ["s3"], indirect=True)
def test_content_that_does_not_fit_its_etag(
    between: tuple[Between, Storage], monkeypatch: pytest.MonkeyPatch
):
    relay, store = between
    store.write("key", b"content of some length")
    relay.faults = [("GET", "flip")]
    assert store.read("key") == b"content of some length"
    # More than it tries: on a slow machine a try may end by its time limit besides.
    relay.faults = [("GET", "flip")] * 12
    with pytest.raises(Corrupt, match="arrives damaged") as caught:
        store.read("key")
    assert "DEFECTLINE_S3_ETAG_MD5=0" in caught.value.fix
    monkeypatch.setenv("DEFECTLINE_S3_ETAG_MD5", "0")
    relay.faults = [("GET", "flip")]
    assert store.read("key") != b"content of some length"


@pytest.mark.parametrize("between", ["s3"], indirect=True)
def test_s3_signs_requests_unless_told_not_to(
    between: tuple[Between, Storage], monkeypatch: pytest.MonkeyPatch
):
    """The relay refuses in place of moto, which has no public buckets while it checks signatures."""
    relay, store = between
    keys(store)
    monkeypatch.setenv("DEFECTLINE_S3_ANONYMOUS", "1")
    relay.faults = [("GET", 403)]
    with pytest.raises(StoreError, match="403"):
        keys(open_storage(store.uri))
    assert relay.signed == [True, False]
