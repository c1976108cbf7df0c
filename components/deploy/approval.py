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
    decide_waiting,
    read_champion,
    read_waiting,
    write_gate,
    write_waiting,
)
from defectline.components.common.reporting.audit import HERE, SERVES, Act, by_run, note, read_chain
from defectline.components.common.reporting.front_page import end_run
from defectline.components.common.storage import Storage, checksums
from defectline.components.common.trust.approvals import (
    PREDICATE_TYPE,
    Approval,
    Said,
    check_approved,
    how_to_approve,
    needed,
    read_approvals,
)
from defectline.components.common.trust.keys import Signer, Trusted, read_trust
from defectline.components.common.trust.provenance import bundle_subject
from defectline.components.common.trust.signatures import signer_of
from defectline.components.common.trust.statements import make_statement
from defectline.components.deploy.deployer import open_deployer
from defectline.components.deploy.rollback import fetched

SAID = {"approve": "approved", "reject": "rejected"}
"""What people say → how it is told."""
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,100}")
_REASON = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,1000}")


def hold(folder: Path, bundle: Bundle, storage: Storage, name: str, waiting: Waiting) -> str:
    """Publish the bundle and let it wait for people; the reason that the run's outcome gives.

    A version that waited before waits no longer.
    """
    publish_folder(folder, storage, layout.model_folder(name, bundle.version))
    before = read_waiting(storage, name)
    write_waiting(storage, name, waiting)
    # The same pictures make no second challenger while this one waits.
    run, snapshot = waiting.run, bundle.data.snapshot
    write_gate(storage, name, GateRecord(run=run, snapshot=snapshot, settings_key=waiting.settings_key))
    if before and before.run != run:
        reason = f"nobody approved it before {bundle.version} passed the gate"
        end_run(storage, before.run, Outcome(state="refused", reason=reason))
    people = {1: "a person", 2: "two people"}[needed(bundle)]
    reason = f"every rule of the gate passed; {bundle.version} waits for {people} to approve it"
    advice = how_to_approve(storage.uri, name, bundle.version, bool(read_trust()))
    end_run(
        storage, run, Outcome(state="awaiting_approval", reason=reason, version=bundle.version, advice=advice)
    )
    return reason


def approve(storage: Storage, name: str, version: str, by: str, reason: str, key: Signer | None) -> str:
    """Approve the version that waits, and deploy it where that is enough; a sentence of what came of it.

    Whose deployment was cut off may approve it again, which goes on. Raises SettingsError where the
    version does not wait, or somebody approves twice, with the same name or key; BundleError where
    DEFECTLINE_TRUST is set and what was signed is not, or not by those; and as a deployment does. Nothing is
    deployed then.
    """
    waiting, trusted = _waiting(storage, name, version), read_trust()
    with fetched(storage, name, version, approved=False) as (folder, bundle):
        earlier = read_approvals(storage, name, version, folder, bundle, trusted)
        _check_person(by, reason, key, folder, trusted)
        same = _same_person(by, key, earlier)
        if same is None:
            _write(storage, folder, bundle, by, "approve", reason, key)
            note(storage, "approve", name, version, by, reason)
        elif same.said == "reject" or len(_yes(earlier)) < needed(bundle):
            raise _twice(same, by)
        # Others may have said something meanwhile.
        said = _yes(read_approvals(storage, name, version, folder, bundle, trusted))
        if (missing := needed(bundle) - len(said)) > 0:
            return f"{version} is approved by {by}; {missing} more person must approve it"
        if not decide_waiting(storage, name, version, "approve"):
            raise _decided(name, version, "rejected")
        check_approved(storage, name, folder, bundle, trusted)
        done = open_deployer(storage.uri, name, waiting.kserve).deploy(folder, bundle, waiting.run)
    names = " and ".join(one.by for one in said)
    note(storage, "deploy", name, version, by_run(waiting.run), waiting.kserve.get("namespace") or HERE)
    clear_waiting(storage, name)
    warning = f". {done.warning}" if done.warning else ""
    why = f"every rule of the gate passed, and {names} approved it{warning}"
    end_run(storage, waiting.run, Outcome(state="deployed", reason=why, version=version))
    return f"{version} is approved by {names}, and the champion {done.where}{warning}"


