"""What preflight finds, and the one error that it becomes."""

from collections.abc import Sequence
from typing import NamedTuple

from defectline.components.common.errors import ServingError
from defectline.components.deploy.kserve.manifests import MANAGED_BY, MANAGER, Manifest


class Finding(NamedTuple):
    """One thing that is wrong, or that could not be looked at, which stops nothing."""

    what: str
    got: str
    expected: str
    fix: str
    looked: bool = True


def check(findings: Sequence[Finding], name: str, namespace: str) -> None:
    """Raise one ServingError that holds every finding that is wrong, each with its fix."""
    wrong = [finding for finding in findings if finding.looked]
    if len(wrong) == 1:
        what, got, expected, fix, _ = wrong[0]
        raise ServingError(what, got=got, expected=expected, fix=fix)
    if wrong:
        raise ServingError(
            f"{len(wrong)} things stand in the way of deploying {name} to namespace {namespace}.",
            got=_numbered([f"{finding.what} {finding.got}" for finding in wrong]),
            expected=_numbered([finding.expected for finding in wrong]),
            fix=_numbered([finding.fix for finding in wrong]),
        )


def _numbered(texts: list[str]) -> str:
    return "".join(f"\n    ({number}) {text}" for number, text in enumerate(texts, 1))


def not_managed(service: Manifest, namespace: str) -> Finding:
    return Finding(
        f"InferenceService {service['metadata']['name']} in namespace {namespace} was not made by {MANAGER}.",
        f"no label {MANAGED_BY}={MANAGER}",
        f"a name that is free, or a service that {MANAGER} made",
        "Choose another name or namespace; or set `adopt` (--adopt) to take that service over.",
    )


def unseen(
    what: str, permission: str, unless: str = "the model cannot be fetched or no pod starts"
) -> Finding:
    return Finding(
        f"{what[:1].upper()}{what[1:]} was not looked at.",
        f"this account may not {permission}",
        "a permission that is not needed to deploy",
        f"Nothing to do, unless {unless}.",
        looked=False,
    )
