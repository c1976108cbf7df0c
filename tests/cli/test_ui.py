"""Lines, tables, facts and JSON as they are printed."""

import json

import pytest
import typer

from defectline.cli import ui


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(ui.console, "_width", 40)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.12345, "0.123"), (1.0, "1.000"), (12345, "12,345"), (0, "0")],
)
def test_numbers_as_people_read_them(value, text):
    assert ui.number(value) == text


def test_a_day_is_told_in_utc():
    assert ui.day("2026-11-22T10:15:59+02:00") == "2026-11-22 08:15"
    assert ui.day("") == ""


def test_a_table_has_numbers_on_the_right(capsys):
    ui.table(("name", "count"), [("a", 5), ("b [x]", 1234)], numbers=("count",))
    assert capsys.readouterr().out.splitlines() == ["name   count", "a          5", "b [x]  1,234"]


def test_columns_come_below_where_the_screen_is_narrow(narrow, capsys):
    rows = [("run-1", "deployed", "every rule of the gate passed"), ("run-2", "failed", "")]
    ui.table(("run", "state", "reason"), rows, below=("reason",))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "run    state",
        "run-1  deployed",
        "  every rule of the gate passed",
        "run-2  failed",
    ]


def test_the_gates_rules(capsys):
    ui.gate_table([{"name": "iou", "got": 0.25, "needed": "≥ 0.5", "passed": False, "reason": "too low"}])
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["gate", "got", "needed", "reason"]
    assert line.split() == ["iou", "0.250", "≥", "0.5", "failed", "too", "low"]


def test_facts_leave_out_what_is_empty(capsys):
    ui.facts([("model", "defects"), ("report", ""), ("run", None), ("next", "serve [it]")])
    assert capsys.readouterr().out.splitlines() == ["model defects", "next  serve [it]"]


def test_what_programs_read_is_apart_from_warnings(capsys):
    ui.print_json({"name": "Blech ß", "score": 0.5})
    ui.warn("a file is left out")
    ui.warn("1 of 2 failed", bad=True)
    said = capsys.readouterr()
    assert json.loads(said.out) == {"name": "Blech ß", "score": 0.5}
    assert said.err.splitlines() == ["a file is left out", "1 of 2 failed"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        ui.print_json(float("nan"))


def test_lines_about_what_goes_on(capsys):
    ui.say("epoch [3] of 60")
    ui.note("in brackets [x]")
    assert capsys.readouterr().out.splitlines() == ["▸ epoch [3] of 60", "in brackets [x]"]


def test_an_internal_error_is_told_with_its_log(tmp_path, capsys):
    from defectline.pipeline.local import RunFailed

    log = tmp_path / "log.txt"
    log.write_text("Traceback [x]\nKeyError: 'a'\n")
    with pytest.raises(typer.Exit) as ended:
        ui.end_failed(RunFailed(log, tmp_path / "fault.txt"))
    assert ended.value.exit_code == 1
    *detail, last = capsys.readouterr().out.splitlines()
    assert detail == ["Traceback [x]", "KeyError: 'a'"]
    assert str(log) in last


def test_no_bar_where_there_is_no_terminal(capsys):
    with ui.progress("inspecting", 2) as advance:
        advance()
    assert capsys.readouterr() == ("", "")
