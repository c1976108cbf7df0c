"""`defectline qualify`"""

import json

import pytest
from commands import call
from endpoints import plate, post, serving, wait_for_metric
from networks import judge_model

from defectline.components.common.bundle import copy_served
from defectline.components.common.review import frame_id
from defectline.components.common.storage import open_storage
from defectline.components.deploy.step import deploy
from defectline.pipeline.catalog.review import list_frames


def test_from_a_study_to_a_report(tmp_path):
    judged = judge_model(tmp_path / "one")
    deploy(judged.folder, str(judged.store), {}, "one")
    copy_served(judged.folder, tmp_path / "served")
    lines = ["image,part,truth,anna"]
    for part, label in enumerate(["OK", "NG"] * 3):
        (tmp_path / f"{part}.png").write_bytes(plate(seed=100 + part, label=label))
        lines.append(f"{part}.png,{part},{label},{label}")
    (tmp_path / "study.csv").write_text("\n".join(lines))
    study, output = tmp_path / "study.csv", tmp_path / "report"
    kept, known = tmp_path / "kept", next((tmp_path / "one/source/OK").iterdir())
    review = ("--review", str(kept), "--review_share", "1")
    with serving(tmp_path / "served", tmp_path / "log", *review, name="defects") as running:
        options = ("--url", running.url, "--store", judged.store, "--varied", "1", "-o", output)
        done = call("qualify", study, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "is qualified by this study" in done.stdout
        assert "WARNING" not in done.stderr
        assert sorted(path.name for path in output.iterdir()) == ["qualification.html", "qualification.pdf"]
        found = json.loads(call("qualify", study, *options, "--json").stdout)
        assert (found["qualified"], found["warnings"]) == (True, [])
        study.write_text(
            study.read_text().replace("0.png,0,OK", "0.png,0,NG").replace("1.png,1,NG", "1.png,1,OK")
            # A picture that the model knows, twice: by its whole path, and by one from the study's folder.
            + f"\n{known},6,OK,OK\none/source/OK/{known.name},7,OK,OK"
        )
        wrong = call("qualify", study, *options)
        assert wrong.returncode == 3
        # One more, which is kept after all that came before, shows that nothing of these was.
        frame = plate(seed=99)
        post(f"{running.url}/v1/models/defects:predict", frame, "image/png")
        wait_for_metric(running.url, "defectline_review_written_total", 1)
    assert "is not qualified" in wrong.stdout
    assert wrong.stderr.count("WARNING: ") == 2
    assert f"1 picture is given more than once ({known.name} and {known.name})" in wrong.stderr
    assert f"on 2 of these 8 pictures ({known.name}, {known.name})" in wrong.stderr
    assert (output / "qualification.html").read_text().count('"warning">Warning: ') == 2
    assert [one.frame.id for one in list_frames(open_storage(str(kept)), "defects", pytest.fail)] == [
        frame_id(frame)
    ]


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
