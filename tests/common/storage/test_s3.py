"""S3 alone: keys, settings and rights that are wrong, checksums and signatures."""

from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from buckets import Between, keys
from faults import Answer, Rule, answer, faults
from servers import S3Server, free_port

from defectline.components.common.errors import Corrupt, StoreError, Unreadable
from defectline.components.common.storage import Storage, open_storage
from defectline.components.common.storage.s3 import S3Storage


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


@pytest.mark.parametrize("off", ["0", "false", "No"])
def test_s3_puts_the_bucket_into_the_host_name_on_request(s3: str, monkeypatch: pytest.MonkeyPatch, off: str):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://nohost.invalid:{free_port()}")
    monkeypatch.setenv("DEFECTLINE_S3_PATH_STYLE", off)
    bucket = urlsplit(s3).netloc
    with pytest.raises(StoreError, match=f"{bucket}.nohost.invalid"):
        keys(open_storage(s3))


@pytest.mark.parametrize("on", ["1", "true", "Yes"])
def test_s3_puts_the_bucket_into_the_path_on_request(s3: str, monkeypatch: pytest.MonkeyPatch, on: str):
    # Without the setting, Amazon's own endpoint would be asked with the bucket in the host name.
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("DEFECTLINE_S3_PATH_STYLE", on)
    store = open_storage(s3)
    assert isinstance(store, S3Storage)
    url = store._client.generate_presigned_url("head_bucket", {"Bucket": store.bucket})
    assert urlsplit(url).path == f"/{store.bucket}"


def test_s3_an_access_point_is_asked_at_its_own_address(s3: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://nohost.invalid:{free_port()}")
    uri = "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/plates/lgp"
    with pytest.raises(StoreError, match=r"plates-123456789012\.nohost\.invalid") as caught:
        keys(open_storage(uri))
    assert uri in caught.value.what
    assert open_storage(uri).uri == uri


@pytest.mark.parametrize("between", ["s3"], indirect=True)
def test_s3_agrees_to_pay_on_request(between: tuple[Between, Storage], tmp_path: Path, monkeypatch):
    relay, store = between
    store.write("key", b"x")
    assert not any("x-amz-request-payer" in sent for sent in relay.headers)
    monkeypatch.setenv("DEFECTLINE_S3_REQUESTER_PAYS", "true")
    relay.headers.clear()
    paying = open_storage(store.uri)
    paying.write("other", b"x")
    assert keys(paying) == ["key", "other"]
    assert paying.read("key") == b"x"
    paying.download("key", tmp_path / "out")
    assert len(relay.headers) == 5
    for sent in relay.headers:
        assert sent["x-amz-request-payer"] == "requester"
        assert "x-amz-request-payer" in sent["authorization"]


@pytest.mark.parametrize("read", [False, True], ids=["download", "read"])
def test_s3_an_object_in_an_archive(s3: str, s3_server: S3Server, tmp_path: Path, read: bool):
    client = boto3.client("s3", endpoint_url=s3_server.url, region_name="us-east-1")
    client.put_object(Bucket=urlsplit(s3).netloc, Key="key", Body=b"x", StorageClass="GLACIER")
    store = open_storage(s3)
    with pytest.raises(Unreadable, match="InvalidObjectState") as caught:
        store.read("key") if read else store.download("key", tmp_path / "out")
    assert "Restore" in caught.value.fix


SSE_C = (
    "The object was stored using a form of Server Side Encryption. The correct parameters must be provided "
    "to retrieve the object."
)
KMS_DENIED = (
    "User: arn:aws:iam::1:user/x is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:x"
)
KMS_DISABLED = "arn:aws:kms:eu-west-1:1:key/x is disabled."


@pytest.mark.parametrize(
    ("status", "error", "message", "fix"),
    [
        (400, "InvalidRequest", SSE_C, "SSE-C"),
        (403, "AccessDenied", KMS_DENIED, "KMS key"),
        (400, "KMS.DisabledException", KMS_DISABLED, "Enable the KMS key"),
        (400, "KMS.KMSInvalidStateException", "arn is pending deletion.", "KMS key"),
        (403, "AccessDenied", "Access Denied", "DEFECTLINE_S3_REQUESTER_PAYS=1"),
        (403, "AccessDenied", "Access Denied", "access point"),
    ],
)
def test_s3_an_object_that_is_not_given_out(
    s3: str, s3_server: S3Server, tmp_path: Path, monkeypatch, status: int, error: str, message: str, fix: str
):
    """A proxy says what moto does not know: it gives out whatever is encrypted."""
    with faults(s3_server.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = open_storage(s3)
        store.write("key", b"x")
        proxy.rules = [Rule(answer(status, error, message), "GET|HEAD", "key")]
        for action in (lambda: store.read("key"), lambda: store.download("key", tmp_path / "out")):
            with pytest.raises(Unreadable, match=error) as caught:
                action()
            assert fix in caught.value.fix
        # What the whole bucket says is no matter of one object.
        proxy.rules = [Rule(answer(status, error, message), "GET", "^$")]
        with pytest.raises(StoreError, match=error) as caught:
            keys(store)
        assert type(caught.value) is StoreError


PAGE = b"<html><head><title>403</title></head><body><p>ERR_ACCESS_DENIED</body></html>"
SQUID = {"Content-Type": "text/html", "Server": "squid/5.7", "Via": "1.1 proxy.example (squid/5.7)"}


@pytest.mark.parametrize(
    "body", [PAGE, PAGE.replace(b"<p>", b"<p></p>"), b""], ids=["html", "xhtml", "empty"]
)
def test_s3_a_proxy_that_refuses_with_a_page(
    s3: str, s3_server: S3Server, tmp_path: Path, monkeypatch, body: bytes
):
    with faults(s3_server.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = open_storage(s3)
        proxy.rules = [Rule(lambda ask: Answer(403, SQUID, body), ".*", "")]
        for action in (
            lambda: keys(store),
            lambda: store.read("key"),
            lambda: store.write("key", b"x"),
            lambda: store.download("key", tmp_path / "out"),
        ):
            with pytest.raises(StoreError) as caught:
                action()
            assert type(caught.value) is StoreError
            assert "NO_PROXY" in caught.value.fix
            assert "squid" in caught.value.got


def test_s3_a_proxy_that_is_not_there(s3: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(S3Storage, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.invalid")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:hush@127.0.0.1:{free_port()}")
    with pytest.raises(StoreError, match="proxy") as caught:
        keys(open_storage(s3))
    assert "HTTPS_PROXY" in caught.value.fix
    assert "hush" not in str(caught.value)


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
