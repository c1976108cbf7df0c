"""What the store remembers of deployments on a cluster; what serves is asked of the cluster itself.

serving/<name>/deployed/<namespace>/<version>.json    how a version was deployed, and what served before it
serving/<name>/unfinished/<namespace>/<spec>.json     the spec to go back to while a rollout is under way
models/<name>/<version>/                              the whole bundle, with its golden pictures
"""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from defectline.components.common import layout
from defectline.components.common.bundle import NAME, Bundle, read_description
from defectline.components.common.errors import BundleError, StoreError
from defectline.components.common.storage import Storage
from defectline.components.deploy.kserve.manifests import SPEC_LABEL, Manifest, without_canary
from defectline.components.deploy.kserve.settings import KServeSettings

R = TypeVar("R", bound=BaseModel)


class Deployed(BaseModel):
    """How a version came to serve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    previous: str = Field(validation_alias=AliasChoices("previous", "former"))
    """The version that served before; "" for none, or one that defectline did not deploy."""
    settings: KServeSettings
    run: str = ""
    """The run that deployed it last; "" where that is not known."""


class Unfinished(BaseModel):
    """A rollout that was begun, and what to go back to from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    previous: Manifest | None = Field(validation_alias=AliasChoices("previous", "former"))
    """The spec that was in force before, None where nothing served."""
    metadata: dict[str, Any] = Field(validation_alias=AliasChoices("metadata", "marks"))
    """A merge patch of the labels and annotations."""
    run: str = ""
    """Whose rollout it is; "" where that is not known."""
    settings: KServeSettings | None = None
    """Those of the rollout; None where an earlier version of defectline began it."""

    def writes(self, spec: Manifest, digest: str) -> bool:
        """Whether `spec` is what this rollout, of the spec with `digest`, puts in force, there or back."""
        written = [spec, *(spec.get("canary") or [])]
        if any(spec_digest(one) == digest for one in written):
            return True
        # The last step back in Knative mode; a canary of another rollout is none of this one's.
        return "canary" not in spec and spec != self.previous and without_canary(spec) == self.previous


class History:
    """The records of one model in one namespace."""

    def __init__(self, store: Storage, namespace: str, name: str):
        self.store, self.namespace, self.name = store, namespace, name

    def deployed(self, version: str) -> Deployed | None:
        """How `version` was deployed; None where it never was. Raises StoreError."""
        key = layout.deployed_key(self.name, self.namespace, version)
        fix = "Deploy that version by the pipeline again, or remove the file."
        return self._record(Deployed, key, "a deployment", fix)

    def versions(self) -> list[str]:
        """The versions that were deployed, oldest first."""
        prefix = layout.deployed_prefix(self.name, self.namespace)
        return sorted(Path(found.key).stem for found in self.store.list(prefix))

    def write_deployed(self, version: str, previous: str, settings: KServeSettings, run: str) -> None:
        """Note that `version` serves, with what served before; a repetition leaves that as it was."""
        if previous == version:
            before = self.deployed(version)
            previous = before.previous if before else ""
        key = layout.deployed_key(self.name, self.namespace, version)
        deployed = Deployed(previous=previous, settings=settings, run=run)
        self.store.write(key, deployed.model_dump_json(indent=2).encode())

    def begin(self, writing: Manifest, unfinished: Unfinished) -> None:
        """Note, before the spec `writing` is put in force, what to go back to."""
        self.store.write(self._key(spec_digest(writing)), unfinished.model_dump_json().encode())

    def end(self, digest: str) -> None:
        """Note that nothing is under way any more with the spec of this digest, if anything was."""
        if self.store.exists(self._key(digest)):
            self.store.delete(self._key(digest))

    def unfinished(self, current: Manifest) -> Unfinished | None:
        """The rollout that put `current` in force, if it has not ended. Raises StoreError."""
        return self._read(spec_digest(current["spec"]))

    def unfinished_of(self, run: str) -> dict[str, Unfinished]:
        """The rollouts that a run began and did not end, by the digests of their specs. Raises StoreError."""
        prefix = f"{layout.unfinished_prefix(self.name)}{self.namespace}/"
        digests = [layout.stem(found.key) for found in self.store.list(prefix)]
        records = {digest: self._read(digest) for digest in digests}
        return {digest: record for digest, record in records.items() if record and record.run == run}

    def _read(self, digest: str) -> Unfinished | None:
        fix = "Deploy the version that should serve by the pipeline, and remove the file."
        return self._record(Unfinished, self._key(digest), "a rollout", fix)

    def _record(self, kind: type[R], key: str, writer: str, fix: str) -> R | None:
        try:
            return kind.model_validate_json(self.store.read(key))
        except KeyError:
            return None
        except ValidationError as error:
            raise StoreError(
                f"{self.store.url(key)} cannot be understood.",
                got=error.errors()[0]["msg"],
                expected=f"what {writer} of this version of defectline wrote",
                fix=fix,
            ) from error

    def before(self, current: Manifest | None, service: Manifest) -> tuple[Manifest | None, Manifest]:
        """What to go back to from `service`: a spec, None for no service, and a patch of the metadata.

        It is what is in force, unless the rollout of that never ended.
        """
        if current is None:
            return None, {}
        if record := self.unfinished(current):
            return record.previous, record.metadata
        metadata = {}
        for part in ("labels", "annotations"):
            there = current["metadata"].get(part) or {}
            metadata[part] = {key: there.get(key) for key in service["metadata"][part]}
        return without_canary(current["spec"]), metadata

    def fetch_golden(self, version: str, folder: Path) -> Bundle | None:
        """Fetch the golden pictures of `version` into `folder`; None where the store lacks its bundle."""
        prefix = layout.model_folder(self.name, version)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            (folder / NAME).write_bytes(self.store.read(f"{prefix}/{NAME}"))
            bundle = read_description(folder)
        except (KeyError, BundleError):
            return None
        self.store.download_folder(f"{prefix}/golden", folder / "golden")
        return bundle

    def _key(self, digest: str) -> str:
        return layout.unfinished_key(self.name, self.namespace, digest)


def spec_digest(spec: Manifest) -> str:
    """Of a service's spec, or of an entry of its `canary`: the name of the record of its rollout."""
    return spec["predictor"].get("labels", {}).get(SPEC_LABEL, "none")
