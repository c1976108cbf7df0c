"""Where a model serves: each target is a class with these methods."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from defectline.components.common.bundle import Bundle
from defectline.components.common.storage import open_storage
from defectline.components.deploy.local import Local
from defectline.components.deploy.status import Deployed, Status


class Deployer(Protocol):
    """One model on one target. Every method raises DefectlineError for what the user can fix."""

    def champion(self) -> str:
        """The version that serves now, "" for none: found where it serves, not remembered."""

    def deploy(self, folder: Path, bundle: Bundle, run: str) -> Deployed:
        """Make the sealed `bundle` in `folder` the champion, for the run `run`.

        Raises, with the previous champion still serving, where the endpoint does not give the golden answers,
        and where another process deploys at the same time.
        """

    def roll_back(self, to: str = "") -> str:
        """Serve the version `to` again, or with "" the one before the champion; return which that is.

        The gate is not asked again. Going back twice leads to where one was. Raises, with the champion still
        serving, where there is no such version, its bundle is gone or changed, or it does not answer as
        sealed.
        """

    def deployed_by(self, run: str) -> str:
        """The version that serves, checked, where the deployment of `run` put it there; else ""."""

    def undo(self, run: str) -> str:
        """Undo what a deployment of `run` left that was killed, and nothing else.

        Returns the sentences that say what that was, "" for nothing. Raises where it cannot be undone.
        """

    def status(self) -> Status:
        """What serves, and what is under way."""


def open_deployer(store: str, name: str, kserve: Mapping[str, Any]) -> Deployer:
    """The model `name` on KServe, where `kserve`, fields of KServeSettings, name a namespace; else on this
    machine."""
    storage = open_storage(store)
    if not kserve.get("namespace"):
        return Local(storage, name)
    # The packages of Kubernetes are slow to import.
    from defectline.components.deploy.kserve.deployer import KServe

    return KServe(storage, name, kserve)
