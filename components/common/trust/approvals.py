"""What people said of a version that waited for them.

approvals/<name>/<version>/<person>.json is an in-toto statement, signed with the person's key where there is
one.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from defectline.components.common import layout
from defectline.components.common.bundle import Bundle
from defectline.components.common.errors import BundleError
from defectline.components.common.storage import Storage
from defectline.components.common.trust.keys import Trusted
from defectline.components.common.trust.provenance import bundle_subject
from defectline.components.common.trust.statements import open_statement

PREDICATE_TYPE = "https://defectline.dev/approval/v1"
NEEDED = {"required": 1, "two": 2}
"""The setting `approval` → how many people."""

Said = Literal["approve", "reject"]


class Approval(NamedTuple):
    """What one person said of a version."""

    by: str
    said: Said
    reason: str
    at: str
    signer: Trusted | None
    """None where it is not signed, or nobody asked."""


def needed(bundle: Bundle) -> int:
    """So many people must approve it. The bundle says so itself, sealed and, where there is a key, signed."""
    return NEEDED.get(bundle.approval, 0)


def how_to_approve(store: str, name: str, version: str, signed: bool) -> str:
    """The command, with YOU, WHY and YOUR.key to be filled in; the last where decisions are `signed`."""
    where = f"{version} --name {shlex.quote(name)} --store {shlex.quote(store)}"
    return f"defectline approve {where} --as YOU --reason WHY{' --key YOUR.key' if signed else ''}"


def check_approved(
    storage: Storage, name: str, folder: Path, bundle: Bundle, trusted: Sequence[Trusted]
) -> None:
    """Raise BundleError for a version that needs people and was not approved by enough, or was rejected."""
    if not needed(bundle):
        return
    said = read_approvals(storage, name, bundle.version, folder, bundle, trusted)
    rejected = [one.by for one in said if one.said == "reject"]
    approved = [one.by for one in said if one.said == "approve"]
    if rejected or len(approved) < needed(bundle):
        raise BundleError(
            f"{bundle.version} of {name} was {'rejected' if rejected else 'not approved'}.",
            got=f"rejected by {rejected[0]}" if rejected else f"approved by {len(approved)}",
            expected=f"approved by {needed(bundle)}, and rejected by nobody",
            fix="Name another version, or let people approve this one while it waits.",
        )


def read_approvals(
    storage: Storage,
    name: str,
    version: str,
    folder: Path,
    bundle: Bundle,
    trusted: Sequence[Trusted],
) -> list[Approval]:
    """What people said of a version, the first first. `folder` is that of its bundle.

    Raises BundleError where a statement is about something else, or keys are `trusted` and none of them
    signed it.
    """
    found = []
    for one in storage.list(layout.approvals_prefix(name, version)):
        where = storage.url(one.key)
        opened = open_statement(storage.read(one.key), trusted, where)
        subject = bundle_subject(folder, bundle)
        if (opened.subject, opened.predicate_type) != (subject, PREDICATE_TYPE):
            raise BundleError(
                f"{where} is about something else.",
                got=f"{opened.subject.name}, {opened.predicate_type}",
                expected=f"an approval of {subject.name} as it is now",
                fix="Find out who put it there, and remove it.",
            )
        said = opened.predicate
        found.append(Approval(said["by"], said["decision"], said["reason"], said["at"], opened.signer))
    return sorted(found, key=lambda one: one.at)
