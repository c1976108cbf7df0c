"""The chain from a verdict back to the pictures: each link is proved, broken, or was never made.

Nothing is asked but the store, or a bundle's folder, and the public keys: it needs no network of its own.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from defectline.components.common import layout
from defectline.components.common.bundle import Bundle, read_description
from defectline.components.common.errors import BundleError, DefectlineError, SettingsError
from defectline.components.common.reporting.audit import SERVES, Act, read_chain
from defectline.components.common.storage import Storage, checksums
from defectline.components.common.storage.folder import FolderStorage
from defectline.components.common.trust.approvals import Approval, check_approved, needed, read_approvals
from defectline.components.common.trust.keys import Trusted
from defectline.components.common.trust.provenance import (
    Provenance,
    Resource,
    bundle_subject,
    parse_provenance,
)
from defectline.components.common.trust.signatures import check_signature
from defectline.components.common.trust.statements import open_statement
from defectline.pipeline.catalog.audit import unlike_champions

State = Literal["proved", "broken", "not proved", "not there"]
"""`not proved`: it fits, or cannot be compared, and nobody who is trusted signed what it is compared with."""
BY_PROVENANCE = ("results", "snapshot", "gate")
"""Links of every version that only its provenance can prove."""
READERS = 4
"""Bundles that are read at once."""


class Link(NamedTuple):
    version: str
    """"" for what is of no version."""
    name: str
    state: State
    says: str


class Chain(NamedTuple):
    links: list[Link]
    signed: bool
    """Whether keys were given to check signatures by: without, only seals and digests were compared, which
    anybody who can write to the store can make fit."""

    @property
    def missing(self) -> list[str]:
        """The names of links that are not there."""
        return list(dict.fromkeys(link.name for link in self.links if link.state == "not there"))

    @property
    def broken(self) -> Link | None:
        """The first broken link."""
        return next((link for link in self.links if link.state == "broken"), None)


def verify_version(store: Storage, name: str, version: str, trusted: Sequence[Trusted]) -> Chain:
    """The links of a version of a model and, one after the other, of those that served before it.

    Raises SettingsError where the store has no such version.
    """
    if not store.exists(f"{layout.model_folder(name, version)}/{checksums.NAME}"):
        raise SettingsError(
            f"There is no version {version} of {name}.",
            got=f"nothing whole in {store.url(layout.model_folder(name, version))}",
            expected="a version that the store keeps",
            fix="`defectline models` lists them; correct the version, --name or --store.",
        )
    acts, broken = read_chain(store, layout.AUDIT, Act)
    wrong = [broken] if broken else unlike_champions(store, acts)
    follow = "1 line" if len(acts) == 1 else f"{len(acts)} lines follow one another"
    log = Link("", "log", "broken" if wrong else "proved", wrong[0] if wrong else follow)
    # First who came before whom, which is quickly read, so that the bundles can be read at once.
    versions = _ancestry(store, name, version)
    with ThreadPoolExecutor(READERS) as readers:
        found = readers.map(lambda one: list(_links(store, name, one, trusted, acts)), versions)
        links = [link for part in found for link in part]
    return Chain([log, *links, *_deployed(acts, name, version)], bool(trusted))


def verify_folder(folder: Path, trusted: Sequence[Trusted]) -> Chain:
    """The links of a bundle that lies in a folder, without its store. Raises BundleError."""
    bundle = read_description(folder)
    return Chain(list(_of_bundle(folder, bundle, trusted)), bool(trusted))


def _ancestry(store: Storage, name: str, version: str) -> list[str]:
    """The version, the champion that it was compared with, the champion before that, and so on."""
    versions = [version]
    while True:
        key = f"{layout.model_folder(name, versions[-1])}/{checksums.PROVENANCE}"
        try:
            before = parse_provenance(open_statement(store.read(key), (), key), key).used("champion")
        except (KeyError, DefectlineError):
            return versions
        found = layout.parse_version(before.uri) if before else None
        if found is None or found[1] in versions:
            return versions
        versions.append(found[1])


def _links(
    store: Storage, name: str, version: str, trusted: Sequence[Trusted], acts: Sequence[Act]
) -> Iterator[Link]:
    prefix = layout.model_folder(name, version)
    if not store.exists(f"{prefix}/{checksums.NAME}"):
        pruned = any(one.act == "prune" and version in one.subject for one in acts)
        says = "was removed by prune, as the log tells" if pruned else "is gone, and the log does not say why"
        yield Link(version, "bundle", "not there" if pruned else "broken", says)
        return
    with _here(store, prefix) as folder:
        try:
            bundle = read_description(folder, store.url(prefix))
        except BundleError as error:
            yield Link(version, "bundle", "broken", error.reason)
            return
        if (bundle.name, bundle.version) != (name, version):
            yield Link(version, "bundle", "broken", f"is {bundle.name} {bundle.version}, put in its place")
        yield from _of_bundle(folder, bundle, trusted)
        yield from _by_provenance(store, name, version, folder, bundle, trusted, acts)
        if needed(bundle):
            yield _approval(store, name, folder, bundle, trusted, acts)


def _by_provenance(
    store: Storage,
    name: str,
    version: str,
    folder: Path,
    bundle: Bundle,
    trusted: Sequence[Trusted],
    acts: Sequence[Act],
) -> Iterator[Link]:
    """The links that the provenance proves, all of them, whether it is signed or not: what is changed shows
    all the same."""
    provenance, proves = None, True
    for keys in (trusted, ()):
        try:
            provenance = _provenance(folder, bundle, keys)
            break
        except DefectlineError:  # Told already.
            proves = False
    if provenance is None:
        # An earlier release made none; what was taken away, or cannot be read, is told already.
        state: State = "not there" if proves and not bundle.approval else "not proved"
        says = "no provenance of these files says what it was"
        yield from (Link(version, one, state, says) for one in BY_PROVENANCE)
        return
    made = provenance.run_details.byproducts
    links = [
        _same(store, version, "results", made, "the run's files are what evaluate wrote"),
        *_inputs(store, version, provenance),
        _gate(acts, name, version, provenance.gate),
    ]
    for link in links:
        if link.state == "proved" and not proves:
            says = f"not signed by anybody who is trusted: {link.says}"
            yield link._replace(state="not proved", says=says)
        else:
            yield link


@contextmanager
def _here(store: Storage, prefix: str) -> Iterator[Path]:
    if isinstance(store, FolderStorage):
        yield store.root / prefix
        return
    with tempfile.TemporaryDirectory() as temporary:
        store.download_folder(prefix, Path(temporary))
        yield Path(temporary)


def _of_bundle(folder: Path, bundle: Bundle, trusted: Sequence[Trusted]) -> Iterator[Link]:
    """The links that a bundle alone can prove."""
    version = bundle.version
    found = checksums.digests(folder)
    whole = "the files are those that were sealed"
    yield _tried(version, "seal", lambda: checksums.verify(folder, found=found), whole)

    def signed() -> str:
        return f"signed {check_signature(folder, trusted, found=found).told}"

    if trusted:
        yield _tried(version, "signature", signed)
    if not (folder / checksums.PROVENANCE).exists():
        # A bundle that says whether people must approve it was made with a provenance.
        gone = bool(bundle.approval)
        says = "was taken away" if gone else "made by an earlier release, which wrote none"
        yield Link(version, "provenance", "broken" if gone else "not there", says)
        return

    def told() -> str:
        provenance = _provenance(folder, bundle, trusted)
        assert provenance
        asked = provenance.build_definition.external_parameters
        return f"run {asked.run} on {asked.source}"

    yield _tried(version, "provenance", told)


def _provenance(folder: Path, bundle: Bundle, trusted: Sequence[Trusted]) -> Provenance | None:
    """What is said of the bundle in `folder`; None where nothing is. Raises BundleError as `open_statement`,
    and for a statement about something else."""
    file = folder / checksums.PROVENANCE
    if not file.exists():
        return None
    opened, subject = open_statement(file.read_bytes(), trusted, file.name), bundle_subject(folder, bundle)
    if opened.subject != subject:
        raise BundleError(
            f"{file.name} is about another bundle.",
            got=f"{opened.subject.name}, {opened.subject.sha256[:12]}…",
            expected=f"{subject.name}, {subject.sha256[:12]}…",
            fix="Bring it back from the run that made it.",
        )
    return parse_provenance(opened, file.name)


def _inputs(store: Storage, version: str, provenance: Provenance) -> Iterator[Link]:
    source = provenance.used("source")
    taken = [one for name in (layout.INDEX, layout.SNAPSHOT) if (one := provenance.used(name))]
    says = f"what it learned from is as it was, fingerprint {source.sha256[:12] if source else '?'}…"
    yield _same(store, version, "snapshot", taken, says)
    if reviews := provenance.used("reviews"):
        yield _reviews(store, version, reviews)
    before = [one for name in ("champion", "reference") if (one := provenance.used(name))]
    # What prune removed is told where its own turn comes.
    if there := [one for one in before if store.exists(one.uri)]:
        yield _same(store, version, "champion", there, "what it was compared with is as it was")


def _reviews(store: Storage, version: str, noted: Resource) -> Link:
    """Whether the log of reviews still has the line that was its last, and all before it."""
    lines = store.read(noted.uri).splitlines() if store.exists(noted.uri) else []
    before = ""
    for number, line in enumerate(lines, start=1):
        try:
            follows = json.loads(line).get("before") == before
        except (ValueError, AttributeError):
            follows = False
        if not follows:
            break
        before = hashlib.sha256(line).hexdigest()
        if before == noted.sha256:
            many = "decision" if number == 1 else f"{number} decisions"
            are = "is as it was" if number == 1 else "are as they were"
            return Link(version, "reviews", "proved", f"the {many} before it {are}")
    return Link(version, "reviews", "broken", f"{noted.uri} has not the lines any more that it had")


def _gate(acts: Sequence[Act], name: str, version: str, state: str) -> Link:
    said = [one for one in acts if (one.act, one.model, one.subject) == ("gate", name, version)]
    if not said:
        return Link(version, "gate", "broken", "the log has no line about it: it was taken out")
    if said[-1].result != state:
        return Link(version, "gate", "broken", f"the log says {said[-1].result}, the provenance {state}")
    return Link(version, "gate", "proved", f"{state}, {said[-1].at} by {said[-1].by}")


def _approval(
    store: Storage,
    name: str,
    folder: Path,
    bundle: Bundle,
    trusted: Sequence[Trusted],
    acts: Sequence[Act],
) -> Link:
    """What people said. That nobody said yes breaks the chain of what was deployed, and of nothing else."""
    version = bundle.version
    served = any((one.model, one.subject) == (name, version) and one.act in SERVES for one in acts)
    try:
        said = read_approvals(store, name, version, folder, bundle, trusted)
        told = "; ".join(map(_said, said))
        if served:
            check_approved(store, name, folder, bundle, trusted)
    except DefectlineError as error:
        return Link(version, "approval", "broken", error.reason)
    if served:
        return Link(version, "approval", "proved", told)
    return Link(version, "approval", "not there", told or f"waits for {needed(bundle)} to approve it")


def _said(one: Approval) -> str:
    signed = f", signed {one.signer.told}" if one.signer else ""
    return f"{one.said} by {one.by}{signed}, {one.at[:19]}: {one.reason}"


def _deployed(acts: Iterable[Act], name: str, version: str) -> Iterator[Link]:
    lines = [one for one in acts if one.model == name and one.act in SERVES]
    its = [one for one in lines if one.subject == version]
    if its:
        yield Link(version, "deployment", "proved", f"{its[-1].at} to {its[-1].result} by {its[-1].by}")
    else:
        yield Link(version, "deployment", "not there", "it was never deployed")


def _same(store: Storage, version: str, name: str, noted: Sequence[Resource], says: str) -> Link:
    """Whether objects of the store have the digests that were noted."""
    for one in noted:
        try:
            data = store.read(one.uri)
        except KeyError:
            return Link(version, name, "broken", f"{one.uri} is gone")
        if hashlib.sha256(data).hexdigest() != one.sha256:
            return Link(version, name, "broken", f"{one.uri} was changed")
    return Link(version, name, "proved", says)


def _tried(version: str, name: str, check: Callable[[], str | None], says: str = "") -> Link:
    try:
        return Link(version, name, "proved", check() or says)
    except DefectlineError as error:
        return Link(version, name, "broken", error.reason)
