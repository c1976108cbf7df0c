"""What the pods of a compiled pipeline need."""

import pytest

from defectline.components.common.errors import SettingsError
from defectline.pipeline.compiling import compile_pipeline
from defectline.pipeline.needs import read_needs
from defectline.pipeline.targets import S3_KEYS, Target


def test_secrets_with_their_keys(tmp_path):
    kserve = {"namespace": "vision", "service_account": "server"}
    target = Target("kubeflow", kserve, s3_secret="s3", gcs_secret="gcs", pull_secret="login")
    compile_pipeline(tmp_path / "a.yaml", None, target)
    needs = read_needs(tmp_path / "a.yaml")
    assert needs.secrets == {"s3": set(S3_KEYS), "gcs": {"key.json"}, "login": set()}
    assert kserve.items() <= needs.kserve.items()
    assert needs.endpoint == ""


def test_nothing_where_the_pods_have_rights_themselves(tmp_path):
    target = Target("kubeflow", s3_endpoint="http://minio:9000")
    compile_pipeline(tmp_path / "a.yaml", None, target)
    needs = read_needs(tmp_path / "a.yaml")
    assert (needs.secrets, needs.kserve, needs.endpoint) == ({}, {}, "http://minio:9000")


def test_what_is_not_compiled(tmp_path):
    (tmp_path / "a.yaml").write_text("root: {}")
    with pytest.raises(SettingsError):
        read_needs(tmp_path / "a.yaml")
