"""How a bundle came to be, as an in-toto statement with SLSA's predicate: what went in, by which code and
images, what came out, and how the gate judged. Signed where the run has a key.

The statement is about SHA256SUMS of the bundle, which names every file of it; every digest in it is of a
file that is in the store, so that anybody can check it without a network.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from defectline.components.common import layout
from defectline.components.common.bundle import Bundle
from defectline.components.common.snapshot import Snapshot
from defectline.components.common.storage import Storage, checksums
from defectline.components.common.trust.keys import Signer
from defectline.components.common.trust.provenance import (
    BUILD_TYPE,
    BUILDER,
    IMAGES_ENV,
    PREDICATE_TYPE,
    Asked,
    Builder,
    Definition,
    Details,
    Metadata,
    Provenance,
    Resource,
    bundle_subject,
)
from defectline.components.common.trust.statements import make_statement


def attach(
    folder: Path,
    bundle: Bundle,
    storage: Storage,
    run: str,
    taken: Snapshot,
    champion: str,
    settings_key: str,
    approval: str,
    state: str,
    results: Mapping[str, bytes],
    key: Signer | None,
) -> bytes:
    """Write provenance.json beside the seal of the bundle in `folder`; returns it.

    `results` are the files of the run's folder that say how it was judged, `state` is the gate's word.
    """
    provenance = Provenance(
        build_definition=Definition(
            build_type=BUILD_TYPE,
            external_parameters=Asked(source=taken.source, settings=settings_key, approval=approval, run=run),
            internal_parameters={
                "machine": platform.machine(),
                "system": platform.system(),
                "python": platform.python_version(),
                "training": bundle.training,
            },
            resolved_dependencies=(*_inputs(storage, taken, bundle, champion), *_software()),
        ),
        run_details=Details(
            builder=Builder(id=BUILDER, version={"defectline": version("defectline")}),
            metadata=Metadata(invocation_id=run, finished_on=bundle.created),
            byproducts=tuple(
                _resource(name, layout.run_key(run, name), data) for name, data in results.items()
            ),
        ),
        gate=state,
    )
    predicate = provenance.model_dump(by_alias=True)
    data = make_statement(bundle_subject(folder, bundle), PREDICATE_TYPE, predicate, key)
    (folder / checksums.PROVENANCE).write_bytes(data)
    return data


def _inputs(storage: Storage, taken: Snapshot, bundle: Bundle, champion: str) -> Iterator[Resource]:
    yield Resource.of("source", taken.source, taken.fingerprint)
    for name in (layout.INDEX, layout.SNAPSHOT):
        key = layout.snapshot_key(taken.id, name)
        yield _resource(name, key, storage.read(key))
    if storage.exists(reviews := layout.audit_key(bundle.name)):
        # The log grows; what it said by now ends with this line.
        last = storage.read(reviews).splitlines()[-1:]
        yield _resource("reviews", reviews, b"".join(last))
    for name, before in {"champion": champion, "reference": bundle.reference}.items():
        sums = f"{layout.model_folder(bundle.name, before)}/{checksums.NAME}"
        if before and storage.exists(sums):
            yield _resource(name, sums, storage.read(sums))


def _software() -> Iterator[Resource]:
    yield Resource.of("code", f"defectline {version('defectline')}", _code())
    for name, reference in sorted(json.loads(os.environ.get(IMAGES_ENV, "{}")).items()):
        yield Resource.of(f"image {name}", reference, reference.partition("@sha256:")[2])


def _resource(name: str, uri: str, data: bytes) -> Resource:
    return Resource.of(name, uri, hashlib.sha256(data).hexdigest())


@cache
def _code() -> str:
    """SHA-256 over the components' files, which tells changed code from the version that it calls itself."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".html", ".md"):
            digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()
