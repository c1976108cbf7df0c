"""Let clients' requests reach a new version step by step, where the cluster can really do that.

KServe ignores a canary that its mode, release or gateway cannot serve, and says nothing: each step is
believed only when the pods are there, the routes have the weights, and both versions have answered.
"""

from collections.abc import Callable
from dataclasses import replace

from defectline.components.common.steps import say
from defectline.components.common.waiting import Retry, poll
from defectline.components.deploy import golden
from defectline.components.deploy.golden import Address, Side
from defectline.components.deploy.kserve.answers import conflict
from defectline.components.deploy.kserve.cluster import DEPLOYMENTS, ROUTES, SERVICES, same_spec
from defectline.components.deploy.kserve.live import LiveService
from defectline.components.deploy.kserve.manifests import (
    Manifest,
    canary_name,
    canary_of,
    change_to,
    merge_patch,
    mode_of,
)
from defectline.components.deploy.kserve.pods import check_pods

APPLY_S = 30.0
"""How long KServe may take to make a canary's pods or to change a route."""


def run_canary(
    live: LiveService,
    service: Manifest,
    begin: Callable[[], None],
    new: Side,
    previous: Side,
) -> None:
    """Check the new version at 0 percent, then monitor it at every step of `canary_steps`.

    `service` is what `live` is to become; `begin` is called before its spec is in force. `new` and `previous`
    are both versions, without addresses. Afterwards the previous version still has the rest of the
    requests. Raises ServingError where an answer is not as sealed, and where the cluster ignores the canary.
    """
    version = new.bundle.version
    knative = mode_of(service) == "Knative"
    canary = _Knative(live, service) if knative else _Standard(live, service)
    begin()
    canary.share(0)
    address = canary.wait()
    golden.wait_until_ready(address, live.name, golden.SETTLE_S)
    golden.check(address, live.name, new.folder, new.bundle)
    say(f"{live.name} {version}: golden pictures answered as sealed, before any client asks")
    sides = [replace(new, address=address), replace(previous, address=canary.address_before())]
    for percent in live.settings.canary_steps:
        canary.share(percent)
        canary.wait_for_share(percent)
        counts = golden.monitor(
            live.name,
            sides,
            live.settings.canary_step_s,
            shared=live.address() if live.by_gateway else None,
            least_share=min(percent, 100 - percent) / 100,
        )
        check_pods(live.cluster, live.name, version, service["spec"]["predictor"]["labels"])
        shares = ", ".join(f"{one} {count}" for one, count in counts.items())
        say(f"{live.name} at {percent} %: every answer as sealed ({shares})")


def roll_back(live: LiveService, previous: Manifest) -> None:
    """In Knative mode, put the spec `previous` back in force without a request to the version that failed.

    In one step, all requests would go to the latest revision that is ready, the failed one, until that of
    the previous spec is.
    """
    none: Manifest = {"spec": {"predictor": {"canaryTrafficPercent": 0}}}
    held: Manifest = {**previous, "predictor": {**previous["predictor"], "canaryTrafficPercent": 0}}
    live.change({"spec": merge_patch(live.change(none)["spec"], held)})
    live.wait()
    live.change({"spec": merge_patch(held, previous)})


class _Standard:
    """A second Deployment, and weights in the HTTPRoutes of the Gateway API.

    The service's own address leads to the pods of the previous version alone.
    """

    def __init__(self, live: LiveService, service: Manifest):
        self.live, self.service = live, service
        self.child = f"{live.name}-{canary_name(service)}-predictor"

    def share(self, percent: int) -> None:
        self.live.change({"spec": {"canary": canary_of(self.service, percent)}})

    def wait(self) -> Address:
        """Where the canary alone answers, once its pods are ready."""
        live = self.live
        _wait_until_applied(
            live, lambda: "" if live.cluster.get(DEPLOYMENTS, self.child) else f"no Deployment {self.child}"
        )
        live.wait(live.current["spec"]["canary"][0])
        return live.address_of(self.child)

    def address_before(self) -> Address | None:
        """Where the previous version alone answers."""
        return self.live.address_of(self.live.predictor)

    def wait_for_share(self, percent: int) -> None:
        """Return once both routes send so many percent to the canary."""
        _wait_until_applied(self.live, lambda: self._difference(percent))

    def _difference(self, percent: int) -> str:
        # One of the two leads from the service's own host, the other from that of its predictor.
        for name in (self.live.name, f"{self.live.name}-predictor"):
            route = self.live.cluster.get(ROUTES, name)
            if route is None:
                return f"no HTTPRoute {name}"
            backends = [b for rule in route["spec"].get("rules", []) for b in rule.get("backendRefs", [])]
            weights = {b.get("weight", 1) for b in backends if b["name"] == self.child}
            if weights != {percent}:
                return f"weight {sorted(weights) or 'none'} in HTTPRoute {name}"
        return ""


class _Knative:
    """A second revision, and weights in the route of Knative Serving."""

    def __init__(self, live: LiveService, service: Manifest):
        self.live, self.service = live, service

    def share(self, percent: int) -> None:
        patch: Manifest = {"spec": {"predictor": {"canaryTrafficPercent": percent}}}
        if percent == 0:
            patch = change_to(self.live.current, self.service)
            patch["spec"]["predictor"]["canaryTrafficPercent"] = 0
        self.live.change(patch)

    def wait(self) -> Address:
        """Where the new revision alone answers, once it is ready."""
        self.live.wait()
        self.wait_for_share(0)
        latest = self._latest()
        if not latest.get("url"):
            raise _ignored(self.live.name, "its revision has no address of its own")
        return self.live.address_of_tag(latest["tag"], latest["url"])

    def address_before(self) -> Address | None:
        """The previous revision is asked through the route, with its share of the requests."""
        return None

    def wait_for_share(self, percent: int) -> None:
        """Return once the route sends so many percent to the new revision."""
        _wait_until_applied(self.live, lambda: self._difference(percent))

    def _difference(self, percent: int) -> str:
        got = self._latest().get("percent", 0)
        return "" if got == percent else f"{got} percent of the requests in its status"

    def _latest(self) -> Manifest:
        """The target of the route that is the revision made last."""
        found = self.live.cluster.get(SERVICES, self.live.name)
        if found is None or not same_spec(found, self.live.current):
            raise conflict(SERVICES, self.live.name)
        predictor = found.get("status", {}).get("components", {}).get("predictor", {})
        created = predictor.get("latestCreatedRevision")
        targets = [t for t in predictor.get("traffic", []) if t.get("revisionName") == created]
        # Without a canary the only target has all requests and no tag.
        return next((t for t in targets if t.get("tag") == "latest"), targets[0] if targets else {})


def _wait_until_applied(live: LiveService, difference: Callable[[], str]) -> None:
    """Return once `difference` finds none; ServingError where the cluster does not do as it was told."""

    def look() -> None:
        if got := difference():
            raise _ignored(live.name, got)

    poll(look, min(APPLY_S, live.settings.timeout_s), live.poll_s)


def _ignored(name: str, got: str) -> Retry:
    return Retry(
        f"This cluster does not give the canary of {name} its share.",
        got=got,
        expected="Knative Serving, or KServe 0.21 or later with the Gateway API (enableGatewayApi)",
        fix="Set `strategy` to candidate.",
    )
