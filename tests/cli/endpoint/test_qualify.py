"""`defectline qualify`"""

import json

from commands import call
from endpoints import plate, serving
from networks import judge_model

from defectline.components.common.bundle import copy_served
from defectline.components.deploy.step import deploy


def test_from_a_study_to_a_report(tmp_path):
    judged = judge_model(tmp_path / "one")
    deploy(judged.folder, str(judged.store), {}, "one")
    copy_served(judged.folder, tmp_path / "served")
    lines = ["image,part,truth,anna"]
    for part, label in enumerate(["OK", "NG"] * 3):
        (tmp_path / f"{part}.png").write_bytes(plate(seed=part, label=label))
        lines.append(f"{part}.png,{part},{label},{label}")
    (tmp_path / "study.csv").write_text("\n".join(lines))
    study, output = tmp_path / "study.csv", tmp_path / "report"
    with serving(tmp_path / "served", tmp_path / "log", name="defects") as running:
        options = ("--url", running.url, "--store", judged.store, "--varied", "1", "-o", output)
        done = call("qualify", study, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "is qualified by this study" in done.stdout
        assert sorted(path.name for path in output.iterdir()) == ["qualification.html", "qualification.pdf"]
        found = json.loads(call("qualify", study, *options, "--json").stdout)
        assert found["qualified"] is True
        study.write_text(
            study.read_text().replace("0.png,0,OK", "0.png,0,NG").replace("1.png,1,NG", "1.png,1,OK")
        )
        wrong = call("qualify", study, *options)
        assert wrong.returncode == 3
        assert "is not qualified" in wrong.stdout


def test_without_an_endpoint_or_a_study(tmp_path):
    (tmp_path / "a.png").write_bytes(plate())
    (tmp_path / "study.csv").write_text("image,part,truth\na.png,1,NG\n")
    output = tmp_path / "report"
    away = call("qualify", tmp_path / "study.csv", "--url", "http://127.0.0.1:9", "-o", output)
    assert away.returncode == 2
    assert "does not answer" in away.stderr
    none = call("qualify", tmp_path / "none.csv", "-o", output)
    assert none.returncode == 2
    assert "none.csv cannot be read" in none.stderr
