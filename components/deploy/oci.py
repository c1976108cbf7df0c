"""A model as a container image: what the predictor loads, below /models, where KServe looks for it.

The image has the files alone, for `oci+native://` (Kubernetes mounts it) and `oci+fetch://`. The same folder
gives the same bytes, so the same digest, whenever and wherever it is made: the layer is not compressed, since
weights hardly are and compressors differ.
"""

import base64
import hashlib
import json
import os
import re
import socket
import ssl
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from defectline.components.common.bundle import Bundle, copy_served
from defectline.components.common.errors import ServingError, SettingsError
from defectline.components.common.storage.checksums import sha256_file

SCHEME = "oci://"
PLATFORMS = ("amd64", "arm64")
"""The files fit any; a node pulls the one that is called as it is."""
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LOGINS = ("config.json", ".dockerconfigjson")
"""Files with logins in the folder DOCKER_CONFIG, or ~/.docker; the second is a key of Kubernetes' secrets."""
TIMEOUT_S = 60
LONGEST_TOLD = 200
"""Letters of what a registry or the system says."""
_HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::\d{1,5})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(rf"(?P<host>{_HOST})/(?P<name>{_PART}(?:/{_PART})*)(?::(?P<tag>\w[\w.-]{{0,127}}))?")


class Repository(NamedTuple):
    """Where an image is pushed to."""

    host: str
    """With its port, where it has one."""
    name: str
    tag: str
    """"" for the model's version."""

    @classmethod
    def parse(cls, text: str) -> "Repository":
        """Of `oci://host/name:tag`, or without the scheme. Raises SettingsError."""
        found = _REFERENCE.fullmatch(text.removeprefix(SCHEME))
        if not found or (
            "." not in found["host"] and ":" not in found["host"] and found["host"] != "localhost"
        ):
            raise SettingsError(
                "That is not a place for an image.",
                got=text.rpartition("@")[2] + (", with a login before it" if "@" in text else ""),
                expected="oci://registry.example.com/plates, with :TAG behind it or without",
                fix="Leave the login out: `docker login` keeps it."
                if "@" in text
                else "Correct it; names are in small letters.",
            )
        return cls(found["host"], found["name"], found["tag"] or "")

    @property
    def insecure(self) -> bool:
        """Docker's rule: over HTTP on this machine alone, where nobody answers over HTTPS."""
        name, _, port = self.host.partition(":")
        if name not in ("localhost", "127.0.0.1"):
            return False
        context = ssl.create_default_context()
        # Only whether it is HTTPS: the certificate is checked when something is sent.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with (
                socket.create_connection((name, int(port or 443)), timeout=5) as connection,
                context.wrap_socket(connection),
            ):
                return False
        except (OSError, ValueError):
            return True


class Blob(NamedTuple):
    kind: str
    """Its media type."""
    digest: str
    size: int
    data: bytes | Path

    def described(self, **more: Any) -> dict[str, Any]:
        return {"mediaType": self.kind, "digest": self.digest, "size": self.size, **more}


def push(bundle_folder: Path, bundle: Bundle, place: Repository) -> str:
    """Push what the predictor reads of a sealed bundle; returns `host/name@sha256:…`.

    What the registry has already is not sent again. Raises ServingError where the registry cannot be reached,
    or refuses.
    """
    # Slow to import, and few push.
    import requests
    from dxf import DXF
    from dxf.exceptions import DXFError

    with tempfile.TemporaryDirectory() as temporary:
        served, layer = Path(temporary, "served"), Path(temporary, "layer.tar")
        copy_served(bundle_folder, served)
        _write_layer(served, layer)
        blobs, manifests, index = _describe(layer, bundle)
        registry = DXF(place.host, place.name, _login(place.host), insecure=place.insecure, timeout=TIMEOUT_S)
        try:
            for blob in blobs:
                if isinstance(blob.data, Path):
                    registry.push_blob(str(blob.data))
                else:
                    registry.push_blob(data=iter([blob.data]), digest=blob.digest)
            for manifest in manifests:
                registry.set_manifest(manifest.digest, bytes(manifest.data).decode())
            registry.set_manifest(place.tag or bundle.version, bytes(index.data).decode())
        except (requests.RequestException, DXFError) as error:
            raise _refused(place, error) from None
    return f"{place.host}/{place.name}@{index.digest}"


