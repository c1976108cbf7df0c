"""The port of the S3 server; what network policies do with it is tested in tests/pipeline/test_doctor.py."""

import pytest

from defectline.components.deploy.store_port import port_of


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("", 443),
        ("https://s3.example.com", 443),
        ("https://s3.example.com:443/", 443),
        ("http://s3.example.com", 80),
        ("https://minio:9000", 9000),
        ("http://[fd00::1]:9000/path", 9000),
        ("http://[fd00::1]", 80),
        ("https://minio:port", 443),
    ],
)
def test_the_port_that_a_url_leads_to(endpoint: str, port: int):
    assert port_of(endpoint) == port
