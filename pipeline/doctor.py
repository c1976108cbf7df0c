"""Whether this machine, its settings, source, store and server are fit for a run; and if not, the fix."""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from defectline.components.common.errors import DefectlineError, SettingsError
from defectline.components.common.installing import how_to_install, is_installed
from defectline.components.common.layout import RUNS
from defectline.components.common.storage import Storage, open_storage
from defectline.components.common.storage.folder import FolderStorage
from defectline.pipeline.versions import versions

if TYPE_CHECKING:
    from defectline.components.deploy.kserve.preflight.findings import Finding as Missing

PYTHONS = ("3.11", "3.12")
VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE", "GOOGLE_APPLICATION_CREDENTIALS"),
    *("KFP_HOST", "KFP_NAMESPACE", "KFP_TOKEN", "KUBECONFIG", "MLFLOW_TRACKING_URI", "SSL_CERT_FILE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
"""Besides those that begin with DEFECTLINE_. Values are never told: some are secrets."""
FILES = ("GOOGLE_APPLICATION_CREDENTIALS", "SSL_CERT_FILE", "AWS_CA_BUNDLE", "KUBECONFIG")
"""Variables that name a file."""

PACKAGE = Path("pipeline.yaml")
"""Where `compile` writes the package unless it is told otherwise."""

ROOM = 2e9
"""Bytes that should be free. A run on 100 synthetic pairs leaves 92 MB in the store, 80 of them a model."""


class Finding(NamedTuple):
    check: str
    ok: bool | None
    """None for what could not be looked at."""
    found: str
    fix: str = ""
    """Empty where nothing is wrong."""


def examine(
    source: str, store: str, host: str, namespace: str, token: str, package: Path | None = None
) -> Iterator[Finding]:
    """Every finding, the quick ones first. An empty `source` or `host` is not looked at.

    Of the compiled `package`, or of pipeline.yaml where it is there, the secrets are looked at, in
    `namespace`, or else kubeflow.

    In the store an object is written, read and removed again; nothing else is changed anywhere.
    """
    yield from _versions()
    yield from _environment()
    yield from _images()
    if source:
        yield _tried("source", lambda: _source(open_storage(source), store))
    yield _tried("store", lambda: _store(open_storage(store)))
    yield from _disks(store)
    if host:
        yield _tried("KFP server", lambda: _server(host, namespace, token))
    if package or PACKAGE.exists():
        yield from _secrets(package or PACKAGE, namespace or "kubeflow", store)


TO_TRAIN = ("kfp", "tensorflow")
"""Without both of them, an environment is one that serves."""


def _versions() -> Iterator[Finding]:
    install, found = how_to_install("local"), dict(versions())
    serves = bool(found.get("openvino") and found.get("kserve")) and not any(map(found.get, TO_TRAIN))
    for name, version in found.items():
        if serves and name in TO_TRAIN:
            yield Finding(name, True, "not installed, nor needed to serve")
        elif name == "python":
            fits = version.rpartition(".")[0] in PYTHONS
            yield Finding(name, fits, version, "" if fits else f"Install Python {' or '.join(PYTHONS)}.")
        else:
            yield Finding(name, bool(version), version or "not installed", "" if version else install)


def _environment() -> Iterator[Finding]:
    names = [name for name in VARIABLES if os.environ.get(name)]
    names += sorted(name for name in os.environ if name.startswith("DEFECTLINE_") and os.environ[name])
    yield Finding("environment", True, ", ".join(names) or "nothing set that concerns defectline")
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    if len(missing := [name for name in keys if not os.environ.get(name)]) == 1:
        yield Finding(
            "environment", False, f"only half of a key: {missing[0]} is not set", "Set both, or none."
        )
    if os.environ.get("MLFLOW_TRACKING_URI") and not is_installed("mlflow"):
        fix = f"{how_to_install('mlflow')} Or unset it."
        yield Finding("environment", False, "MLFLOW_TRACKING_URI is set, but MLflow is not installed", fix)
    for name in FILES:
        value = os.environ.get(name)
        # KUBECONFIG may name several.
        if value and not any(Path(part).is_file() for part in value.split(os.pathsep)):
            yield Finding("environment", False, f"{name} names no file", f"Correct {name}, or unset it.")


def _images() -> Iterator[Finding]:
    from defectline.pipeline.images import LOCK, TARGETS, Images, variable

    def found() -> str:
        images = vars(Images.load())
        pinned = sum("@sha256:" in image for image in images.values())
        where = str(LOCK) if LOCK.exists() else f"the names of this version, since there is no {LOCK}"
        if named := [variable(target) for target in TARGETS if os.environ.get(variable(target))]:
            others = "" if {*map(variable, images)} <= {*named} else f", the others from {where}"
            where = f"from {', '.join(named)}{others}"
        return f"{where}: {pinned} of {len(images)} with a digest"

    yield _tried("images", found)


def _source(source: Storage, store: str) -> str:
    first = next(iter(source.list("")), None)
    if first is None:
        raise DefectlineError(
            f"{source.uri} is empty.",
            got="no file",
            expected="labelled images",
            fix="Correct --source, or put images there.",
        )
    source.read(first.key)
    # The readers need packages that nothing else of this module does.
    from defectline.components.ingest.settings import IngestSettings
    from defectline.components.ingest.snapshotter import list_source

    labels, _ = list_source(source, store, IngestSettings())
    layout = labels.layout
    kinds = Counter(record.label or "as the mask or annotation says" for record in layout.records)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items(), reverse=True))
    rejected = f"; {len(layout.rejected):,} without a usable partner" if layout.rejected else ""
    return f"{source.uri} can be read: {'; '.join(labels.lines)}; {counts or 'no picture'}{rejected}"


