"""Build the image of every component; push them and lock their digests when asked.

    python tools/build_images.py [--registry R] [--gpu] [--push] [--sign KEY] [-- ARGUMENTS]

Each image holds what is in it, as CycloneDX; a copy comes into the folder sbom/ here.

What follows `--` goes to `docker build` as it is, for instance `--network host`. Needs BuildKit. Another
client than `docker` can be named in DOCKER.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from defectline.components.common.files import replaced
from defectline.pipeline.images import GPU_TARGETS, LOCK, REGISTRY, TARGETS, reference

SBOM = "/usr/share/doc/defectline/sbom.cdx.json"
SBOMS = Path("sbom")
ROOT = Path(__file__).resolve().parents[1]
DOCKER = os.environ.get("DOCKER", "docker")
COSIGN = os.environ.get("COSIGN", "cosign")


def build(target: str, image: str, arguments: Sequence[str] = ()) -> None:
    """Build one target of the Dockerfile from this checkout and tag it.

    Raises subprocess.CalledProcessError; the engine's own output says why.
    """
    labels = ["--build-arg", f"VERSION={version('defectline')}", "--build-arg", f"REVISION={revision()}"]
    subprocess.run(
        [DOCKER, "build", "--target", target, "--tag", image, *labels, *arguments, str(ROOT)],
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
        check=True,
    )


def push(image: str) -> str:
    """Push a tagged image; returns its reference by digest, `registry/defectline-serve@sha256:…`."""
    subprocess.run([DOCKER, "push", image], check=True)
    name = image.rpartition(":")[0]
    digests = json.loads(_output(DOCKER, "inspect", "--format", "{{json .RepoDigests}}", image))
    return next(digest for digest in digests if digest.startswith(f"{name}@"))


def write_lock(images: dict[str, str], lock: Path = LOCK) -> None:
    """Write the references by target to the lock file, all or nothing."""
    with replaced(lock) as part:
        part.write_text(json.dumps(images, indent=2) + "\n")


def write_sbom(target: str, image: str, folder: Path = SBOMS) -> Path:
    """Write what the image says is in it to a file in `folder`, all or nothing."""
    found = _output(DOCKER, "run", "--rm", "--network", "none", "--entrypoint", "cat", image, SBOM)
    folder.mkdir(exist_ok=True)
    file = folder / f"{target}.cdx.json"
    with replaced(file) as part:
        part.write_text(found + "\n", encoding="utf-8")
    return file


def sign(image: str, key: str, sbom: Path) -> None:
    """Sign a pushed image, by its digest, and attest what is in it, with a key that cosign knows.

    Nothing goes to a public log. Raises FileNotFoundError where there is no cosign, CalledProcessError.
    """
    shared = ["--key", key, "--tlog-upload=false", "--yes"]
    subprocess.run([COSIGN, "sign", *shared, image], check=True)
    predicate = ["--type", "cyclonedx", "--predicate", str(sbom)]
    subprocess.run([COSIGN, "attest", *shared, *predicate, image], check=True)


def size_mb(image: str) -> float:
    """What the image takes when unpacked, in MB of 10⁶ bytes."""
    return int(_output(DOCKER, "inspect", "--format", "{{.Size}}", image)) / 1e6


def revision() -> str:
    """The commit that is checked out, with `-dirty` where files differ from it; `unknown` without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.strip() or "unknown"


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the image of every component.")
    parser.add_argument("--registry", default=REGISTRY, help="where the images are pushed (%(default)s)")
    parser.add_argument(
        "--gpu", action="store_true", help=f"also build {' and '.join(GPU_TARGETS)}, several GB each"
    )
    parser.add_argument("--push", action="store_true", help=f"push, and write the digests to {LOCK}")
    parser.add_argument(
        "--sign", metavar="KEY", default="", help="with --push: sign with this key of cosign's"
    )
    parser.add_argument("arguments", nargs="*", help="arguments for docker build, after --")
    options = parser.parse_args()
    if options.sign and not options.push:
        parser.error("--sign goes with --push: what is signed is in a registry")
    if options.sign and not shutil.which(COSIGN):
        parser.error(f"--sign needs {COSIGN}: install it, or name it in COSIGN")

    pushed = {}
    for target in TARGETS:
        if target in GPU_TARGETS and not options.gpu:
            continue
        image, start = reference(target, options.registry), time.monotonic()
        build(target, image, options.arguments)
        print(f"{image}  {size_mb(image):,.0f} MB  {time.monotonic() - start:.0f} s", flush=True)
        sbom = write_sbom(target, image)
        if options.push:
            pushed[target] = push(image)
        if options.sign:
            sign(pushed[target], options.sign, sbom)
    if pushed:
        write_lock(pushed)
        print(f"{LOCK}: {', '.join(pushed)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"build_images: {error}") from None
