"""Every command that reads a store, against wrong ones: one message with its fix, exit status 2."""

import shutil
from pathlib import Path

import pytest
from commands import call, contents
from servers import S3Server
from stores import NAME, Factory

COMMANDS = {
    "snapshots": (),
    "models": (),
    "lineage": ("v20260101-000000-000000",),
    "prune": ("--yes",),
    "runs": (),
    "metrics": ("run-1",),
    "report": ("run-1",),
    "rollback": (),
    "serve": (),
    "review list": (),
    "review accept": ("abc", "--as", "OK"),
    "review export": (),
}
OF_THE_CHAMPION = ("models", "lineage", "prune", "rollback", "status", "serve")


@pytest.fixture(autouse=True)
def labelled(factory: Factory, monkeypatch) -> None:
    """Where `review export` finds labelled images: in the folder `source`."""
    monkeypatch.chdir(factory.folder)


def refused(command: str, store: str | Path, *arguments: str) -> str:
    source = ("--source", "source") if command == "review export" else ()
    done = call(*command.split(), *arguments, *source, "--store", store)
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "Traceback" not in said
    for part in ("got:", "expected:", "fix:"):
        assert part in said
    return said


@pytest.mark.parametrize("command", COMMANDS)
def test_a_store_that_is_not_there_is_not_made(command, tmp_path):
    said = refused(command, tmp_path / "store", *COMMANDS[command])
    assert "no such folder" in said or "no champion" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_without_rights_and_without_a_bucket(command, s3_server: S3Server, monkeypatch):
    for key, value in s3_server.env.items():
        monkeypatch.setenv(key, value)
    assert "create the bucket" in refused(command, "s3://nowhere-at-all/store", *COMMANDS[command])
    bucket = s3_server.new_bucket()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.stranger_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.stranger_secret)
    said = refused(command, f"s3://{bucket}/store", *COMMANDS[command])
    assert "AccessDenied" in said
    assert s3_server.stranger_secret not in said


@pytest.mark.parametrize("command", OF_THE_CHAMPION)
def test_a_damaged_champion_is_named_and_nothing_changes(command, factory: Factory, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(factory.store.root, store)
    (store / f"models/{NAME}/current.json").write_text('{"version": "v2026')
    before = contents(store)
    arguments = (factory.versions[0],) if command == "lineage" else COMMANDS.get(command, ())
    said = refused(command, store, *arguments)
    assert "current.json is damaged" in said
    assert "defectline rollback --to VERSION" in said
    assert contents(store) == before
