"""The Kubernetes API as the deployment needs it: dicts in and out, errors that say how to fix them."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException

from defectline.components.common.errors import ServingError
from defectline.components.deploy.api_form import ApiClient
from defectline.components.deploy.golden import Address
from defectline.components.deploy.kserve.answers import conflict, explained, is_missing
from defectline.components.deploy.kserve.manifests import GROUP, Manifest
from defectline.components.deploy.kserve.proxy import ServiceProxy
from defectline.components.deploy.kserve.settings import KServeSettings

REQUEST_S = 30
NOT_A_LOG = ("unable to retrieve container logs for ", "failed to try resolving symlinks in path ")
"""Begins what kubelet answers, with 200, where a container's log is gone."""
PATCH_ATTEMPTS = 10
"""Every change of the status makes what was read stale."""
SERVICES = (GROUP, "v1beta1", "inferenceservices")
RUNTIMES = (GROUP, "v1alpha1", "servingruntimes")
DEPLOYMENTS = ("apps", "v1", "deployments")
REVISIONS = ("serving.knative.dev", "v1", "revisions")
ROUTES = ("gateway.networking.k8s.io", "v1", "httproutes")
BUDGETS = ("policy", "v1", "poddisruptionbudgets")
POLICIES = ("networking.k8s.io", "v1", "networkpolicies")
AUTHORIZATIONS = ("security.istio.io", "v1", "authorizationpolicies")
STORAGE_CONTAINERS = (GROUP, "v1alpha1", "clusterstoragecontainers")

Kind = tuple[str, str, str]
"""API group, version and plural of a kind of objects."""


class Permission(NamedTuple):
    """A verb on a resource (`pods` or `pods/log`) of an API group."""

    verb: str
    group: str
    resource: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{'.' if self.group else ''}{self.group}"


def needed_permissions(settings: KServeSettings, inside: bool) -> list[Permission]:
    """For all that a deployment does in its namespace, from inside of the cluster or not."""
    permissions = [
        *(Permission(verb, GROUP, "inferenceservices") for verb in ("get", "create", "patch", "delete")),
        *(Permission(verb, GROUP, "servingruntimes") for verb in ("get", "create")),
        Permission("list", "", "pods"),
        Permission("get", "", "pods/log"),
        Permission("list", "", "events"),
    ]
    group, _, plural = REVISIONS if settings.deployment_mode == "Knative" else DEPLOYMENTS
    permissions.append(Permission("get", group, plural))
    if settings.strategy == "canary" and settings.deployment_mode == "Standard":
        permissions.append(Permission("get", ROUTES[0], ROUTES[2]))
    if settings.max_replicas > 1:
        permissions += [Permission(verb, BUDGETS[0], BUDGETS[2]) for verb in ("get", "create")]
    if asks_by_proxy(settings, inside):
        permissions += [Permission(verb, "", "services/proxy") for verb in ("get", "create")]
    return permissions


def asks_by_proxy(settings: KServeSettings, inside: bool) -> bool:
    """Whether a Service is asked through the API server, which in Knative mode cannot lead to one."""
    if inside or settings.deployment_mode == "Knative":
        return False
    # The gateway that `url` names shares requests out, so each side of a canary is asked past it.
    return not settings.url or settings.strategy == "canary"


