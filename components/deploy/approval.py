"""What a person must say yes to before it is deployed: a challenger that passed the gate waits.

models/<name>/waiting.json is the version that waits, and how it is to be deployed; what people say of it is
in common/trust/approvals.py. Of a model one version waits at a time: one that passes the gate later takes its
place.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from defectline.components.common import layout
from defectline.components.common.bundle import Bundle, publish_folder
from defectline.components.common.errors import Conflict, SettingsError
from defectline.components.common.records import (
    GateRecord,
    Outcome,
    Waiting,
    clear_waiting,
    read_waiting,
    write_gate,
    write_waiting,
)
from defectline.components.common.reporting.audit import HERE, by_run, note
from defectline.components.common.reporting.front_page import end_run
from defectline.components.common.storage import Storage
from defectline.components.common.trust.approvals import (
    NEEDED,
    PREDICATE_TYPE,
    Approval,
    Said,
    read_approvals,
)
from defectline.components.common.trust.keys import PublicKey, SigningKey, read_trust
from defectline.components.common.trust.provenance import bundle_subject
from defectline.components.common.trust.signatures import signer_of
from defectline.components.common.trust.statements import make_statement
from defectline.components.deploy.deployer import open_deployer
from defectline.components.deploy.rollback import fetched

_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")


def hold(
    folder: Path, bundle: Bundle, storage: Storage, run: str, name: str, waiting: Waiting, snapshot: str
) -> str:
    """Publish the bundle and let it wait for people; the reason that the run's outcome gives.

    A version that waited before waits no longer.
    """
    publish_folder(folder, storage, layout.model_folder(name, bundle.version))
    before = read_waiting(storage, name)
    write_waiting(storage, name, waiting)
    # The same pictures make no second challenger while this one waits.
    write_gate(storage, name, GateRecord(run=run, snapshot=snapshot, settings_key=waiting.settings_key))
    if before and before.run != run:
        reason = f"nobody approved it before {bundle.version} passed the gate"
        end_run(storage, before.run, Outcome(state="refused", reason=reason))
    people = {1: "a person", 2: "two people"}[NEEDED[waiting.approval]]
    reason = f"every rule of the gate passed; {bundle.version} waits for {people} to approve it"
    advice = f"defectline approve {bundle.version} --name {name} --store {storage.uri} --as YOU --reason WHY"
    end_run(
        storage, run, Outcome(state="awaiting_approval", reason=reason, version=bundle.version, advice=advice)
    )
    return reason


def approve(storage: Storage, name: str, version: str, by: str, reason: str, key: SigningKey | None) -> str:
    """Approve the version that waits, and deploy it where that is enough; a sentence of what came of it.

    Raises SettingsError where another version waits or none, or somebody approves twice, with the same name
    or key; BundleError where DEFECTLINE_TRUST is set and what was signed is not, or not by those; and as a
    deployment does. Nothing is deployed then.
    """
    waiting = _waiting(storage, name, version)
    trusted = read_trust()
    with fetched(storage, name, version) as (folder, bundle):
        earlier = read_approvals(storage, name, version, folder, bundle, trusted)
        _check_person(by, key, earlier, folder, trusted)
        _write(storage, folder, bundle, by, "approve", reason, key)
        note(storage, "approve", name, version, by, reason)
        said = [one for one in earlier if one.said == "approve"]
        if missing := NEEDED[waiting.approval] - len(said) - 1:
            return f"{version} is approved by {by}; {missing} more person must approve it"
        done = open_deployer(storage.uri, name, waiting.kserve).deploy(folder, bundle, waiting.run)
    names = " and ".join([*(one.by for one in said), by])
    note(storage, "deploy", name, version, by_run(waiting.run), waiting.kserve.get("namespace") or HERE)
    clear_waiting(storage, name)
    warning = f". {done.warning}" if done.warning else ""
    why = f"every rule of the gate passed, and {names} approved it{warning}"
    end_run(storage, waiting.run, Outcome(state="deployed", reason=why, version=version))
    return f"{version} is approved by {names}, and the champion {done.where}{warning}"


def reject(storage: Storage, name: str, version: str, by: str, reason: str, key: SigningKey | None) -> str:
    """Let the version that waits wait no longer, and record why. Raises as `approve`."""
    waiting = _waiting(storage, name, version)
    with fetched(storage, name, version) as (folder, bundle):
        _check_person(by, key, (), folder, read_trust())
        _write(storage, folder, bundle, by, "reject", reason, key)
    note(storage, "reject", name, version, by, reason)
    clear_waiting(storage, name)
    why = f"every rule of the gate passed, but {by} rejected it: {reason}"
    end_run(storage, waiting.run, Outcome(state="refused", reason=why))
    return f"{version} is rejected by {by}"


def _waiting(storage: Storage, name: str, version: str) -> Waiting:
    waiting = read_waiting(storage, name)
    if waiting is None or waiting.version != version:
        raise SettingsError(
            f"{version} of {name} does not wait for approval.",
            got=f"{waiting.version} waits" if waiting else "none waits",
            expected="the version that waits",
            fix="Correct the version, --name or --store; `defectline runs` tells what waits.",
        )
    return waiting


def _check_person(
    by: str, key: SigningKey | None, earlier: Sequence[Approval], folder: Path, trusted: Sequence[PublicKey]
) -> None:
    if not _NAME.fullmatch(by.strip()):
        raise SettingsError(
            "A name is missing.",
            got=repr(by),
            expected="1 to 100 characters, without control characters",
            fix="Say who you are with --as.",
        )
    if trusted and (key is None or key.public.fingerprint not in {one.fingerprint for one in trusted}):
        raise SettingsError(
            "An approval must be signed here, since DEFECTLINE_TRUST is set.",
            got=f"the key {key.public}" if key else "no key",
            expected=f"the private key of {', '.join(map(str, trusted))}",
            fix="Name it with --key.",
        )
    if key and signer_of(folder) == key.public.fingerprint:
        raise SettingsError(
            "Who signed the bundle cannot approve it as well.",
            got=f"the key {key.public}, which the pipeline signs with",
            expected="a key of a person's own",
            fix="Make one with `defectline keygen`, and have its .pub trusted.",
        )
    for one in earlier:
        same_key = key and one.signer and one.signer.fingerprint == key.public.fingerprint
        if same_key or one.by.strip().casefold() == by.strip().casefold():
            raise SettingsError(
                f"{one.by} has approved it already.",
                got="the same key" if same_key else "the same name",
                expected="another person",
                fix="Let somebody else approve it.",
            )


def _write(
    storage: Storage, folder: Path, bundle: Bundle, by: str, said: Said, reason: str, key: SigningKey | None
) -> None:
    predicate: dict[str, Any] = {
        "decision": said,
        "by": by.strip(),
        "reason": reason,
        "at": datetime.now(UTC).isoformat(),
    }
    data = make_statement(bundle_subject(folder, bundle), PREDICATE_TYPE, predicate, key)
    place = layout.approval_key(bundle.name, bundle.version, by.strip())
    try:
        storage.compare_and_swap(place, data, None)
    except Conflict:
        raise SettingsError(
            f"{by} has said something about {bundle.version} already.",
            got=storage.url(place),
            expected="one decision of each person",
            fix="Let somebody else decide.",
        ) from None
