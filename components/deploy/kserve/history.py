"""What the store remembers of deployments on a cluster; what serves is asked of the cluster itself.

serving/<name>/deployed/<namespace>/<version>.json    how a version was deployed, and what served before it
serving/<name>/unfinished/<namespace>/<spec>.json     the spec to go back to while a rollout is under way
models/<name>/<version>/                              the whole bundle, with its golden pictures
"""

import json
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from defectline.components.common import layout
from defectline.components.common.bundle import Bundle
from defectline.components.common.errors import StoreError
from defectline.components.common.storage import Storage
from defectline.components.deploy.kserve.manifests import SPEC_LABEL, Manifest, without_canary
from defectline.components.deploy.kserve.settings import KServeSettings


class Deployed(BaseModel):
    """How a version came to serve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    previous: str = Field(validation_alias=AliasChoices("previous", "former"))
    """The version that served before; "" for none, or one that defectline did not deploy."""
    settings: KServeSettings


class History:
    """The records of one model in one namespace."""

    def __init__(self, store: Storage, namespace: str, name: str):
        self.store, self.namespace, self.name = store, namespace, name

    def deployed(self, version: str) -> Deployed | None:
        """How `version` was deployed; None where it never was. Raises StoreError."""
        key = layout.deployed_key(self.name, self.namespace, version)
        try:
            return Deployed.model_validate_json(self.store.read(key))
        except KeyError:
            return None
        except ValidationError as error:
            raise StoreError(
                f"{self.store.url(key)} cannot be understood.",
                got=error.errors()[0]["msg"],
                expected="what a deployment of this version of defectline wrote",
                fix="Deploy that version by the pipeline again, or remove the file.",
            ) from error

    def versions(self) -> list[str]:
        """The versions that were deployed, oldest first."""
        prefix = layout.deployed_prefix(self.name, self.namespace)
        return sorted(Path(found.key).stem for found in self.store.list(prefix))

    def write_deployed(self, version: str, previous: str, settings: KServeSettings) -> None:
        """Note that `version` serves, with what served before; a repetition leaves that as it was."""
        if previous == version:
            before = self.deployed(version)
            previous = before.previous if before else ""
        key = layout.deployed_key(self.name, self.namespace, version)
        deployed = Deployed(previous=previous, settings=settings)
        self.store.write(key, deployed.model_dump_json(indent=2).encode())

    def begin(self, writing: Manifest, previous: Manifest | None, metadata: Manifest) -> None:
        """Note, before the spec `writing` is put in force, what to go back to."""
        record = {"previous": previous, "metadata": metadata}
        self.store.write(self._unfinished(writing), json.dumps(record).encode())

    def end(self, written: Manifest) -> None:
        """Note that nothing is under way any more with the spec `written`, if anything was."""
        key = self._unfinished(written)
        if self.store.exists(key):
            self.store.delete(key)

    def previous(self, current: Manifest | None, service: Manifest) -> tuple[Manifest | None, Manifest]:
        """What to go back to from `service`: a spec, None for no service, and a patch of the metadata.

        It is what is in force, unless the rollout of that never ended.
        """
        if current is None:
            return None, {}
        if found := self.store.read_versioned(self._unfinished(current["spec"])):
            record = json.loads(found[0])
            # A rollout by an earlier version of defectline noted the same under other names.
            earlier = "former" in record
            return record["former" if earlier else "previous"], record["marks" if earlier else "metadata"]
        metadata = {}
        for part in ("labels", "annotations"):
            there = current["metadata"].get(part) or {}
            metadata[part] = {key: there.get(key) for key in service["metadata"][part]}
        return without_canary(current["spec"]), metadata

    def is_unfinished(self, current: Manifest) -> bool:
        """Whether the rollout that put `current` in force has not ended."""
        return self.store.exists(self._unfinished(current["spec"]))

    def fetch_golden(self, version: str, folder: Path) -> Bundle | None:
        """Fetch the golden pictures of `version` into `folder`; None where the store lacks its bundle."""
        prefix = layout.model_folder(self.name, version)
        try:
            bundle = Bundle.model_validate_json(self.store.read(f"{prefix}/bundle.json"))
        except (KeyError, ValidationError):
            return None
        self.store.download_folder(f"{prefix}/golden", folder / "golden")
        return bundle

    def _unfinished(self, spec: Manifest) -> str:
        digest = spec["predictor"].get("labels", {}).get(SPEC_LABEL, "none")
        return layout.unfinished_key(self.name, self.namespace, digest)
