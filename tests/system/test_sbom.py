"""What the images say is in them, and what is asked of cosign."""

import importlib.util
import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from paths import ROOT

DIGEST = f"r.example.com/serve@sha256:{'a' * 64}"


def tool(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def document(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("sbom") / "deep" / "sbom.cdx.json"
    tool("sbom").main("defectline-serve", str(output), *map(str, (ROOT / "requirements").glob("*.txt")))
    return output


def test_it_is_cyclonedx(document):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.read_text()) is None


def test_it_lists_what_is_installed_with_its_sums(document):
    found = {one["purl"]: one for one in json.loads(document.read_text())["components"]}
    numpy = found[f"pkg:pypi/numpy@{metadata.version('numpy')}"]
    sums = {one["value"] for one in numpy["properties"]}
    lock = (ROOT / "requirements/serve.txt").read_text()
    entry = lock.partition("numpy==")[2].partition("\n    # via")[0]
    assert sums
    assert all(f"sha256:{value}" in entry for value in sums)
    assert f"pkg:pypi/defectline@{metadata.version('defectline')}" in found
    if Path("/var/lib/dpkg/status").exists():
        assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in found)


def test_the_same_again_is_the_same_file(document, tmp_path):
    again = tmp_path / "again.json"
    requirements = sorted((ROOT / "requirements").glob("*.txt"), reverse=True)
    tool("sbom").main("defectline-serve", str(again), *map(str, requirements))
    assert again.read_bytes() == document.read_bytes()


def test_names_are_normal_and_extras_left_out(tmp_path):
    file = tmp_path / "lock.txt"
    file.write_text(
        f"Ruamel.Yaml_x[a,b]==1.0 ; python_version > '3' \\\n    --hash=sha256:{'b' * 64}\n    # via x\n"
    )
    assert tool("sbom").locked([file]) == {("ruamel-yaml-x", "1.0"): ["b" * 64]}


def cosign(tmp_path: Path, status: int = 0) -> tuple[Path, Path]:
    """A program in the place of cosign, which is in no package index here, and what it was called with."""
    program, calls = tmp_path / "cosign", tmp_path / "calls"
    program.write_text(
        f"#!{sys.executable}\nimport sys, json\n"
        f"open({str(calls)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\nsys.exit({status})\n"
    )
    program.chmod(0o755)
    return program, calls


def test_images_are_signed_by_digest_and_attested(tmp_path, monkeypatch):
    program, calls = cosign(tmp_path)
    build = tool("build_images")
    monkeypatch.setattr(build, "COSIGN", str(program))
    build.sign(DIGEST, "cosign.key", tmp_path / "serve.cdx.json")
    shared = ["--key", "cosign.key", "--tlog-upload=false", "--yes"]
    predicate = ["--type", "cyclonedx", "--predicate", str(tmp_path / "serve.cdx.json")]
    assert [json.loads(line) for line in calls.read_text().splitlines()] == [
        ["sign", *shared, DIGEST],
        ["attest", *shared, *predicate, DIGEST],
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--sign", "k"], "--sign goes with --push"), (["--sign", "k", "--push"], "--sign needs no-cosign")],
)
def test_what_cannot_be_signed_is_told_before_anything_is_built(monkeypatch, capsys, arguments, says):
    build = tool("build_images")
    monkeypatch.setattr(build, "COSIGN", "no-cosign")
    monkeypatch.setattr(build, "build", lambda *_: pytest.fail("it was built"))
    monkeypatch.setattr(sys, "argv", ["build_images.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        build.main()
    assert caught.value.code == 2
    assert says in capsys.readouterr().err
