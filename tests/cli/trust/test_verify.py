"""`defectline verify`: the chain as a table, as JSON and as a page, and its exit status."""

import json

import pytest
from commands import call
from signed import make_signed


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return make_signed(tmp_path_factory.mktemp("signed") / "all", patch)


def verify(signed, *more):
    return call("verify", *more, "--store", signed.store.root)


def test_proved(signed, tmp_path):
    page = tmp_path / "chain.html"
    done = verify(signed, signed.version, "--trust", signed.public, "--page", page)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "proved"
    assert "signed with the key plates" in done.stdout
    assert signed.version in page.read_text()


def test_without_a_key_it_says_what_that_proves(signed):
    done = verify(signed, signed.version)
    assert done.returncode == 0
    assert "No key was given" in done.stdout
    assert done.stdout.splitlines()[-1] == "every seal fits"


def test_for_programs(signed):
    done = verify(signed, signed.version, "--trust", signed.public, "--json")
    found = json.loads(done.stdout)
    assert (found["proved"], found["signed"], found["broken"]) == (True, True, None)


def test_broken(signed, tmp_path):
    copy = signed.copied(tmp_path / "copy")
    (copy.store.root / "runs/run2/report.html").write_text("better")
    done = verify(copy, copy.version, "--trust", copy.public)
    assert done.returncode == 2
    assert f"broken: results of {copy.version}" in done.stderr
    found = json.loads(verify(copy, copy.version, "--trust", copy.public, "--json").stdout)
    assert found["broken"]["name"] == "results"


def test_a_folder(signed):
    done = verify(signed, signed.store.root / "models/defects" / signed.version, "--trust", signed.public)
    assert done.returncode == 0, done.stderr


def test_the_start_of_a_version(signed):
    first, last = (bundle.version for bundle in signed.bundles)
    done = verify(signed, last[:-1], "--trust", signed.public)
    assert done.returncode == 0, done.stderr
    assert last in done.stdout
    several = verify(signed, "v20")
    assert several.returncode == 2
    assert "Several versions begin with v20" in several.stderr
    assert first in several.stderr
    none = verify(signed, "v19")
    assert none.returncode == 2
    assert "There is no version v19." in none.stderr
    assert "models` lists them" in none.stderr


def test_neither_version_nor_file(signed):
    done = verify(signed, "v20200101-000000-000000")
    assert done.returncode == 2
    assert "There is no version v20200101-000000-000000" in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--request", "x"], "--request goes with --log"),
        (["--log", "x"], "go with an answer"),
        (["--image", "x"], "go with an answer"),
    ],
)
def test_options_that_say_nothing_about_a_version(signed, options, says):
    done = verify(signed, signed.version, *options)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())


def test_nothing_named(signed):
    assert verify(signed, "").returncode == 2
