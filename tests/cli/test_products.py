"""Several products by one command."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from commands import call
from kfp_api import KfpApi, running

from defectline.cli import app
from defectline.cli.products import SEVERAL_BY, EachProduct
from defectline.pipeline.kfp_server import following, schedules

RUNS, SCHEDULES = "/runs", "/recurringruns"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpApi]:
    monkeypatch.setattr(following.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(schedules, "SETTLE_S", 0)
    with running(KfpApi()) as server:
        yield server


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """A folder of three products in one store."""
    folder = tmp_path / "products"
    folder.mkdir()
    for name in ("caps", "lids", "plates"):
        write(folder, name)
    return folder


def write(folder: Path, name: str, text: str = "parameters: {epochs: 3}\n") -> None:
    store = "store: s3://plates/store\n"
    (folder / f"{name}.yaml").write_text(f"source: s3://plates/{name}\n{store}name: {name}\n{text}")


def started(server: KfpApi) -> list[tuple[str, str]]:
    found = [body["runtime_config"]["parameters"] for body in server.bodies(RUNS)]
    return [(one["model_name"], one["source"]) for one in found]


def test_a_folder_starts_a_run_a_product(server, package, products):
    done = call("submit", "--host", server.host, "--package", package, "--config", products)
    assert done.returncode == 0, done.stderr
    assert started(server) == [(name, f"s3://plates/{name}") for name in ("caps", "lids", "plates")]
    assert [body["runtime_config"]["parameters"]["epochs"] for body in server.bodies(RUNS)] == [3, 3, 3]
    assert f"lids ({products / 'lids.yaml'})" in done.stderr


def test_all_are_started_before_the_first_is_waited_for(server, package, products):
    files = [f"--config={products / name}.yaml" for name in ("lids", "caps")]
    done = call("submit", "--host", server.host, "--package", package, *files, "--wait")
    assert done.returncode == 0, done.stderr
    assert [name for name, _ in started(server)] == ["lids", "caps"]
    assert done.stdout.count("ended, done") == 2
    assert done.stdout.rindex("run lids 2") > done.stdout.index("run caps 2")


def test_the_others_go_on_where_one_cannot(server, package, products):
    write(products, "lids", "parameters: {epoch: 3}\n")
    write(products, "a" * 39)
    done = call("submit", "--host", server.host, "--package", package, "--config", products)
    assert done.returncode == 2
    assert [name for name, _ in started(server)] == ["caps", "plates"]
    assert f"{products / 'lids.yaml'}: There is no key parameters.epoch" in done.stderr
    assert "KServe cannot serve a model called" in done.stderr
    assert "2 of 4 products went well" in done.stderr


def test_a_run_that_fails_is_told_by_the_exit_status(server, package, products):
    server.script = (("RUNNING", {"ingest": "RUNNING"}), ("FAILED", {"ingest": "FAILED"}))
    done = call("submit", "--host", server.host, "--package", package, "--config", products, "--wait")
    assert done.returncode == 1
    assert "0 of 3 products went well" in done.stderr


def test_the_same_product_twice_starts_nothing(server, package, products):
    (products / "z.yaml").write_text((products / "caps.yaml").read_text())
    done = call("submit", "--host", server.host, "--package", package, "--config", products)
    assert done.returncode == 2
    assert "are the same product" in done.stderr
    assert not started(server)
    one_name = ("--config", products, "--name", "caps")
    assert call("submit", "--host", server.host, "--package", package, *one_name).returncode == 2
    assert call("submit", "--host", server.host, "--config", products.parent / "no").returncode == 2


def test_schedules_are_spread_by_name(server, package, products):
    apply = ["schedule", "apply", "--host", server.host, "--package", package, "--config", products]
    done = call(*apply, "--cron", "0 22 * * *", "--spread", "120")
    assert done.returncode == 0, done.stderr
    crons = {
        body["display_name"]: body["trigger"]["cron_schedule"]["cron"] for body in server.bodies(SCHEDULES)
    }
    assert crons.keys() == {"caps", "lids", "plates"}
    assert len(set(crons.values())) == 3
    assert all(cron.split()[2] in ("22", "23") for cron in crons.values())
    assert "one of 120 by its name" in done.stderr
    assert call(*apply, "--cron", "0 22 * * *", "--spread", "120").returncode == 0
    assert len(server.bodies(SCHEDULES)) == 3
    assert call(*apply, "--cron", "0 22 * * *", "--spread", "0").returncode == 0
    assert {body["trigger"]["cron_schedule"]["cron"] for body in server.bodies(SCHEDULES)[3:]} == {
        "0 0 22 * * *"
    }


ONE_FILE = ("run", "crossval", "tune", "compile")


@pytest.mark.parametrize("command", ONE_FILE)
def test_what_is_for_one_product_refuses_several_files(products, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    two = ("--config", products / "caps.yaml", f"--config={products / 'lids.yaml'}")
    for options in (two, ("--config", products)):
        done = call(command, *options)
        assert done.returncode == 2
        assert f"{command}` reads one file of settings" in done.stderr
        assert "schedule apply, status and models" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["products"]


def test_the_commands_that_take_several_files_are_told():
    found = typer.main.get_command(app).commands
    commands = found | {f"schedule {name}": one for name, one in found["schedule"].commands.items()}
    takes = {
        name: isinstance(command, EachProduct) or one.multiple
        for name, command in commands.items()
        for one in command.params
        if "--config" in one.opts
    }
    assert {name for name, several in takes.items() if several} == set(SEVERAL_BY)
    assert {name for name, several in takes.items() if not several} >= set(ONE_FILE)


def test_status_and_models_are_one_table_over_all(factory, tmp_path):
    for name in ("defects", "other"):
        (tmp_path / f"{name}.yaml").write_text(f"store: {factory.store.root}\nname: {name}\n")
    done = call("status", "--config", tmp_path)
    assert done.returncode == 0, done.stderr
    _, *rows = done.stdout.splitlines()
    # A long reason goes on below.
    first, second = (row for row in rows if not row.startswith(" "))
    assert first.split()[:2] == ["defects", factory.versions[1]]
    assert second.startswith("other")
    assert "none serves" in second
    found = json.loads(call("status", "--config", tmp_path, "--json").stdout)
    assert [one["name"] for one in found] == ["defects", "other"]
    models = json.loads(call("models", "--config", tmp_path, "--json").stdout)
    assert {one["name"] for one in models} == {"defects"}


def test_a_store_that_cannot_be_read_leaves_the_others_in_the_table(factory, tmp_path):
    (tmp_path / "broken").write_text("")
    for name, store in (("defects", factory.store.root), ("lost", tmp_path / "broken")):
        (tmp_path / f"{name}.yaml").write_text(f"store: {store}\nname: {name}\n")
    done = call("status", "--config", tmp_path)
    assert done.returncode == 2
    assert factory.versions[1] in done.stdout
    assert "lost" in done.stderr
