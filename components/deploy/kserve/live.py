"""An InferenceService that is in the cluster: change it, wait for it, ask it."""

from pathlib import Path
from urllib.parse import urlsplit

from defectline.components.common.bundle import Bundle
from defectline.components.common.errors import ServingError
from defectline.components.common.steps import say
from defectline.components.common.waiting import poll
from defectline.components.deploy import golden
from defectline.components.deploy.golden import Address
from defectline.components.deploy.kserve.cluster import SERVICES, Cluster
from defectline.components.deploy.kserve.manifests import SERVICE_LABEL, Manifest, is_managed, mode_of
from defectline.components.deploy.kserve.readiness import wait_until_rolled_out
from defectline.components.deploy.kserve.settings import KServeSettings

REACH_S = 5.0
"""How long the version that serves may take to answer before anything is changed."""


class LiveService:
    """The service `current`, which runs as `settings` say."""

    def __init__(self, cluster: Cluster, current: Manifest, settings: KServeSettings, poll_s: float):
        self.cluster, self.settings, self.poll_s = cluster, settings, poll_s
        self.current = current
        """As it was last read or written here."""

    @property
    def name(self) -> str:
        return self.current["metadata"]["name"]

    @property
    def predictor(self) -> str:
        """The Kubernetes Service of its pods in Standard mode, without those of a canary."""
        own = self.current["spec"]["predictor"].get("name")
        return f"{self.name}-{own}-predictor" if own else f"{self.name}-predictor"

    def change(self, patch: Manifest) -> Manifest:
        """Merge `patch` into the service. Raises Conflict where another process has changed it since."""
        self.current = self.cluster.patch(SERVICES, self.current, patch)
        return self.current

    def wait(self, canary: Manifest | None = None) -> None:
        """Return once its pods, or those of `canary`, are ready; see `wait_until_rolled_out`."""
        self.current = wait_until_rolled_out(
            self.cluster, self.current, self.settings.timeout_s, self.poll_s, canary
        )

    @property
    def by_gateway(self) -> bool:
        """Whether `address` leads through a gateway, which gives a canary its share of the requests."""
        return bool(self.settings.url) or mode_of(self.current) == "Knative"

    def address(self) -> Address:
        """Where the service is asked: through the gateway of `url`, within the cluster, or past its API.

        In Standard mode the last two lead to the pods of `predictor` alone.
        """
        status = self.current.get("status", {})
        if self.settings.url:
            return self._at_gateway(self.settings.host_header or urlsplit(status["url"]).netloc)
        if not self.by_gateway:
            return self.address_of(self.predictor)
        return Address((self.cluster.inside and status.get("address", {}).get("url")) or status["url"])

    def address_of(self, predictor: str) -> Address:
        """Where the pods of one Kubernetes Service of it are asked, past any gateway; in Standard mode."""
        if not self.cluster.inside:
            return self.cluster.through_api(predictor)
        # The service's own address has the port and the domain that this cluster's Services have.
        address = urlsplit(self.current["status"]["address"]["url"])
        domain = address.netloc.partition(".")[2]
        return Address(address._replace(netloc=f"{predictor}.{domain}").geturl())

    def address_of_tag(self, tag: str, url: str) -> Address:
        """Where a tagged revision, which has the address `url`, is asked; in Knative mode."""
        if self.settings.url:
            return self._at_gateway(urlsplit(url).netloc)
        if self.cluster.inside:
            return Address(f"http://{tag}-{self.predictor}.{self.cluster.namespace}.svc")
        return Address(url)

    def _at_gateway(self, host: str) -> Address:
        return Address(self.settings.url, {"Host": host})

    def check(self, folder: Path, bundle: Bundle) -> None:
        """Ask for the golden pictures of the bundle in `folder`. Raises ServingError."""
        address = self.address()
        golden.wait_until_ready(address, self.name, golden.SETTLE_S)
        golden.check(address, self.name, folder, bundle)
        say(f"{self.name} {bundle.version}: {len(bundle.golden)} golden pictures answered as sealed")

    def check_address(self) -> None:
        """Raise ServingError where a deployment could not ask the service from here; nothing is changed.

        That the version which serves is broken is not such a case.
        """
        if not self.current.get("status", {}).get("url"):
            return
        try:
            golden.wait_until_ready(self.address(), self.name, REACH_S)
        except ServingError as error:
            answers = not isinstance(error, golden.Unreachable)
            ready = any(map(is_ready, self.cluster.pods({SERVICE_LABEL: self.name})))
            if answers and not (ready and is_managed(self.current)):
                return
            raise unreachable(self.name, error) from error


def check_gateway(name: str, settings: KServeSettings) -> None:
    """Raise ServingError where nothing answers at the gateway of `url`; where no service is there yet."""
    address = Address(settings.url)
    try:
        poll(lambda: golden.wait_until_ready(address, name, 0), REACH_S, golden.PAUSE_S, golden.Unreachable)
    except golden.Unreachable as error:
        raise unreachable(name, error) from error
    except ServingError as error:
        say(f"{settings.url} answers: {error.got}")


def unreachable(name: str, error: ServingError) -> ServingError:
    return ServingError(
        f"{name} cannot be asked from here, so nothing was changed.",
        got=f"{error.what} {error.got}",
        expected="an answer of the version that serves, whose pods are ready",
        fix="Run this in a pod of the cluster; or name a gateway that this machine reaches with `url` and"
        " `host_header` (--url, --host-header). Where the API server reports a timeout, network policies"
        " keep it from the pods.",
    )


def is_ready(pod: Manifest) -> bool:
    """Whether a pod takes requests."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any((condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions)
