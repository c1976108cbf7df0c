"""Options that do nothing are told."""

import pytest
import typer
from commands import call
from counts import answers
from typer.testing import CliRunner

from defectline.cli.idle import tell_idle
from defectline.components.evaluate.collecting import Judged
from defectline.pipeline.crossval import validate


def told(*typed: str, **variables: str) -> str:
    """What a command says that was typed like that, and of which `--way` alone does something."""
    command = typer.Typer()

    @command.command()
    def tried(
        context: typer.Context,
        first: str = typer.Option("", "-f", "--first", envvar="FIRST"),
        second: int = 0,
        third: bool = typer.Option(False, "--third"),
        way: str = "",
    ) -> None:
        tell_idle(context, ["first", "second", "third"], "another", "here")

    return CliRunner().invoke(command, typed, env=variables).stdout


def test_those_that_were_typed_are_told():
    assert told() == told("--way", "a") == told(FIRST="a") == ""
    assert told("-f", "a") == "--first is for another: here it does nothing.\n"
    assert told("--second", "0", "--first", "a") == (
        "--first and --second are for another: here they do nothing.\n"
    )
    assert told("--third", "--second", "1", "-f", "a") == (
        "--first, --second and --third are for another: here they do nothing.\n"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--what", "crossval", "--shards", "4", "--sign-secret", "a"), "--sign-secret and --shards are for"),
        (("--what", "crossval", "--kserve", "gpu=0"), "--kserve is for the pipeline of runs"),
        (("--parallel", "3"), "--parallel is for --what crossval"),
        (("--at-once", "4"), "--at-once is for the pods of --shards"),
        (("--pipeline-namespace", "kfp"), "--pipeline-namespace is for the objects of --gitops"),
        (("--shards", "4", "--at-once", "2"), ""),
        (("--what", "crossval", "--parallel", "3"), ""),
    ],
)
def test_of_compile(tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    done = call("compile", "--gpus", "0", *options)
    assert done.returncode == 0, done.stderr
    if says:
        assert says in done.stdout
    else:
        assert "nothing." not in done.stdout


def test_of_crossval_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("KFP_NAMESPACE", "vision")
    judged = Judged(0, [*answers("OK", "rr"), *answers("NG", "rr")])
    monkeypatch.setattr(validate, "cross_validate", lambda *_: [judged])
    done = call("crossval", tmp_path, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "nothing." not in done.stdout
    done = call("crossval", tmp_path, "--timeout", "3", "--package", "a.yaml")
    assert "--package and --timeout are for --host: without that they do nothing" in done.stdout


@pytest.mark.usefixtures("clean")
def test_of_tune(tmp_path):
    command = ("tune", "--source", "s3://a/b", "--store", "s3://a/c")
    of_search = ("-o", "best.yaml", "--try", "decoder=light")
    done = call(*command, "--katib", "k.yaml", "--s3-secret", "keys", *of_search)
    assert done.returncode == 0, done.stderr
    assert "--output and --try are for tuning on this machine" in done.stdout
    assert "--s3-secret" not in done.stdout
    # The source, a file, ends it after that.
    (tmp_path / "file").write_text("")
    here = ("tune", "--source", "file", "--store", "store", "--namespace", "Any", "--s3-endpoint", "a")
    assert "--namespace and --s3-endpoint are for --job or --katib" in call(*here).stdout
    tried = call(*here, "--try", "decoder=light", "--trials", "3", "-o", "best.yaml")
    assert "--trials and --output are for a search: with --try they do nothing" in tried.stdout
