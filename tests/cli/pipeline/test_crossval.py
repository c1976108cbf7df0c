"""`defectline crossval`: its table. The folds are tested in tests/pipeline/crossval/."""

import json

import pytest
from commands import call
from counts import answers
from kfp_api import KfpApi, running
from pictures import write_source

from defectline.components.common.layout import COUNTS, run_key
from defectline.components.common.storage import open_storage
from defectline.components.evaluate.collecting import Judged
from defectline.components.ingest.step import ingest
from defectline.pipeline.crossval import validate
from defectline.pipeline.crossval.validate import folds_of_head
from defectline.pipeline.kfp_server import following
from defectline.pipeline.local import RunFailed
from defectline.pipeline.parameters import parse


def judged(*seeds: int) -> list[Judged]:
    """With each seed an image more is judged wrong."""
    made = []
    for number, seed in enumerate(seeds):
        letters = "w" * number + "r" * (4 - number)
        made.append(Judged(seed, [*answers("OK", "rrrr"), *answers("NG", letters)]))
    return made


@pytest.fixture
def asked(monkeypatch) -> list[tuple[int, list[int], int]]:
    """Folds, seeds and workers of each call."""
    found = []

    def cross_validate(parameters, folds, seeds, say, workers):
        found.append((folds, list(seeds), workers))
        return judged(*seeds)

    monkeypatch.setattr(validate, "cross_validate", cross_validate)
    return found


def test_a_line_a_seed_with_mean_and_spread(tmp_path, asked):
    done = call("crossval", tmp_path, "--folds", "2", "--seeds", "2", "--set", "seed=5", "--workers", "3")
    assert done.returncode == 0, done.stderr
    assert asked == [(2, [5, 6], 3)]
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = {line[0]: line for line in lines[:5] if line[0] in ("5", "6", "mean", "spread")}
    assert [len(row) for row in rows.values()] == [8] * 4
    # Escape is the last but one.
    assert [row[-2] for row in rows.values()] == ["0.000", "0.250", "0.125", "0.177"]
    assert "seed 5, wrong or missed of 8 pictures: none" in done.stdout
    assert "seed 6, wrong or missed of 8 pictures: NG/0 (0.50)" in done.stdout
    assert "all figures file://" in done.stdout
    assert "crossval/index.html" in done.stdout


def test_a_source_is_an_argument_or_an_option(tmp_path, asked):
    assert call("crossval", "--source", tmp_path).returncode == 0
    assert call("crossval", tmp_path, "--source", tmp_path).returncode == 0
    two = call("crossval", tmp_path, "--source", tmp_path / "other")
    assert (two.returncode, "two sources" in two.stderr) == (2, True)
    none = call("crossval")
    assert (none.returncode, "source" in none.stderr) == (2, True)
    assert len(asked) == 2


def test_the_store_of_runs_is_not_taken_and_that_is_told(tmp_path, asked, monkeypatch):
    file = tmp_path / "plates.yaml"
    file.write_text("source: s3://plates/a\nstore: s3://plates/store\n")
    told = "the folds are kept in ./crossval: DEFECTLINE_STORE and the store in --config are those of runs"
    assert told in call("crossval", "--config", file).stdout
    assert told not in call("crossval", "--config", file, "--store", tmp_path).stdout
    assert told not in call("crossval", tmp_path).stdout
    done = call("crossval", "--config", file, "--host", "http://localhost:1")
    assert done.returncode == 2
    assert "cannot reach the store" in done.stderr
    assert "--store. DEFECTLINE_STORE and the store in --config are those of runs" in done.stderr
    monkeypatch.setenv("DEFECTLINE_STORE", "s3://plates/store")
    assert told in call("crossval", tmp_path).stdout


def test_one_seed_has_no_spread(tmp_path, asked):
    done = call("crossval", tmp_path)
    assert "spread  " not in done.stdout
    assert asked == [(4, [0], 1)]


def test_an_internal_error_is_told_with_its_log(tmp_path, monkeypatch):
    log = tmp_path / "log.txt"
    log.write_text("KeyError: 'a'\n")

    def fails(*_):
        raise RunFailed(log, tmp_path / "fault.txt")

    monkeypatch.setattr(validate, "cross_validate", fails)
    done = call("crossval", tmp_path)
    assert done.returncode == 1
    assert "KeyError: 'a'" in done.stdout


def test_on_a_server_the_table_is_of_what_the_store_has(tmp_path, s3_server, monkeypatch):
    # A run of the stand-in ends with the next look.
    monkeypatch.setattr(following.time, "sleep", lambda seconds: None)
    for key, value in s3_server.env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(tmp_path)
    store = open_storage(f"s3://{s3_server.new_bucket()}/store")
    ingest(str(write_source(tmp_path / "source", range(14))), store.uri)
    options = ["--source", "s3://plates/a", "--store", store.uri, "--folds", "2", "--set", "epochs=3"]
    parameters = parse("s3://plates/a", store.uri, ["epochs=3"])
    for fold in folds_of_head(store, parameters, 2, range(1), print):
        counts = [*answers("OK", "rrrr"), *answers("NG", "rrrw")]
        store.write(run_key(fold.run, COUNTS), json.dumps([one._asdict() for one in counts]).encode())
    done = call("compile", "--what", "crossval", "--gpus", "0", "-o", "crossval.yaml", "--parallel", "2")
    assert done.returncode == 0, done.stderr
    with running(KfpApi()) as server:
        done = call("crossval", "--host", server.host, *options, "--workers", "3")
        assert "--workers is for folds on this machine: with --host it does nothing" in done.stdout
        assert done.returncode == 0, done.stdout + done.stderr
        (body,) = server.bodies("/runs")
        assert "seed 0, wrong or missed of 16 pictures: NG/3 (0.50), NG/3 (0.50)" in done.stdout
        given = body["runtime_config"]["parameters"]
        assert (given["folds"], given["seeds"], given["epochs"]) == (2, 1, 3)
        here = call("crossval", "--host", server.host, "--source", tmp_path / "source", "--store", store.uri)
        assert (here.returncode, "cannot reach the source" in here.stderr) == (2, True)
        wrong = call("crossval", "--host", server.host, *options, "--package", "nosuch.yaml")
        assert (wrong.returncode, "no compiled pipeline" in wrong.stderr) == (2, True)
        server.script = (("RUNNING", {"ingest": "RUNNING"}), ("FAILED", {"ingest": "FAILED"}))
        failed = call("crossval", "--host", server.host, *options)
        assert failed.returncode == 1
        assert "ended, failed" in failed.stdout


@pytest.mark.parametrize(
    ("option", "what"),
    [
        (("--gitops", "objects.yaml"), "not written as Kubernetes objects"),
        (("--nodes", "2"), "train on one node each"),
    ],
)
def test_what_a_compiled_cross_validation_cannot_do(tmp_path, monkeypatch, option, what):
    monkeypatch.chdir(tmp_path)
    done = call("compile", "--what", "crossval", "-o", "crossval.yaml", *option)
    assert (done.returncode, what in done.stderr) == (2, True)
    assert not any(tmp_path.iterdir())
