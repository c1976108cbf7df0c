"""Why a run ended, from its store; else from Kubernetes; else how to find out."""

from pathlib import Path

import kfp_server_api as api
import pytest
from cluster.api import ApiServer

from defectline.components.common.records import Outcome, write_outcome
from defectline.components.common.reporting.step_record import StepError, StepRecord, write_step
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.kfp_server import reasons

RUN = "0f0b8d4e-6f0e-4a3c-9b7e-1c1d1b3a5e77"
ERROR = StepError(what="s3://images cannot be read.", got="404", expected="a bucket", fix="Make it.")


def test_the_outcome_counts_before_what_steps_left(tmp_path: Path):
    store = FolderStorage(tmp_path)
    assert reasons.explain(str(tmp_path), RUN) == ""
    write_step(store, RUN, StepRecord(step="ingest", state="failed", error=ERROR))
    assert reasons.explain(str(tmp_path), RUN) == "failed in ingest: s3://images cannot be read. Got 404."
    assert "Make it." in reasons.detail(str(tmp_path), RUN)
    write_outcome(store, RUN, Outcome(state="failed", reason="stopped in ingest"))
    assert reasons.explain(str(tmp_path), RUN) == "stopped in ingest"


def test_a_step_that_still_runs_is_not_a_reason(tmp_path: Path):
    write_step(FolderStorage(tmp_path), RUN, StepRecord(step="train", state="running", pod="p"))
    assert reasons.explain(str(tmp_path), RUN) == ""


def test_the_store_is_the_one_that_the_run_was_told():
    told = api.V2beta1Run(runtime_config=api.V2beta1RuntimeConfig(parameters={"store": "s3://plates"}))
    assert reasons.find_store(told) == "s3://plates"
    assert reasons.find_store(api.V2beta1Run()) == ""
    # A store that cannot be read from here says nothing, and fails nothing.
    assert reasons.explain("ftp://plates", RUN) == ""
    assert reasons.explain("", RUN) == ""


def test_kubernetes_is_asked_where_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cluster = ApiServer()
    status = {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}
    node = {"workflows.argoproj.io/node-name": "x.root.train.executor(0)"}
    metadata = {"labels": {"pipeline/runid": RUN}, "annotations": node}
    pod = {"metadata": metadata, "spec": {"containers": [{"name": "main"}]}, "status": status}
    cluster.put("pods", "kubeflow", "pod-1", pod)
    with cluster.running():
        cluster.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        assert reasons.ask_kubernetes(RUN, "") == "stopped in train: Evicted: low on memory"
        cluster.denied = {("list", "pods")}
        assert reasons.ask_kubernetes(RUN, "") == ""