def reject(storage: Storage, name: str, version: str, by: str, reason: str, key: Signer | None) -> str:
    """Let the version that waits wait no longer, and record why. Raises as `approve`."""
    waiting, trusted = _waiting(storage, name, version), read_trust()
    with fetched(storage, name, version, approved=False) as (folder, bundle):
        _check_person(by, reason, key, folder, trusted)
        if same := _same_person(by, key, read_approvals(storage, name, version, folder, bundle, trusted)):
            raise _twice(same, by)
        if not decide_waiting(storage, name, version, "reject"):
            raise _decided(name, version, "approved, and is being deployed")
        _write(storage, folder, bundle, by, "reject", reason, key)
    note(storage, "reject", name, version, by, reason)
    clear_waiting(storage, name)
    why = f"every rule of the gate passed, but {by} rejected it: {reason}"
    end_run(storage, waiting.run, Outcome(state="refused", reason=why))
    return f"{version} is rejected by {by}"


def _yes(said: Sequence[Approval]) -> list[Approval]:
    return [one for one in said if one.said == "approve"]


def _waiting(storage: Storage, name: str, version: str) -> Waiting:
    """How the version waits. Raises SettingsError, which says why there is nothing to decide about it."""
    waiting = read_waiting(storage, name)
    if waiting and waiting.version == version:
        return waiting
    acts, _ = read_chain(storage, layout.AUDIT, Act)
    its = [one for one in acts if (one.model, one.subject) == (name, version)]
    serving = {one.result: one.subject for one in acts if one.model == name and one.act in SERVES}
    said = [f"{SAID[one.act]} by {one.by}, {one.at[:10]}: {one.result}" for one in its if one.act in SAID]
    waits = f"{waiting.version} waits" if waiting else "none waits"
    champion = read_champion(storage, name)
    fix = "`defectline audit` tells who decided what; `defectline runs` what waits."
    if version in serving.values() or (champion and champion.version == version):
        what = f"{version} of {name} is the champion already: there is nothing to decide."
        fix = "`defectline rollback` goes back to the version before, if this one should not serve."
    elif not storage.exists(f"{layout.model_folder(name, version)}/{checksums.NAME}"):
        what = f"There is no version {version} of {name}."
        fix = "Correct the version, --name or --store; `defectline models` lists them."
    elif said:
        what = f"{version} of {name} was decided already, and what was said stays."
    else:
        what = f"{version} of {name} does not wait for approval."
    raise SettingsError(
        what, got="; ".join([*said, waits]), expected="the version that waits for approval", fix=fix
    )


def _check_person(by: str, reason: str, key: Signer | None, folder: Path, trusted: Sequence[Trusted]) -> None:
    for what, text, option, form in (("name", by, "--as", _NAME), ("reason", reason, "--reason", _REASON)):
        if not text.strip() or not form.fullmatch(text.strip()):
            raise SettingsError(
                f"A {what} is missing." if not text.strip() else f"The {what} cannot be kept.",
                got=repr(text[:100]),
                expected=f"letters, in one line, at most {form.pattern.rpartition(',')[2].rstrip('}')}",
                fix=f"Correct {option}.",
            )
    if trusted and (key is None or key.public.fingerprint not in {one.fingerprint for one in trusted}):
        raise SettingsError(
            "A decision must be signed here, since DEFECTLINE_TRUST is set.",
            got=str(key.public) if key else "no key",
            expected=f"a person's own, of which the public one is trusted: {', '.join(map(str, trusted))}",
            fix="Name yours with --key, and have its .pub put to those that DEFECTLINE_TRUST names.",
        )
    if key and signer_of(folder) == key.public.fingerprint:
        raise SettingsError(
            "Who signed the bundle cannot decide about it as well.",
            got=f"{key.public}, which the pipeline signs with",
            expected="a key or identity of a person's own",
            fix="Name your own with --key; `defectline keygen` makes one, whose .pub has to be trusted.",
        )


def _same_person(by: str, key: Signer | None, earlier: Sequence[Approval]) -> Approval | None:
    """What this person, or somebody with this key, said before."""
    for one in earlier:
        same_key = key and one.signer and one.signer.fingerprint == key.public.fingerprint
        if same_key or one.by.strip().casefold() == by.strip().casefold():
            return one
    return None


def _twice(same: Approval, by: str) -> SettingsError:
    did = SAID[same.said]
    other = same.by.strip().casefold() != by.strip().casefold()
    return SettingsError(
        f"{same.by} has {did} it already, and what was said stays.",
        got=f"{by} with the key of {same.by}" if other else by,
        expected="another person, with a key of their own" if other else "another person",
        fix="Let somebody else decide.",
    )


def _decided(name: str, version: str, what: str) -> Conflict:
    return Conflict(
        f"{version} of {name} was {what} meanwhile.",
        got="a decision of somebody else",
        expected="a version that still waits",
        fix="`defectline audit` tells who decided what.",
    )


def _write(
    storage: Storage, folder: Path, bundle: Bundle, by: str, said: Said, reason: str, key: Signer | None
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
