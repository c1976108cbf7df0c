"""Runs on this machine, in a process of their own."""

import json
import os

from defectline.pipeline.local import StepReport, _read_reports


def test_the_shards_of_a_step_are_one_line_of_the_table(tmp_path):
    reports = tmp_path / "reports"
    reports.mkdir()
    (tmp_path / "started").touch()
    os.utime(tmp_path / "started", (0, 0))
    ended = [("ingest", "ingest", 2), ("preprocess-1", "preprocess", 3), ("preprocess-0", "preprocess", 7)]
    for file, name, second in [*ended, ("train", "train", 9)]:
        (reports / f"{file}.json").write_text(json.dumps({"step": name, "seconds": 1, "summary": file}))
        os.utime(reports / f"{file}.json", (second, second))
    assert _read_reports(tmp_path, reports) == [
        StepReport("ingest", 2, "ingest"),
        StepReport("preprocess", 5, "preprocess-1; preprocess-0"),
        StepReport("train", 2, "train"),
    ]
