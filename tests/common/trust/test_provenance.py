"""The form of provenance: what another release wrote is refused in words."""

import pytest

from defectline.components.common.errors import BundleError
from defectline.components.common.trust.provenance import (
    PREDICATE_TYPE,
    Provenance,
    Resource,
    parse_provenance,
)
from defectline.components.common.trust.statements import Opened, Subject

CONTENT = {
    "buildDefinition": {
        "buildType": "https://defectline.dev/run/v1",
        "externalParameters": {"source": "s3://b", "settings": "a=1", "approval": "none", "run": "one"},
        "internalParameters": {},
        "resolvedDependencies": [{"name": "source", "uri": "s3://b", "digest": {"sha256": "12"}}],
    },
    "runDetails": {
        "builder": {"id": "x", "version": {}},
        "metadata": {"invocationId": "one", "finishedOn": "2026-01-01T00:00:00+00:00"},
        "byproducts": [],
    },
    "gate": "passed",
}


def opened(content: dict, kind: str = PREDICATE_TYPE) -> Opened:
    return Opened(Subject("x", "y"), kind, content, None)


def test_it_is_read_as_it_is_written():
    provenance = parse_provenance(opened(CONTENT), "x")
    assert provenance.model_dump(by_alias=True) == Provenance.model_validate(CONTENT).model_dump(
        by_alias=True
    )
    assert provenance.used("source") == Resource.of("source", "s3://b", "12")
    assert provenance.used("other") is None


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({}, PREDICATE_TYPE),
        (CONTENT, "https://slsa.dev/provenance/v2"),
        (CONTENT | {"gate": 3}, PREDICATE_TYPE),
        (
            CONTENT | {"buildDefinition": CONTENT["buildDefinition"] | {"buildType": "https://other/v9"}},
            PREDICATE_TYPE,
        ),
    ],
)
def test_another_form(content, kind):
    with pytest.raises(BundleError, match=r"provenance\.json is a statement of another kind"):
        parse_provenance(opened(content, kind), "provenance.json")
