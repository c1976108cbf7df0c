"""A cluster, an S3 bucket and two bundles, for the tests of what is deployed there."""

import copy
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bundles import make_bundle
from servers import S3Server

from cluster.admission import ENFORCE, VERSION, storage_container
from cluster.api import ApiServer, Failure, Target
from cluster.controller import Controller
from cluster.endpoint import Endpoint
from defectline.components.common.bundle import Bundle
from defectline.components.common.errors import DefectlineError
from defectline.components.common.storage import Storage, open_storage
from defectline.components.deploy import golden
from defectline.components.deploy.kserve.deployer import KServe
from defectline.components.deploy.kserve.gateway import check
from defectline.components.deploy.kserve.manifests import GROUP
from defectline.components.deploy.kserve.settings import KServeSettings
from defectline.components.deploy.status import Status

NAME, NAMESPACE = "defects", "vision"
ACCOUNT, SECRET = "defectline-models", "defectline-models"
SETTINGS = KServeSettings(
    namespace=NAMESPACE,
    image="registry.example/defectline-serve:0.1.0",
    service_account=ACCOUNT,
    timeout_s=60,
)
IMPATIENT = SETTINGS.model_copy(update={"timeout_s": 3})
"""For rollouts that come to no end; long enough to roll back on a busy machine."""
KNATIVE = SETTINGS.model_copy(update={"deployment_mode": "Knative"})
TWO = SETTINGS.model_copy(update={"min_replicas": 2, "max_replicas": 2})


def kserve(store: Storage, settings: KServeSettings) -> KServe:
    """The model `defects`, which is looked at without pauses that a test would wait for."""
    deployer = KServe(store, NAME, dict(settings), poll_s=0.01)
    deployer.outage_s, deployer.gateway_s = 0.1, 0.5
    return deployer


@dataclass
class World:
    """A cluster, an S3 bucket, and two bundles of which nothing is deployed.

    Seen from outside the cluster: names of the gateway in Standard mode do not resolve.
    """

    api: ApiServer
    controller: Controller
    endpoint: Endpoint
    store: Storage
    folders: list[Path]
    bundles: list[Bundle]

    def deploy(self, which: int, settings: KServeSettings = SETTINGS) -> str:
        """Deploy a bundle, and return where it serves."""
        return kserve(self.store, settings).deploy(self.folders[which], self.bundles[which], "run").where

    def roll_back(self, name: str = NAME, to: str = "") -> str:
        return KServe(self.store, name, {"namespace": NAMESPACE}, poll_s=0.01).roll_back(to)

    def status(self) -> Status:
        return KServe(self.store, NAME, {"namespace": NAMESPACE}).status()

    def script(self, which: int, script: str, only: str = "") -> None:
        """How the rollout of a bundle goes, everywhere or only for the service `only`."""
        version = self.bundles[which].version
        self.controller.scripts[(only, version) if only else version] = script

    def ask(self, which: int) -> None:
        """Ask as a client does: through the gateway."""
        headers = {"Host": next(host for host, model in self.endpoint.routes.items() if model == NAME)}
        address = golden.Address(self.endpoint.url, headers)
        golden.check(address, NAME, self.folders[which], self.bundles[which], settle_s=0)

    def kill_deployment(self, which: int, reached: Callable[[], bool]) -> None:
        """Deploy a bundle in a process of its own, and kill it as soon as it waits for pods where `reached`
        is true."""
        waiting = threading.Event()

        def watch(method: str, target: Target, query: dict[str, str]) -> None:
            if target.plural == "pods" and reached():
                waiting.set()

        self.api.before = watch
        # Not forked: the child would inherit the stand-ins' locks in whatever state they are.
        child = multiprocessing.get_context("spawn").Process(
            target=_deploy, args=(self.folders[which], self.bundles[which], self.store.uri)
        )
        child.start()
        try:
            assert waiting.wait(240)
        finally:
            child.kill()
            child.join()
        self.api.before = lambda method, target, query: None

    def cut_off(
        self,
        which: int,
        reached: Callable[[str, Target], bool],
        settings: KServeSettings = SETTINGS,
        run: str = "run",
    ) -> None:
        """Deploy a bundle until `reached` is true of a request: that one and all that follow change nothing.

        What is left is what a killed process leaves, without the seconds that a process takes.
        """
        dead = False

        def watch(method: str, target: Target, query: dict[str, str]) -> None:
            nonlocal dead
            dead = dead or (not query.get("dryRun") and reached(method, target))
            if dead:
                raise Failure(403, "Forbidden", "this process is dead")

        self.api.before = watch
        with pytest.raises(DefectlineError, match="dead"):
            kserve(self.store, settings).deploy(self.folders[which], self.bundles[which], run)
        self.api.before = lambda method, target, query: None

    def service(self) -> dict[str, Any]:
        """A copy of the InferenceService, or {} where there is none."""
        return copy.deepcopy(self.api.find("inferenceservices", NAMESPACE, NAME) or {})

    def candidate(self) -> dict[str, Any] | None:
        return self.api.find("inferenceservices", NAMESPACE, f"{NAME}-candidate")

    def spec(self) -> dict[str, Any]:
        return self.service()["spec"]

    def unfinished(self) -> list[str]:
        """The keys that say that a rollout is under way."""
        return [found.key for found in self.store.list(f"serving/{NAME}/unfinished/")]

    def writes(self) -> list[str]:
        """The requests that changed something."""
        changing = [line for line in self.api.requests if not line.startswith("GET")]
        return [line for line in changing if "dryRun" not in line and "accessreviews" not in line]


