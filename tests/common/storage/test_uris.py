"""What people write to name a place."""

from pathlib import Path

import pytest

from defectline.components.common.errors import SettingsError
from defectline.components.common.storage import open_storage
from defectline.components.common.storage.uris import read_uri

POINT = "arn:aws:s3:eu-west-1:123456789012:accesspoint/plates"
ALIAS = "plates-abcdefghijklmnopqrstuvwxyz0123456-s3alias"


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("s3://b", ("s3", "b", "")),
        ("s3://b/p/q/", ("s3", "b", "p/q/")),
        ("S3://b/P", ("s3", "b", "P")),
        ("GS://b/p", ("gs", "b", "p")),
        ("s3://b/p#1", ("s3", "b", "p#1")),
        ("s3://b/50%25", ("s3", "b", "50%25")),
        ("s3://b/a b", ("s3", "b", "a b")),
        ("s3://b/ask?x=1&y=2", ("s3", "b", "ask?x=1&y=2")),
        ("s3://b/why?", ("s3", "b", "why?")),
        ("s3://b/a:b@c", ("s3", "b", "a:b@c")),
        (f"s3://{POINT}", ("s3", POINT, "")),
        (f"s3://{POINT}/p/q", ("s3", POINT, "p/q")),
        (f"s3://{POINT.replace('accesspoint/', 'accesspoint:')}/p", ("s3", POINT[:-7] + ":plates", "p")),
        (f"s3://{ALIAS}/p", ("s3", ALIAS, "p")),
        ("file:///data/a%20b", ("file", "", "/data/a b")),
        ("FILE://localhost/data", ("file", "", "/data")),
        ("file:/data", ("file", "", "/data")),
        ("data/plates", ("file", "", "data/plates")),
        ("data:2024/plates", ("file", "", "data:2024/plates")),
        ("/data/why?region=x", ("file", "", "/data/why?region=x")),
    ],
)
def test_places(uri: str, place: tuple[str, str, str]):
    assert read_uri(uri) == place


@pytest.mark.parametrize(
    ("uri", "what", "fix"),
    [
        ("", "empty", "Name one"),
        ("s3://", "names no bucket", "Put the bucket"),
        ("s3:///p", "names no bucket", "Put the bucket"),
        ("s3://b/p ", "spaces at its ends", "Remove"),
        (" s3://b/p", "spaces at its ends", "Remove"),
        ("s3://b/p\n", "line break", "Remove"),
        ("gs://b/p\r\n", "line break", "Remove"),
        ("data\n", "line break", "Remove"),
        ("s3:/b/p", "scheme", "Write s3://bucket/prefix"),
        ("s3:b/p", "scheme", "Write s3://bucket/prefix"),
        ("s3:\\\\b\\p", "scheme", "Write s3://bucket/prefix"),
        ("s3a://b/p", "scheme", "Write s3://"),
        ("gcs://b/p", "scheme", "Write gs://"),
        ("hdfs://b/p", "scheme", "Use one of these"),
        ("minio://b/p", "scheme", "AWS_ENDPOINT_URL"),
        ("https://b.s3.amazonaws.com/p", "scheme", "Write s3://"),
        ("arn:aws:s3:::b/p", "scheme", "Write s3://"),
        (POINT, "scheme", f"Write s3://{POINT}."),
        ("s3://arn:aws:s3:::b/p", "access point", "Write s3://b/p"),
        ("s3://b\\p", "backslash", "Write s3://b/p"),
        ("gs://b/p\\q", "backslash", "Write gs://b/p/q"),
        ("s3://b//p", "two slashes", "Write s3://b/p"),
        ("s3://minio:9000/b/p", "more than a bucket's name", "AWS_ENDPOINT_URL"),
        ("s3://b/p?region=eu-west-1", "query", "AWS_REGION"),
        (
            "s3://b?endpoint=http://minio:9000&disableSSL=true&s3ForcePathStyle=true",
            "query",
            "AWS_ENDPOINT_URL",
        ),
        ("s3://b/p?Endpoint_Override=x", "query", "AWS_ENDPOINT_URL"),
        ("s3://b/p?s3ForcePathStyle=true", "query", "DEFECTLINE_S3_PATH_STYLE"),
        ("s3://b/p?requester_pays=true", "query", "DEFECTLINE_S3_REQUESTER_PAYS"),
        ("gs://b/p?userProject=x", "query", "DEFECTLINE_GCS_USER_PROJECT"),
        ("s3://b/p?versionId=x", "query", "Remove it."),
        ("file://host/x", "names a host", "file:///host/x"),
    ],
)
def test_what_is_wrong_is_said_with_the_fix(uri: str, what: str, fix: str):
    with pytest.raises(SettingsError, match=what) as caught:
        open_storage(uri)
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "s3://AKIA1:HUSH@b/p",
            "s3://AKIA1:HU/HUSH@b/p",
            "s3://HUSH@b/p",
            "gs://u:HUSH@b",
            "ftp://u:HUSH@b/p",
        ),
        *("s3://AKIA1:HU/HUSH@b/p\n", "https://u:HU/HUSH@host/b", "s3://AKIA1:HU/HUSH@b/p?region=x"),
        *("https://b.s3.amazonaws.com/p?X-Amz-Signature=HUSH&x=1", "s3://b/p?X-Amz-Signature=HUSH"),
        *("s3://b/p?access_key=HUSH&secret_key=HUSH", "gs://b/p?GoogleAccessId=x&Expires=1&Signature=HUSH"),
        *("s3://b/p?Signature=HUSH", "s3://b/p?session_token=HUSH"),
    ],
)
def test_keys_in_a_location_are_refused_and_not_told(uri: str):
    with pytest.raises(SettingsError) as caught:
        open_storage(uri)
    assert "HUSH" not in str(caught.value)


def test_a_folder_with_an_odd_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("plates ", "s3:plates", "a\nb", "100% ok?x=1#2"):
        Path(name).mkdir()
        (Path(name) / "file").write_bytes(name.encode())
        assert open_storage(name).read("file") == name.encode()