class Cluster:
    """One namespace of the cluster in KUBECONFIG, or else of the one that this process runs in.

    Every method raises ServingError for what the user can fix, and Unavailable for what may pass.
    """

    def __init__(self, namespace: str):
        self.namespace = namespace
        settings = client.Configuration()
        try:
            if _in_a_pod():
                config.load_incluster_config(client_configuration=settings)
            else:
                # The client's own default reads KUBECONFIG once, at import.
                config.load_kube_config(
                    config_file=os.environ.get("KUBECONFIG"), client_configuration=settings
                )
        # What is YAML, but of another form than a kubeconfig, fails wherever it is used.
        except (ConfigException, OSError, yaml.YAMLError, TypeError, ValueError, AttributeError) as error:
            known = isinstance(error, ConfigException | OSError | yaml.YAMLError)
            raise ServingError(
                "No cluster is configured.",
                got=str(error) if known else f"a file that is not a kubeconfig ({error})",
                expected="to run in the cluster, or a kubeconfig",
                fix="Set KUBECONFIG to a kubeconfig file whose current context is the cluster.",
            ) from error
        self._api = ApiClient(settings)
        self._objects = client.CustomObjectsApi(self._api)
        self._core = client.CoreV1Api(self._api)

    @property
    def inside(self) -> bool:
        """Whether this process runs in that cluster, where names of Services resolve."""
        return _in_a_pod()

    def through_api(self, service: str) -> Address:
        """Where the pods of a Service are asked through the API server."""
        proxy = ServiceProxy(self._api)
        return Address(proxy.url(self.namespace, service), None, proxy)

    def allowed(self, permission: Permission, name: str = "", namespace: str | None = None) -> bool:
        """Whether this account may do so to the object `name` or to any, in this or another namespace.

        The namespace "" is the whole cluster.
        """
        resource, _, subresource = permission.resource.partition("/")
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(
                resource_attributes=client.V1ResourceAttributes(
                    namespace=self.namespace if namespace is None else namespace,
                    verb=permission.verb,
                    group=permission.group,
                    resource=resource,
                    subresource=subresource or None,
                    name=name or None,
                )
            )
        )
        with explained(f"ask whether it may {permission}"):
            answer = client.AuthorizationV1Api(self._api).create_self_subject_access_review(
                review, **_TIMEOUT
            )
        return bool(answer.status.allowed)

    def api_groups(self) -> dict[str, set[str]]:
        """The API groups that are installed, each with its versions."""
        with explained("list API groups"):
            found = client.ApisApi(self._api).get_api_versions(**_TIMEOUT)
        return {group.name: {version.version for version in group.versions} for group in found.groups}

    def resources(self, group: str, version: str) -> set[str]:
        """The plurals of what an installed API group has."""
        with explained(f"list the resources of {group}"):
            found = self._objects.get_api_resources(group, version, **_TIMEOUT)
        return {resource.name for resource in found.resources}

    def service_account(self, name: str) -> Manifest | None:
        return self._core_object(self._core.read_namespaced_service_account, "service account", name)

    def secret(self, name: str) -> Manifest | None:
        """A secret with its keys and annotations; the values are left out."""
        found = self._core_object(self._core.read_namespaced_secret, "secret", name)
        return found and {**found, "data": dict.fromkeys(found.get("data") or {}, "")}

    def _core_object(self, read: Callable[..., Any], what: str, name: str) -> Manifest | None:
        with explained(f"read {what} {name}"):
            try:
                return self._api.sanitize_for_serialization(read(name, self.namespace, **_TIMEOUT))
            except ApiException as error:
                if is_missing(error):
                    return None
                raise

    def labels(self, namespace: str = "") -> dict[str, str]:
        """Those of the namespace itself, or of another; none where it is missing."""
        namespace = namespace or self.namespace
        with explained(f"read namespace {namespace}"):
            try:
                return self._core.read_namespace(namespace, **_TIMEOUT).metadata.labels or {}
            except ApiException as error:
                if is_missing(error):
                    return {}
                raise

    def config_map(self, name: str, namespace: str) -> dict[str, str] | None:
        """What a ConfigMap of any namespace holds, or None where it is missing."""
        with explained(f"read ConfigMap {namespace}/{name}"):
            try:
                return self._core.read_namespaced_config_map(name, namespace, **_TIMEOUT).data or {}
            except ApiException as error:
                if is_missing(error):
                    return None
                raise

    def list_cluster(self, kind: Kind) -> list[Manifest]:
        """All objects of a kind that belongs to no namespace, in the order of their names."""
        group, version, plural = kind
        with explained(f"list {plural}"):
            return self._objects.list_cluster_custom_object(group, version, plural, **_TIMEOUT)["items"]

    def quotas(self) -> list[Manifest]:
        """The resource quotas of the namespace."""
        with explained("list resource quotas"):
            found = self._core.list_namespaced_resource_quota(self.namespace, **_TIMEOUT)
        return self._api.sanitize_for_serialization(found)["items"]

    def get(self, kind: Kind, name: str) -> Manifest | None:
        """An object, or None where there is none of that name."""
        with explained(f"read {kind[2]} {name}"):
            try:
                return self._objects.get_namespaced_custom_object(*self._at(kind), name, **_TIMEOUT)
            except ApiException as error:
                if is_missing(error):
                    return None
                raise

    def all_of(self, kind: Kind) -> list[Manifest]:
        """All objects of a kind in the namespace."""
        with explained(f"list {kind[2]}"):
            return self._objects.list_namespaced_custom_object(*self._at(kind), **_TIMEOUT)["items"]

    def create(self, kind: Kind, body: Manifest, dry_run: bool = False) -> Manifest:
        """Create an object, or only check it. Raises Conflict where there is one of that name."""
        name = body["metadata"]["name"]
        with explained(f"create {kind[2]} {name}"):
            try:
                return self._objects.create_namespaced_custom_object(
                    *self._at(kind), body, field_validation="Strict", **_dry(dry_run), **_TIMEOUT
                )
            except ApiException as error:
                if error.status == 409:
                    raise conflict(kind, name) from error
                raise

    def patch(self, kind: Kind, seen: Manifest, change: Manifest, dry_run: bool = False) -> Manifest:
        """Merge `change` into the object, or only check it.

        Raises Conflict unless its spec is still the one in `seen`. A newer status does not matter.
        """
        name, latest = seen["metadata"]["name"], seen
        for _ in range(PATCH_ATTEMPTS):
            metadata = {
                **change.get("metadata", {}),
                "resourceVersion": latest["metadata"]["resourceVersion"],
            }
            with explained(f"change {kind[2]} {name}"):
                try:
                    return self._objects.patch_namespaced_custom_object(
                        *self._at(kind),
                        name,
                        {**change, "metadata": metadata},
                        field_validation="Strict",
                        **_dry(dry_run),
                        **_TIMEOUT,
                    )
                except ApiException as error:
                    if error.status != 409:
                        raise
            found = self.get(kind, name)
            if not found or not same_spec(found, seen):
                break
            latest = found
        raise conflict(kind, name)

    def delete(self, kind: Kind, seen: Manifest) -> None:
        """Delete the object that is in `seen`; not a later one of the same name."""
        name, uid = seen["metadata"]["name"], seen["metadata"]["uid"]
        with explained(f"delete {kind[2]} {name}"):
            try:
                self._objects.delete_namespaced_custom_object(
                    *self._at(kind), name, body={"preconditions": {"uid": uid}}, **_TIMEOUT
                )
            except ApiException as error:
                if error.status == 409:
                    raise conflict(kind, name) from error
                if not is_missing(error):
                    raise

    def pods(self, labels: dict[str, str], ending: bool = False) -> list[Manifest]:
        """The pods that carry all these labels; with `ending`, also those that are being deleted."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        with explained("list pods"):
            found = self._core.list_namespaced_pod(self.namespace, label_selector=selector, **_TIMEOUT)
        pods = self._api.sanitize_for_serialization(found)["items"]
        return [pod for pod in pods if ending or "deletionTimestamp" not in pod["metadata"]]

    def log(self, pod: str, container: str, lines: int) -> str:
        """The last lines of a container: of the run that crashed, if there was one before; else ''."""
        for previous in (True, False):
            with explained(f"read the log of pod {pod}"):
                try:
                    log = self._core.read_namespaced_pod_log(
                        pod,
                        self.namespace,
                        container=container,
                        tail_lines=lines,
                        previous=previous,
                        **_TIMEOUT,
                    ).strip()
                    if log and not log.startswith(NOT_A_LOG):
                        return log
                except ApiException as error:
                    # 400: a container that has not run (before) has no log.
                    if error.status not in (400, 404):
                        raise
        return ""

    def latest_event(self, name: str, warning: bool = False) -> str:
        """Reason and message of the last event about the object, or the predictor, `name`; else ''.

        With `warning`, of the last one that warns.
        """
        with explained("list events"):
            found = self._core.list_namespaced_event(self.namespace, **_TIMEOUT)
        events = [
            event
            for event in self._api.sanitize_for_serialization(found)["items"]
            if _is_about(event["involvedObject"].get("name", ""), name)
            and (not warning or event.get("type") == "Warning")
        ]
        if not events:
            return ""
        last = max(events, key=_event_time)
        return f"{last.get('reason', '')}: {last.get('message', '')}"

    def _at(self, kind: Kind) -> tuple[str, str, str, str]:
        group, version, plural = kind
        return group, version, self.namespace, plural


def _in_a_pod() -> bool:
    # A pod that has a kubeconfig may mean another cluster than its own.
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ


def same_spec(a: Manifest, b: Manifest) -> bool:
    """Whether two readings of one object have the same spec; their status may differ."""
    return all(a["metadata"][key] == b["metadata"][key] for key in ("uid", "generation"))


_TIMEOUT: dict[str, Any] = {"_request_timeout": REQUEST_S}


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dry_run": "All"} if dry_run else {}


def _is_about(subject: str, name: str) -> bool:
    return subject == name or subject.startswith(f"{name}-predictor")


def _event_time(event: Manifest) -> str:
    """ISO 8601 in UTC, so text order is time order."""
    created = event["metadata"].get("creationTimestamp")
    return event.get("lastTimestamp") or event.get("eventTime") or created or ""
