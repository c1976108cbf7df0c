"""Let clients' requests reach a new version step by step, where the cluster can really do that.

KServe ignores a canary that its mode, release or gateway cannot serve, and says nothing: each step is
believed only when the pods are there and the route has the weights.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from defectline.components.common.errors import ServingError
from defectline.components.common.steps import say
from defectline.components.deploy import golden
from defectline.components.deploy.kserve.cluster import DEPLOYMENTS, ROUTES, SERVICES, conflict, same_spec
from defectline.components.deploy.kserve.manifests import (
    Manifest,
    canary_name,
    canary_of,
    change_to,
    merge_patch,
    mode_of,
    version_of,
)
from defectline.components.deploy.kserve.readiness import check_pods

if TYPE_CHECKING:
    from defectline.components.deploy.kserve.rollout import Rollout

HEED_S = 30.0
"""How long KServe may take to make a canary's pods or to change a route."""


def try_out(rollout: "Rollout") -> None:
    """Check the new version at 0 percent, then watch it at every step of `canary_steps`.

    Afterwards the former version still has the rest of the requests. Raises ServingError where an answer is
    not as sealed, and where the cluster ignores the canary.
    """
    settings, name = rollout.settings, rollout.name
    assert rollout.former is not None
    with tempfile.TemporaryDirectory() as temporary:
        former = rollout.history.fetch_golden(version_of(rollout.former), Path(temporary))
        if former is None:
            raise ServingError(
                f"Whether {name} answers well during a canary cannot be told.",
                got=f"no bundle of {version_of(rollout.former)} in the store",
                expected="the golden pictures of both versions",
                fix="Set `strategy` to candidate.",
            )
        served = [(rollout.folder, rollout.bundle), (Path(temporary), former)]
        canary = _Knative(rollout) if mode_of(rollout.service) == "Knative" else _Standard(rollout)
        canary.share(0)
        url, headers = canary.wait()
        golden.wait_until_ready(url, name, golden.SETTLE_S, headers=headers)
        golden.ask(url, name, rollout.folder, rollout.bundle, headers=headers)
        say(f"{name} {rollout.bundle.version}: golden pictures answered as sealed, before any client asks")
        for percent in settings.canary_steps:
            canary.share(percent)
            canary.wait_for_share(percent)
            assert rollout.current is not None
            url, headers = rollout.address(rollout.current)
            counts = golden.watch(url, name, served, settings.canary_step_s, headers=headers)
            labels = rollout.service["spec"]["predictor"]["labels"]
            check_pods(rollout.cluster, name, rollout.bundle.version, labels)
            shares = ", ".join(f"{version} {count}" for version, count in counts.items())
            say(f"{name} at {percent} %: every answer as sealed ({shares})")


def go_back(rollout: "Rollout", former: Manifest) -> None:
    """In Knative mode, put `former` back in force without a request to the version that failed.

    In one step, all requests would go to the latest revision that is ready, the failed one, until that of
    the former spec is.
    """
    none: Manifest = {"spec": {"predictor": {"canaryTrafficPercent": 0}}}
    held: Manifest = {**former, "predictor": {**former["predictor"], "canaryTrafficPercent": 0}}
    rollout.wait(rollout.change({"spec": merge_patch(rollout.change(none)["spec"], held)}))
    rollout.change({"spec": merge_patch(held, former)})


class _Standard:
    """A second Deployment, and weights in the HTTPRoute of the Gateway API."""

    def __init__(self, rollout: "Rollout"):
        self.rollout = rollout
        self.child = f"{rollout.name}-{canary_name(rollout.service)}-predictor"

    def share(self, percent: int) -> None:
        self.rollout.change({"spec": {"canary": canary_of(self.rollout.service, percent)}})

    def wait(self) -> tuple[str, dict[str, str] | None]:
        """Where the canary answers, and with which headers, once its pods are ready."""
        rollout = self.rollout
        _until_heeded(
            rollout,
            lambda: "" if rollout.cluster.get(DEPLOYMENTS, self.child) else f"no Deployment {self.child}",
        )
        assert rollout.current is not None
        rollout.current = rollout.wait(rollout.current, rollout.current["spec"]["canary"][0])
        # No route leads to it yet; within the cluster its own Service does.
        return f"http://{self.child}.{rollout.settings.namespace}.svc", None

    def wait_for_share(self, percent: int) -> None:
        """Return once the route sends so many percent to the canary."""
        _until_heeded(self.rollout, lambda: self._difference(percent))

    def _difference(self, percent: int) -> str:
        route = self.rollout.cluster.get(ROUTES, f"{self.rollout.name}-predictor")
        if route is None:
            return f"no HTTPRoute {self.rollout.name}-predictor"
        weights = {
            backend.get("weight", 1)
            for rule in route["spec"].get("rules", [])
            for backend in rule.get("backendRefs", [])
            if backend["name"] == self.child
        }
        return "" if weights == {percent} else f"weight {sorted(weights) or 'none'} in its HTTPRoute"


class _Knative:
    """A second revision, and weights in the route of Knative Serving."""

    def __init__(self, rollout: "Rollout"):
        self.rollout = rollout

    def share(self, percent: int) -> None:
        rollout = self.rollout
        assert rollout.current is not None
        patch: Manifest = {"spec": {"predictor": {"canaryTrafficPercent": percent}}}
        if percent == 0:
            rollout.begin()
            patch = change_to(rollout.current, rollout.service)
            patch["spec"]["predictor"]["canaryTrafficPercent"] = 0
        rollout.change(patch)

    def wait(self) -> tuple[str, dict[str, str] | None]:
        """Where the new revision alone answers, and with which headers, once it is ready."""
        rollout = self.rollout
        assert rollout.current is not None
        rollout.wait(rollout.current)
        self.wait_for_share(0)
        url = self._latest().get("url")
        if not url:
            raise _ignored(rollout.name, "its revision has no address of its own")
        return rollout.address(rollout.current, url)

    def wait_for_share(self, percent: int) -> None:
        """Return once the route sends so many percent to the new revision."""
        _until_heeded(self.rollout, lambda: self._difference(percent))

    def _difference(self, percent: int) -> str:
        got = self._latest().get("percent", 0)
        return "" if got == percent else f"{got} percent of the requests in its status"

    def _latest(self) -> Manifest:
        """The target of the route that is the revision made last."""
        live = self.rollout.cluster.get(SERVICES, self.rollout.name)
        assert self.rollout.current is not None
        if live is None or not same_spec(live, self.rollout.current):
            raise conflict(SERVICES, self.rollout.name)
        predictor = live.get("status", {}).get("components", {}).get("predictor", {})
        created = predictor.get("latestCreatedRevision")
        targets = [t for t in predictor.get("traffic", []) if t.get("revisionName") == created]
        # Without a canary the only target has all requests and no tag.
        return next((t for t in targets if t.get("tag") == "latest"), targets[0] if targets else {})


def _until_heeded(rollout: "Rollout", difference: Callable[[], str]) -> None:
    """Return once `difference` finds none; ServingError where the cluster does not do as it was told."""
    deadline = time.monotonic() + min(HEED_S, rollout.settings.timeout_s)
    while got := difference():
        if time.monotonic() >= deadline:
            raise _ignored(rollout.name, got)
        time.sleep(rollout.poll_s)


def _ignored(name: str, got: str) -> ServingError:
    return ServingError(
        f"This cluster does not give the canary of {name} its share.",
        got=got,
        expected="Knative Serving, or KServe 0.21 or later with the Gateway API (enableGatewayApi)",
        fix="Set `strategy` to candidate.",
    )