def _write_layer(folder: Path, layer: Path) -> None:
    with tarfile.open(layer, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in [folder, *sorted(folder.rglob("*"))]:
            member = tarfile.TarInfo(Path("models", path.relative_to(folder)).as_posix())
            # No owner and no time, so that the same files are the same layer.
            member.mode = 0o755 if path.is_dir() else 0o644
            if path.is_dir():
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            else:
                member.size = path.stat().st_size
                with path.open("rb") as file:
                    tar.addfile(member, file)


def _describe(layer: Path, bundle: Bundle) -> tuple[list[Blob], list[Blob], Blob]:
    """All blobs, a manifest for each of PLATFORMS, and the index over them."""
    digest = f"sha256:{sha256_file(layer)}"
    files = Blob(LAYER, digest, layer.stat().st_size, layer)
    blobs, manifests = [files], []
    notes = {
        "org.opencontainers.image.title": bundle.name,
        "org.opencontainers.image.version": bundle.version,
        "org.opencontainers.image.created": bundle.created,
    }
    for platform in PLATFORMS:
        config = _json(
            CONFIG,
            {
                "architecture": platform,
                "os": "linux",
                "created": bundle.created,
                "config": {"Labels": notes},
                "rootfs": {"type": "layers", "diff_ids": [digest]},
                "history": [{"created": bundle.created, "created_by": "defectline package"}],
            },
        )
        blobs.append(config)
        content = {"config": config.described(), "layers": [files.described()], "annotations": notes}
        manifests.append(_json(MANIFEST, {"schemaVersion": 2, "mediaType": MANIFEST, **content}))
    listed = [
        manifest.described(platform={"architecture": platform, "os": "linux"})
        for platform, manifest in zip(PLATFORMS, manifests, strict=True)
    ]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed, "annotations": notes}
    return blobs, manifests, _json(INDEX, index)


def _json(kind: str, content: dict[str, Any]) -> Blob:
    data = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return Blob(kind, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data), data)


def _login(host: str) -> Any:
    """How to answer a registry that asks who is there: with the login that `docker login` keeps, or none."""
    user, _, password = next(_kept(host), "").partition(":")

    def authenticate(registry: Any, response: Any) -> None:
        registry.authenticate(user or None, password or None, response=response)

    return authenticate


def _kept(host: str) -> Iterator[str]:
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    for name in LOGINS:
        try:
            found = json.loads((folder / name).read_bytes())["auths"][host]["auth"]
            yield base64.b64decode(found).decode()
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _refused(place: Repository, error: Exception) -> ServingError:
    import requests

    status = getattr(getattr(error, "response", None), "status_code", None)
    silent = (requests.ConnectionError, requests.Timeout)
    if isinstance(error, silent) and not isinstance(error, requests.exceptions.SSLError):
        return ServingError(
            f"The registry {place.host} does not answer.",
            got=_innermost(error),
            expected="a registry that this machine can reach",
            fix="Start it, or correct the host and its port; look whether a proxy (HTTPS_PROXY, NO_PROXY), a "
            "VPN or a firewall lies between.",
        )
    got = f"HTTP {status}" if status else _innermost(error)
    if type(error).__name__ == "DXFAuthInsecureError":
        fix = "Serve the registry over HTTPS: a login is not sent in the clear."
    elif isinstance(error, requests.exceptions.SSLError):
        fix = "Serve it over HTTPS with a certificate that is trusted here; REQUESTS_CA_BUNDLE names others."
    elif status in (401, 403) or (status is None and not isinstance(error, OSError)):
        fix = f"Run `docker login {place.host}` with an account that may push there."
    else:
        fix = "Correct the place, or look into the registry's log."
    return ServingError(
        f"{place.host}/{place.name} does not take the image.",
        got=got,
        expected="a registry that takes it",
        fix=fix,
    )


def _innermost(error: BaseException) -> str:
    """What the operating system said, which libraries wrap several times."""
    said: list[str] = []
    while error is not None:
        said += [text] if (text := getattr(error, "strerror", None) or str(error)) else []
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(said[-1].split())[:LONGEST_TOLD] if said else "no answer"