def _disks(uri: str) -> Iterator[Finding]:
    places = {"temporary files": Path(tempfile.gettempdir())}
    with suppress(DefectlineError):  # Told of the store already.
        if isinstance(store := open_storage(uri), FolderStorage):
            places["store"] = _nearest(store)
    for what, folder in places.items():
        free = shutil.disk_usage(folder).free
        enough = free >= ROOM
        fix = "" if enough else f"Free some space, or use another disk for the {what}."
        yield Finding("disk", enough, f"{free / 1e9:.1f} GB free for the {what}", fix)


def _store(store: Storage) -> str:
    if isinstance(store, FolderStorage) and not store.root.exists():
        above = _nearest(store)
        if os.access(above, os.W_OK | os.X_OK) and above.is_dir():
            return f"{store.uri} is not there yet; the first run makes it"
    key = f"doctor-{uuid4().hex}.txt"
    next(store.list(RUNS), None)
    store.write(key, b"probe")
    try:
        if store.read(key) != b"probe":
            raise DefectlineError(
                f"{store.uri} does not keep what is written.",
                got="other bytes",
                expected="those that were written",
                fix="Use another store.",
            )
    finally:
        store.delete(key)
    return f"{store.uri} can be listed, written, read and cleared"


def _nearest(store: FolderStorage) -> Path:
    """Its folder, or the first above that is there."""
    return next(path for path in (store.root, *store.root.parents) if path.exists())


def _server(host: str, namespace: str, token: str) -> str:
    from defectline.pipeline.kfp_server.client import Server

    server = Server(host, namespace, token)
    return server.remark or f"{server.host} answers, version {server.version or 'not told'}"


def _secrets(package: Path, namespace: str, store: str) -> Iterator[Finding]:
    """Whether the pods of the package's steps, and those that serve, would find their secrets."""
    from defectline.pipeline.needs import read_needs

    try:
        needs = read_needs(package)
    except DefectlineError as error:
        yield _wrong("package", error)
        return
    if not is_installed("kubernetes"):
        what = "the secrets of its pods are not looked at: no module kubernetes"
        yield Finding("package", None, what, how_to_install("local"))
        return
    # The packages of Kubernetes are slow to import.
    from defectline.components.deploy import pod_secrets
    from defectline.components.deploy.store_port import TLS_PORT, port_of, port_of_store

    if needs.secrets:
        yield from _looked_at(
            "step secrets",
            f"{', '.join(sorted(needs.secrets))} in namespace {namespace}",
            lambda: list(pod_secrets.secrets_of_steps(needs.secrets, namespace)),
        )
    if needs.kserve:
        served = needs.kserve.get("namespace", "")
        account = needs.kserve.get("service_account") or "default"
        what = f"service account {account} and its secrets in namespace {served}"
        if not store.startswith(("s3://", "gs://")):
            yield Finding("served pods", None, f"not looked at: {what}, since --store is not in a bucket")
            return
        yield from _looked_at(
            "served pods",
            what,
            lambda: list(pod_secrets.secrets_of_endpoint(needs.kserve, store, needs.endpoint)),
        )
        if store.startswith("s3://") and (port := port_of(needs.endpoint)) != TLS_PORT:
            yield from _looked_at(
                "store's port",
                f"port {port} of {needs.endpoint}, which network policies let served pods reach",
                lambda: list(port_of_store(served, needs.endpoint)),
            )


def _looked_at(check: str, what: str, look: "Callable[[], list[Missing]]") -> Iterator[Finding]:
    try:
        found = look()
    except SettingsError as error:
        yield _wrong(check, error)
        return
    except DefectlineError as error:
        yield Finding(check, None, f"not looked at: {what}. {error.what} Got {error.got.rstrip('.')}.")
        return
    for one in found:
        if one.looked:
            yield Finding(check, False, f"{one.what} Got {one.got}; expected {one.expected}.", one.fix)
        else:
            yield Finding(
                check, None, f"not looked at: {one.what.removesuffix(' was not looked at.')}: {one.got}"
            )
    if not found:
        yield Finding(check, True, what)


def _tried(check: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(check, True, look())
    except DefectlineError as error:
        return _wrong(check, error)


def _wrong(check: str, error: DefectlineError) -> Finding:
    return Finding(check, False, f"{error.what} Got {error.got}; expected {error.expected}.", error.fix)
