"""What trust costs: to sign a bundle, and to verify a chain of ten.

    python benchmarks/trust.py BUNDLE

The bundle is copied ten times as ten versions that followed one another, each signed and with a provenance;
`defectline verify` then proves the chain in a process of its own.
"""

import argparse
import hashlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from defectline.components.common import layout
from defectline.components.common.bundle import Bundle, read_description
from defectline.components.common.reporting.audit import HERE, by_run, note
from defectline.components.common.storage import Storage, checksums, open_storage
from defectline.components.common.trust.keys import SigningKey, new_key
from defectline.components.common.trust.provenance import (
    BUILD_TYPE,
    BUILDER,
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
from defectline.components.common.trust.signatures import sign
from defectline.components.common.trust.statements import make_statement


def add(
    store: Storage, source: Path, root: Path, number: int, before: str, key: SigningKey
) -> tuple[str, float]:
    """Put one more version into the store; its name, and the seconds that signing took."""
    version = f"v20260101-0000{number:02}-{number:06x}"
    folder = root / layout.model_folder("defects", version)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*checksums.ATTACHED, "served.sig"))
    content = json.loads((folder / "bundle.json").read_text()) | {"version": version, "name": "defects"}
    (folder / "bundle.json").write_text(json.dumps(content))
    checksums.seal(folder)
    start = time.perf_counter()
    sign(folder, key)
    seconds = time.perf_counter() - start
    run = f"run-{number}"
    results = {
        layout.run_key(run, name): b"{}" * 1000 for name in (layout.METRICS, layout.GATE, layout.COUNTS)
    }
    for name, data in results.items():
        store.write(name, data)
    used = [Resource.of("source", "file:///x", "0" * 64)]
    if before:
        sums = f"{layout.model_folder('defects', before)}/{checksums.NAME}"
        used.append(Resource.of("champion", sums, hashlib.sha256(store.read(sums)).hexdigest()))
    write_provenance(folder, read_description(folder), run, used, results, key)
    note(store, "gate", "defects", version, by_run(run), "passed")
    note(store, "deploy", "defects", version, by_run(run), HERE)
    return version, seconds


def write_provenance(
    folder: Path, bundle: Bundle, run: str, used: list[Resource], results: dict[str, bytes], key: SigningKey
) -> None:
    provenance = Provenance(
        build_definition=Definition(
            build_type=BUILD_TYPE,
            external_parameters=Asked(source="file:///x", settings="", approval="none", run=run),
            internal_parameters={},
            resolved_dependencies=tuple(used),
        ),
        run_details=Details(
            builder=Builder(id=BUILDER, version={}),
            metadata=Metadata(invocation_id=run, finished_on=bundle.created),
            byproducts=tuple(
                Resource.of(Path(name).name, name, hashlib.sha256(data).hexdigest())
                for name, data in results.items()
            ),
        ),
        gate="passed",
    )
    predicate = provenance.model_dump(by_alias=True)
    statement = make_statement(bundle_subject(folder, bundle), PREDICATE_TYPE, predicate, key)
    (folder / checksums.PROVENANCE).write_bytes(statement)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--versions", type=int, default=10)
    options = parser.parse_args()
    size = sum(path.stat().st_size for path in options.bundle.rglob("*") if path.is_file()) / 1e6
    with tempfile.TemporaryDirectory() as temporary:
        root, key = Path(temporary, "store"), new_key("plates")
        store, version, signing = open_storage(str(root)), "", []
        for number in range(options.versions):
            version, seconds = add(store, options.bundle, root, number, version, key)
            signing.append(seconds)
        public = Path(temporary, "plates.pub")
        public.write_bytes(key.public.pem)
        alone = f"{min(signing):.2f} s without the import"
        print(f"a bundle of {size:.0f} MB is signed in {signing[0]:.2f} s, {alone}")
        command = [str(Path(sys.executable).with_name("defectline")), "verify", version]
        command += ["--store", str(root), "--trust", str(public), "--json"]
        took = []
        for _ in range(5):
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            took.append(time.perf_counter() - start)
        found = json.loads(done.stdout)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
        print(
            f"a chain of {options.versions}: {len(found['links'])} links, proved: {found['proved']}; "
            f"{min(took):.2f} to {max(took):.2f} s, {peak:.0f} MB at most"
        )


if __name__ == "__main__":
    main()
