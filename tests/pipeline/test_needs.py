"""What a compiled pipeline needs: secrets for its pods, and a model's name that KServe can serve."""

import json
from pathlib import Path

import pytest
from cluster.api import ApiServer

from defectline.components.common.errors import SettingsError
from defectline.pipeline.compiling import compile_pipeline
from defectline.pipeline.needs import check_name, read_needs
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


LONG = "n" * 30
"""A namespace's name, with which a model's may have 12 characters."""


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster can be asked."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("name", "kserve", "got"),
    [
        ("a" * 39, {"namespace": "line"}, "39 characters"),
        ("a" * 37, {"namespace": "vision", "deployment_mode": "Knative"}, "37 characters"),
        ("a" * 13, {"namespace": LONG}, f"{'a' * 13}-candidate-predictor-{LONG}, 64 characters"),
    ],
)
def test_a_name_that_kserve_cannot_serve_is_refused(nowhere, name, kserve, got):
    with pytest.raises(SettingsError) as caught:
        check_name(name, kserve)
    assert got in caught.value.got
    assert "--name" in caught.value.fix
    check_name(name[:-1], kserve)


def test_a_name_that_nothing_keeps_from_being_served(nowhere):
    check_name("a" * 40, {})  # on this machine
    check_name("a" * 13, {"namespace": LONG, "deployment_mode": "Knative"})


def test_kserves_own_template_for_hosts_counts_where_the_cluster_can_be_asked(tmp_path, monkeypatch):
    api = ApiServer()
    config = {"domainTemplate": "{{ .Name }}.{{ .Namespace }}.{{ .IngressDomain }}"}
    api.put("configmaps", "kserve", "inferenceservice-config", {"data": {"ingress": json.dumps(config)}})
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with api.running():
        api.write_kubeconfig(tmp_path / "kubeconfig")
        check_name("a" * 13, {"namespace": LONG})
        api.denied = {("get", "configmaps")}
        with pytest.raises(SettingsError, match="KServe cannot make a host name"):
            check_name("a" * 13, {"namespace": LONG})
