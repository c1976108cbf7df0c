"""What a bad start gets: one clear message, exit status 2, no traceback, store and champion as before."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bundles import make_bundle
from commands import contents, defectline

from defectline.components.common.images.sample import generate_samples
from defectline.components.common.ports import free_port
from defectline.components.common.records import Outcome
from defectline.components.common.storage.folder import FolderStorage


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "samples"
    generate_samples(folder, pairs=24, size=64)
    return folder


@pytest.fixture
def store(tmp_path) -> Path:
    """A store with a champion, which every bad start must leave alone."""
    folder = tmp_path / "store"
    bundle = make_bundle(tmp_path / "bundle")
    shutil.copytree(tmp_path / "bundle", folder / "models/defects" / bundle.version)
    FolderStorage(folder).write(
        "models/defects/current.json", f'{{"version": "{bundle.version}", "run": "first"}}'.encode()
    )
    return folder


def refused(store: Path, *arguments: str | Path, env=None, says: tuple[str, ...]) -> None:
    """Run a command that must be refused, and check what the user then has."""
    models = contents(store / "models")
    done = defectline(*arguments, env=env)
    output = done.stdout + done.stderr
    assert done.returncode == 2, output
    assert "Traceback" not in output
    for part in ("got:", "expected:", "fix:", *says):
        assert part in output
    assert contents(store / "models") == models
    assert not list(store.glob("snapshots/head.json"))


def run(store: Path, source: str | Path, *arguments: str, env=None, says: tuple[str, ...]) -> None:
    refused(store, "run", "--source", source, "--store", store, *arguments, env=env, says=says)


def test_missing_source(store, tmp_path):
    run(store, tmp_path / "nowhere", says=("nowhere", "no such folder"))
    (outcome,) = store.glob("runs/*/outcome.json")
    assert Outcome.model_validate_json(outcome.read_text()).state == "failed"
    assert "nowhere cannot be read" in outcome.read_text()


def test_empty_source(store, tmp_path):
    (tmp_path / "empty").mkdir()
    run(store, tmp_path / "empty", says=("The source is empty", "a folder OK/"))


def test_wrong_layout(store, tmp_path):
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/picture.png").write_bytes(b"x")
    run(store, tmp_path / "flat", says=("another layout", "1 file, picture.png"))


def test_class_without_images(store, tmp_path, pairs):
    shutil.copytree(pairs, tmp_path / "half")
    shutil.rmtree(tmp_path / "half/OK")
    run(store, tmp_path / "half", says=("The class OK has no images",))


def test_too_few_pairs(store, tmp_path):
    generate_samples(tmp_path / "few", pairs=8, size=64)
    run(store, tmp_path / "few", says=("too few usable", "at least 6"))


def test_too_many_rejected(store, tmp_path, pairs):
    shutil.copytree(pairs, tmp_path / "bad")
    for mask in list((tmp_path / "bad/NG_MSK").iterdir())[:6]:
        mask.write_bytes(b"broken")
    run(store, tmp_path / "bad", says=("6 of 24 pairs are unusable", "quarantine.csv", "max_rejected"))
    assert len(list(store.glob("runs/*/quarantine.csv"))) == 1


def test_unknown_scheme(store):
    run(store, "ftp://host/images", says=("ftp://", "s3://"))


def test_unknown_parameter(store, pairs):
    run(store, pairs, "--set", "epoch=3", says=("no parameter epoch", "Did you mean epochs?"))


def test_parameter_out_of_range(store, pairs):
    run(store, pairs, "--set", "image_size=100", says=("image_size", "100", "multiple of 32"))


def test_wrong_s3_credentials(store, s3_server):
    env = {**s3_server.env, "AWS_SECRET_ACCESS_KEY": "wrong"}
    run(store, f"s3://{s3_server.new_bucket()}/images", env=env, says=("SignatureDoesNotMatch",))


def test_no_s3_rights(store, s3_server):
    stranger = {
        "AWS_ACCESS_KEY_ID": s3_server.stranger_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.stranger_secret,
    }
    env = {**s3_server.env, **stranger}
    run(store, f"s3://{s3_server.new_bucket()}/images", env=env, says=("AccessDenied",))


def test_missing_bucket(store, s3_server, gcs_server):
    run(store, "s3://no-such-bucket/images", env=s3_server.env, says=("no-such-bucket",))
    run(store, "gs://no-such-bucket/images", env=gcs_server.env, says=("no-such-bucket",))


def test_host_that_does_not_answer(store, s3_server):
    env = {**s3_server.env, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    env["AWS_ENDPOINT_URL_S3"] = env["AWS_ENDPOINT_URL"]
    run(store, "s3://bucket/images", env=env, says=("127.0.0.1",))


def test_store_that_cannot_be_written(store, pairs, tmp_path):
    # Rights do not stop root, a file in the way does.
    (tmp_path / "file").write_text("in the way")
    refused(
        store,
        "run",
        "--source",
        pairs,
        "--store",
        tmp_path / "file/store",
        says=("store", "cannot be written"),
    )


def test_store_bucket_missing(store, pairs, s3_server):
    arguments = ("run", "--source", pairs, "--store", "s3://no-such-bucket/store")
    refused(store, *arguments, env=s3_server.env, says=("no-such-bucket",))


def test_two_runs_at_once(store, pairs):
    script = (
        "import sys, time; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); time.sleep(600)"
    )
    lock = store / ".run.lock"
    holder = subprocess.Popen([sys.executable, "-c", script, lock], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        run(store, pairs, says=("Another run uses this store", "one run at a time"))
    finally:
        holder.kill()
        holder.wait()


def test_taken_port(store, tmp_path):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(store, "serve", "--store", store, "--port", str(port), says=(f"Port {port} cannot be used",))


def test_nothing_to_serve(tmp_path):
    done = defectline("serve", "--store", tmp_path)
    assert done.returncode == 2
    assert "There is no model defects to serve" in done.stderr


def test_damaged_records(store, pairs):
    (store / "models/defects/current.json").write_text("{")
    refused(store, "serve", "--store", store, says=("current.json is damaged",))
    (store / "snapshots").mkdir()
    (store / "snapshots/head.json").write_text("{")
    done = defectline("run", "--source", pairs, "--store", store)
    assert done.returncode == 2
    assert "head.json is damaged" in done.stderr


def test_a_cluster_cannot_reach_a_folder(store, pairs):
    arguments = ("submit", "--host", "http://127.0.0.1:9", "--source", pairs, "--store", store)
    refused(store, *arguments, says=("A cluster cannot reach the source",))


def test_a_killed_run_leaves_no_lock_and_no_process(store, pairs):
    command = [Path(sys.executable).with_name("defectline"), "run", "--source", pairs, "--store", store]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any("ingest: snapshot" in line for line in process.stdout)
    process.kill()
    process.wait()
    # The steps' processes notice that their parent has gone.
    deadline = time.monotonic() + 30
    while _working_on(store) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _working_on(store)
    (store / "snapshots/head.json").unlink()
    run(store, store / "nowhere", says=("no such folder",))


def test_an_interrupted_run_says_so_and_has_an_outcome(store, pairs):
    command = [Path(sys.executable).with_name("defectline"), "run", "--source", pairs, "--store", store]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any("ingest: snapshot" in line for line in process.stdout)
    process.terminate()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "interrupted" in said
    (outcome,) = store.glob("runs/*/outcome.json")
    assert Outcome.model_validate_json(outcome.read_text()).reason == "interrupted"
    assert not _working_on(store)


def _working_on(store: Path) -> list[str]:
    import psutil

    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(store) in command or store.as_uri() in command:
            found.append(command)
    return found


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_a_source_is_looked_at_before_anything_else(store, tmp_path, place):
    (tmp_path / "empty").mkdir()
    says = {"nowhere": ("no such folder",), "empty": ("The source is empty.", "OK_MSK/")}[place]
    run(store, tmp_path / place, says=says)


@pytest.mark.parametrize("command", [("run", "--source"), ("crossval",)])
@pytest.mark.parametrize("setting", ["encoder_weights", "init_from"])
def test_weights_are_looked_for_before_anything_is_read(store, pairs, command, setting):
    arguments = (pairs, "--store", store, "--set", f"{setting}=/nosuch.keras")
    refused(
        store, *command, *arguments, says=(f"The file of {setting} is missing", "no file at /nosuch.keras")
    )


def test_a_source_is_no_store(store, pairs):
    before = contents(pairs)
    done = defectline("run", "--source", pairs, "--store", pairs)
    assert done.returncode == 2
    assert "Store and source are the same" in done.stdout + done.stderr
    assert contents(pairs) == before
