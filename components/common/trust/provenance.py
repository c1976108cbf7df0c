"""What a bundle's provenance.json says: SLSA's provenance predicate, with some names of our own in it."""

from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from defectline.components.common.bundle import Bundle
from defectline.components.common.errors import BundleError
from defectline.components.common.storage import checksums
from defectline.components.common.storage.checksums import sha256_file
from defectline.components.common.trust.statements import Opened, Subject

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "https://defectline.dev/run/v1"
"""Another number where the meaning of a field changes."""
BUILDER = "https://defectline.dev/evaluate"
IMAGES_ENV = "DEFECTLINE_IMAGES"
"""The container images of the run's steps, as a JSON object; on this machine there are none."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, validate_by_name=True)


class Resource(_Part):
    """Something that took part, as in-toto describes it."""

    name: str
    uri: str
    """A key of the store, or where it came from."""
    digest: dict[Literal["sha256"], str] = {}

    @classmethod
    def of(cls, name: str, uri: str, sha256: str) -> Self:
        return cls(name=name, uri=uri, digest={"sha256": sha256} if sha256 else {})

    @property
    def sha256(self) -> str:
        """ "" where it has none."""
        return self.digest.get("sha256", "")


class Asked(_Part):
    source: str
    settings: str
    """Those that decide what is learned and how it is judged, as `key=value key=value …`."""
    approval: str
    run: str


class Definition(_Part):
    build_type: Literal["https://defectline.dev/run/v1"]
    external_parameters: Asked
    internal_parameters: dict[str, Any]
    resolved_dependencies: tuple[Resource, ...]


class Builder(_Part):
    id: str
    version: dict[str, str]


class Metadata(_Part):
    invocation_id: str
    finished_on: str


class Details(_Part):
    builder: Builder
    metadata: Metadata
    byproducts: tuple[Resource, ...]
    """The run's files that say how it was judged."""


class Provenance(_Part):
    build_definition: Definition
    run_details: Details
    gate: str
    """The gate's word."""

    def used(self, name: str) -> Resource | None:
        found = (one for one in self.build_definition.resolved_dependencies if one.name == name)
        return next(found, None)


def parse_provenance(opened: Opened, where: str) -> Provenance:
    """Raises BundleError for a statement of another kind, or of another release's form."""
    try:
        if opened.predicate_type != PREDICATE_TYPE:
            raise ValueError(opened.predicate_type)
        return Provenance.model_validate(opened.predicate)
    except ValueError as error:
        got = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BundleError(
            f"{where} is a statement of another kind.",
            got=got,
            expected=f"{PREDICATE_TYPE} with {BUILD_TYPE}",
            fix="Use the release of defectline that made it.",
        ) from None


def bundle_subject(folder: Path, bundle: Bundle) -> Subject:
    """What a statement about the sealed bundle in `folder` is about: its list of files."""
    return Subject(f"{bundle.name}/{bundle.version}", sha256_file(folder / checksums.NAME))
