"""`defectline report`"""

import webbrowser

from commands import call

from defectline.components.common.records import Outcome, write_outcome
from defectline.components.common.storage import open_storage


def test_the_latest_is_taken_and_named(factory):
    done = call("report", "--store", factory.store.root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(factory.store.root / "runs/run-3/report.html")
    assert done.stderr == "run run-3, the latest with a report\n"


def test_a_prefix_and_a_copy(factory, tmp_path):
    copy = tmp_path / "copy.html"
    done = call("report", "run-1", "--store", factory.store.root, "-o", copy)
    assert (done.stdout, done.stderr) == (f"{copy}\n", "")
    assert copy.read_bytes() == factory.store.read("runs/run-1/report.html")
    done = call("report", "run", "--store", factory.store.root)
    assert done.returncode == 2
    assert "Several runs begin with run" in done.stderr


def test_a_store_without_reports(tmp_path):
    done = call("report", "--store", tmp_path)
    assert done.returncode == 2
    assert "fix:" in done.stderr


def test_a_machine_without_a_browser(factory, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    done = call("report", "run-1", "--store", factory.store.root, "--open")
    assert done.returncode == 2
    assert done.stdout.strip().endswith("runs/run-1/report.html")
    assert "no browser" in done.stderr


def test_a_store_whose_runs_have_no_report(tmp_path):
    store = open_storage(str(tmp_path / "store"))
    write_outcome(store, "run-1", Outcome(state="failed", reason="interrupted"))
    done = call("report", "--store", tmp_path / "store")
    assert done.returncode == 2
    assert "No run has a report yet." in done.stderr
    assert "1 runs in" in done.stderr
