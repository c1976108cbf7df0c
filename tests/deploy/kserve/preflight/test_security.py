"""What the namespace would refuse is found before anything is written, where it may be looked at."""

import pytest
from cluster.world import KNATIVE, NAME, NAMESPACE, SETTINGS, World, put_namespace

from defectline.components.common.errors import ServingError
from defectline.components.deploy.kserve.cluster import Cluster
from defectline.components.deploy.kserve.preflight.findings import Finding
from defectline.components.deploy.kserve.preflight.security import pod_security
from defectline.components.deploy.kserve.settings import KServeSettings


def found(world: World, settings: KServeSettings = SETTINGS) -> list[Finding]:
    return list(pod_security(Cluster(NAMESPACE), NAME, world.store.uri, settings))


@pytest.mark.parametrize(
    ("level", "flavour", "settings", "lacking"),
    [
        ("restricted", "plain", SETTINGS, "allowPrivilegeEscalation: false, capabilities.drop: [ALL]"),
        ("restricted", "helm", SETTINGS, ""),
        ("restricted", "patched", SETTINGS, ""),
        ("restricted", "plain", KNATIVE, "runAsNonRoot: true, a seccompProfile"),
        ("restricted", "helm", KNATIVE, "without a seccompProfile"),
        ("restricted", "patched", KNATIVE, ""),
        ("baseline", "plain", SETTINGS, ""),
        ("privileged", "plain", KNATIVE, ""),
    ],
)
def test_what_the_standard_wants_and_kserve_does_not_give(
    world: World, level: str, flavour: str, settings: KServeSettings, lacking: str
) -> None:
    put_namespace(world.api, level, flavour)
    findings = found(world, settings)
    assert [lacking in finding.got for finding in findings] == ([True] if lacking else [])
    for finding in findings:
        assert finding.looked
        assert "manifests/cluster/storage-container.yaml" in finding.fix


def test_it_stops_a_deployment_before_anything_is_written(world: World) -> None:
    put_namespace(world.api, "restricted", "plain")
    with pytest.raises(ServingError, match="Namespace vision would refuse the served pods"):
        world.deploy(0)
    assert world.writes() == []


def test_a_patch_that_was_lost_is_noticed_though_a_service_serves(world: World) -> None:
    """KServe was installed again since: pods that serve are left alone, new ones would be refused."""
    world.deploy(0)
    put_namespace(world.api, "restricted", "plain")
    written = world.writes()
    with pytest.raises(ServingError, match="Namespace vision would refuse the served pods"):
        world.deploy(1)
    assert world.writes() == written
    world.ask(0)


def test_the_container_counts_that_kserve_takes_for_the_store(world: World) -> None:
    container = world.api.find("clusterstoragecontainers", "", "default")
    assert container is not None
    other = {"spec": {**container["spec"], "container": {"name": "storage-initializer"}}}
    other["spec"]["supportedUriFormats"] = [{"regex": "s3://(.+)/(.+)"}]
    world.api.put("clusterstoragecontainers", "", "aws", other)
    [finding] = found(world)
    assert "ClusterStorageContainer aws without" in finding.got
    world.api.put("clusterstoragecontainers", "", "aws", {**other, "disabled": True})
    assert found(world) == []
    job = {"spec": {**other["spec"], "workloadType": "localModelDownloadJob"}}
    world.api.put("clusterstoragecontainers", "", "aws", job)
    assert found(world) == []
    world.api.remove("clusterstoragecontainers", "", "aws")
    world.api.remove("clusterstoragecontainers", "", "default")
    [finding] = found(world)
    assert "KServe's default without" in finding.got


@pytest.mark.parametrize(
    ("denied", "what"),
    [
        (("get", "namespaces"), "The pod security standard of namespace vision was not looked at."),
        (("list", "clusterstoragecontainers"), "KServe's ClusterStorageContainer was not looked at."),
    ],
)
def test_without_the_right_it_is_said_and_stops_nothing(
    world: World, denied: tuple[str, str], what: str
) -> None:
    world.api.denied = {denied}
    [finding] = found(world)
    assert (finding.what, finding.looked) == (what, False)
    world.deploy(0)
    # Once is enough: its pods were taken.
    assert found(world) == []
