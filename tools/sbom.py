"""What is in an image, as a CycloneDX 1.6 document: the build runs this in each image.

    python3 sbom.py NAME OUTPUT [REQUIREMENTS…]

Python packages are those of the Python that runs this, with the SHA-256 sums that the requirements allow for
their files; Debian packages are those that dpkg knows. The same image gives the same bytes: no time and no
serial number stand in it. Needs the standard library alone, since an image should hold nothing more for it.
"""

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)")
SHA256 = re.compile(r"--hash=sha256:([0-9a-f]{64})")
LOCKED = "defectline:locked:sha256"
"""The property that names a sum: of the files that the lock allows, of which one was installed."""


def make(name: str, version: str, packages: list[dict[str, Any]]) -> dict[str, Any]:
    """The document of a container image with these components. Pure."""
    root = f"container:{name}@{version}"
    references = sorted(one["bom-ref"] for one in packages)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": root, "name": name, "version": version}},
        "components": sorted(packages, key=lambda one: one["bom-ref"]),
        "dependencies": [{"ref": root, "dependsOn": references}],
    }


def python_packages(sums: dict[tuple[str, str], list[str]]) -> list[dict[str, Any]]:
    """The installed distributions."""
    found = {}
    for one in metadata.distributions():
        name, version = normal(one.metadata["Name"]), one.version
        purl = f"pkg:pypi/{quote(name)}@{quote(version)}"
        component: dict[str, Any] = {"type": "library", "name": name, "version": version}
        if licence := one.metadata.get("License-Expression"):
            component["licenses"] = [{"expression": licence}]
        if known := sums.get((name, version)):
            component["properties"] = [{"name": LOCKED, "value": value} for value in known]
        found[purl] = {**component, "purl": purl, "bom-ref": purl}
    return list(found.values())


def debian_packages() -> list[dict[str, Any]]:
    """Those that dpkg knows; none where there is no dpkg."""
    if not shutil.which("dpkg-query"):
        return []
    form = "${Package}\\t${Version}\\t${Architecture}\\n"
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat", form], capture_output=True, text=True, check=True
    )
    found = []
    for line in listed.stdout.splitlines():
        name, version, architecture = line.split("\t")
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}"
        found.append({"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl})
    return found


def locked(files: list[Path]) -> dict[tuple[str, str], list[str]]:
    """Name and version → the SHA-256 sums that these requirements allow."""
    sums: dict[tuple[str, str], set[str]] = {}
    for file in files:
        current: set[str] = set()
        for line in file.read_text(encoding="utf-8").splitlines():
            if pinned := PINNED.match(line):
                current = sums.setdefault((normal(pinned["name"]), pinned["version"]), set())
            current.update(SHA256.findall(line))
    return {key: sorted(values) for key, values in sums.items()}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(name: str, output: str, *requirements: str) -> None:
    packages = python_packages(locked([Path(file) for file in requirements])) + debian_packages()
    document = make(name, metadata.version("defectline"), packages)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