def _deploy(folder: Path, bundle: Bundle, store: str) -> None:
    kserve(open_storage(store), SETTINGS).deploy(folder, bundle, "run")


def put_account(api: ApiServer, endpoint: str) -> None:
    """The service account of the pods, and its secret, as KServe wants them."""
    annotations = {f"{GROUP}/s3-endpoint": endpoint.removeprefix("http://"), f"{GROUP}/s3-usehttps": "0"}
    data = {"AWS_ACCESS_KEY_ID": "aw==", "AWS_SECRET_ACCESS_KEY": "cw=="}
    api.put("secrets", NAMESPACE, SECRET, {"metadata": {"annotations": annotations}, "data": data})
    api.put("serviceaccounts", NAMESPACE, ACCOUNT, {"secrets": [{"name": SECRET}]})


def put_namespace(api: ApiServer, level: str = "restricted", flavour: str = "patched") -> None:
    """The namespace, with the standard that it enforces, and KServe's container for models as it was
    installed; see `storage_container`."""
    api.put("namespaces", "", NAMESPACE, {"metadata": {"labels": {ENFORCE: level, VERSION: "v1.32"}}})
    api.put("clusterstoragecontainers", "", "default", storage_container(flavour))


@pytest.fixture(name="world")
def make_world(tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for key, value in s3_server.env.items():
        monkeypatch.setenv(key, value)
    folders = [tmp_path / "first", tmp_path / "second"]
    bundles = [make_bundle(folder, seed=seed) for seed, folder in enumerate(folders)]
    api, endpoint = ApiServer(), Endpoint()
    for folder, bundle in zip(folders, bundles, strict=True):
        endpoint.add(folder, bundle)
    store = open_storage(f"s3://{s3_server.new_bucket()}/factory")
    with api.running(), endpoint.running():
        api.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setenv("http_proxy", endpoint.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
        api.namespaces = {NAMESPACE}
        put_namespace(api)
        put_account(api, s3_server.env["AWS_ENDPOINT_URL"])
        monkeypatch.setattr(check, "reachable", lambda host, port, within_s: endpoint.resolves(host))
        yield World(api, Controller(api, endpoint), endpoint, store, folders, bundles)
