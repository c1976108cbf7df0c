"""Which errors of S3 servers pass by themselves."""

import pytest
from botocore import exceptions as boto

from defectline.components.common.storage.s3_errors import BUSY, DENIED, passes, remedy


def client_error(status: int, code: str) -> boto.ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(answer, "PutObject")


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "InternalError"), (503, "SlowDown"), (429, "429"), (400, "RequestTimeout"), (403, "Throttling")],
)
def test_a_server_that_wants_to_be_asked_later(status: int, code: str):
    assert passes(client_error(status, code))
    assert remedy(client_error(status, code)) == BUSY


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (404, "NoSuchBucket"), (404, "NoSuchKey"), (412, "PreconditionFailed")],
)
def test_what_the_user_must_fix_does_not_pass(status: int, code: str):
    assert not passes(client_error(status, code))
    assert remedy(client_error(403, "AccessDenied")) == DENIED


def test_connections():
    url = "http://s3.example.com"
    assert passes(boto.EndpointConnectionError(endpoint_url=url))
    assert passes(boto.ConnectTimeoutError(endpoint_url=url))
    assert passes(boto.SSLError(endpoint_url=url, error="UNEXPECTED_EOF_WHILE_READING"))
    assert not passes(boto.SSLError(endpoint_url=url, error="CERTIFICATE_VERIFY_FAILED: self-signed"))
    assert not passes(boto.NoCredentialsError())
    assert not passes(boto.ParamValidationError(report="no such parameter"))
