"""An InferenceService that is in the cluster: change it, wait for it, ask it."""

from pathlib import Path
from urllib.parse import urlsplit

from defectline.components.common.bundle import Bundle
from defectline.components.common.steps import say
from defectline.components.deploy import golden
from defectline.components.deploy.kserve.cluster import SERVICES, Cluster
from defectline.components.deploy.kserve.manifests import Manifest
from defectline.components.deploy.kserve.readiness import wait_until_rolled_out
from defectline.components.deploy.kserve.settings import KServeSettings


class LiveService:
    """The service `current`, which runs as `settings` say."""

    def __init__(self, cluster: Cluster, current: Manifest, settings: KServeSettings, poll_s: float):
        self.cluster, self.settings, self.poll_s = cluster, settings, poll_s
        self.current = current
        """As it was last read or written here."""

    @property
    def name(self) -> str:
        return self.current["metadata"]["name"]

    def change(self, patch: Manifest) -> Manifest:
        """Merge `patch` into the service. Raises Conflict where another process has changed it since."""
        self.current = self.cluster.patch(SERVICES, self.current, patch)
        return self.current

    def wait(self, canary: Manifest | None = None) -> None:
        """Return once its pods, or those of `canary`, are ready; see `wait_until_rolled_out`."""
        self.current = wait_until_rolled_out(
            self.cluster, self.current, self.settings.timeout_s, self.poll_s, canary
        )

    def address(self, url: str = "") -> tuple[str, dict[str, str] | None]:
        """Where the service, or the part of it that answers at `url`, is asked; with which headers."""
        status = self.current.get("status", {})
        if not self.settings.url:
            inner = status.get("address", {}).get("url") if self.cluster.inside else None
            return url or inner or status["url"], None
        host = (not url and self.settings.host_header) or urlsplit(url or status["url"]).netloc
        return self.settings.url, {"Host": host}

    def check(self, folder: Path, bundle: Bundle) -> None:
        """Ask for the golden pictures of the bundle in `folder`. Raises ServingError."""
        url, headers = self.address()
        golden.wait_until_ready(url, self.name, golden.SETTLE_S, headers=headers)
        golden.check(url, self.name, folder, bundle, headers=headers)
        say(f"{self.name} {bundle.version}: {len(bundle.golden)} golden pictures answered as sealed")
