"""A Kubernetes API server in little, with KServe's resources.

It answers in the shapes that a real kube-apiserver gave; a test replays the recorded requests against it.
What the controllers of a cluster do is in `controller.py`.
"""

import copy
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

from cluster.loopback import Handler, served
from cluster.schemas import Failure, Json, Target, crd_validators, validate

USER, TOKEN = "deployer", "token-of-the-deployer"
KINDS = {
    ("serving.kserve.io", "v1beta1", "inferenceservices"): "InferenceService",
    ("serving.kserve.io", "v1alpha1", "servingruntimes"): "ServingRuntime",
    ("serving.knative.dev", "v1", "revisions"): "Revision",
    ("gateway.networking.k8s.io", "v1", "httproutes"): "HTTPRoute",
    ("policy", "v1", "poddisruptionbudgets"): "PodDisruptionBudget",
    ("apps", "v1", "deployments"): "Deployment",
    ("", "v1", "pods"): "Pod",
    ("", "v1", "services"): "Service",
    ("", "v1", "events"): "Event",
    ("", "v1", "secrets"): "Secret",
    ("", "v1", "serviceaccounts"): "ServiceAccount",
    ("", "v1", "resourcequotas"): "ResourceQuota",
    ("", "v1", "configmaps"): "ConfigMap",
    ("", "v1", "namespaces"): "Namespace",
    ("networking.k8s.io", "v1", "networkpolicies"): "NetworkPolicy",
    ("gateway.networking.k8s.io", "v1", "gateways"): "Gateway",
    ("security.istio.io", "v1", "authorizationpolicies"): "AuthorizationPolicy",
    ("serving.kserve.io", "v1alpha1", "clusterstoragecontainers"): "ClusterStorageContainer",
}
MERGE_PATCH = "application/merge-patch+json"
PROXIED = re.compile(r"/api/v1/namespaces/([^/]+)/services/((?:https?:)?([^/:]+)(?::(\d+))?)/proxy(/.*)")
Backend = Callable[[str, str, bytes, Mapping[str, str]], tuple[int, Json] | None]
"""Answers for the pods of a Service (`defects-predictor.vision.svc`): path, body and headers are those of the
request; None where no pod is ready."""


class ApiServer:
    """Objects by (plural, namespace, name), and the knobs that tests turn.

    `denied` holds (verb, plural) that the account may not; `missing` the API groups that are not
    installed; `namespaces` those that there are, None for any. `before(method, target, query)` is called
    ahead of each request, outside the lock, and may raise Failure; `on_read`, `on_write` and `backend` are
    for the controllers.
    """

    def __init__(self, resource_version: int = 0) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.logs: dict[str, str] = {}
        self.denied: set[tuple[str, str]] = set()
        self.missing: set[str] = set()
        self.namespaces: set[str] | None = None
        self.requests: list[str] = []
        self.before: Callable[[str, Target, dict[str, str]], None] = lambda method, target, query: None
        self.on_read: Callable[[Target], None] = lambda target: None
        self.on_write: Callable[[Target, Json | None], None] = lambda target, new: None
        self.backend: Backend = lambda host, path, body, headers: None
        self.lock = threading.RLock()
        self._resource_version = resource_version
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve on a free port of loopback until the block ends."""
        crd_validators()  # takes seconds, which a client that waits for its answer may not have
        with served(_Handler, api=self) as self.url:
            yield

    def write_kubeconfig(self, path: Path) -> None:
        context = {"cluster": "stand-in", "user": USER}
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "stand-in",
                    "clusters": [{"name": "stand-in", "cluster": {"server": self.url}}],
                    "users": [{"name": USER, "user": {"token": TOKEN}}],
                    "contexts": [{"name": "stand-in", "context": context}],
                }
            )
        )

    # What controllers and tests do, past rights and validation.

    def find(self, plural: str, namespace: str, name: str) -> Json | None:
        return self.objects.get((plural, namespace, name))

    def put(self, plural: str, namespace: str, name: str, body: Json, spec_changed: bool = True) -> Json:
        """Store an object; its generation goes up with the spec, its resourceVersion always."""
        with self.lock:
            self._resource_version += 1
            metadata = body.setdefault("metadata", {})
            old = self.find(plural, namespace, name)
            metadata |= {"name": name, "namespace": namespace, "resourceVersion": str(self._resource_version)}
            metadata.setdefault("creationTimestamp", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
            metadata.setdefault("uid", old["metadata"]["uid"] if old else str(uuid.uuid4()))
            generation = old["metadata"]["generation"] if old else 0
            metadata["generation"] = generation + (1 if spec_changed or not old else 0)
            self.objects[plural, namespace, name] = body
            return body

    def remove(self, plural: str, namespace: str, name: str) -> None:
        with self.lock:
            self.objects.pop((plural, namespace, name), None)

    # Requests.

    def answer(
        self, method: str, raw: str, token: str, content_type: str, body: Json | None
    ) -> tuple[int, Json | str, list[str]]:
        """Status, body and warnings for one request."""
        parts = urlsplit(raw)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.requests.append(f"{method} {raw}")
        if token != f"Bearer {TOKEN}":
            return 401, Failure(401, "Unauthorized", "Unauthorized").body(), []
        if parts.path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
            return 201, self._review(body or {}), []
        if parts.path.startswith("/apis") and (discovered := self._discover(parts.path)):
            return 200, discovered, []
        target = _target(parts.path)
        kind = target and KINDS.get(target[:3])
        if target is None or kind is None or target.group in self.missing:
            return 404, "404 page not found\n", []
        warnings: list[str] = []
        try:
            self.before(method, target, query)
            with self.lock:
                self._authorise(method, target)
                if method == "GET":
                    self.on_read(target)
                    return 200, self._read(target, kind, query), []
                status, answer = self._change(method, target, kind, query, content_type, body or {}, warnings)
                return status, answer, warnings
        except Failure as failure:
            return failure.status, failure.body(), []

    def proxy(
        self, method: str, raw: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Json] | None:
        """Status and body of a request to the pods of a Service; None where the path is not of one."""
        parts = urlsplit(raw)
        found = PROXIED.fullmatch(parts.path)
        if found is None:
            return None
        namespace, id, name, port, path = found.groups()
        self.requests.append(f"{method} {raw}")
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, Failure(401, "Unauthorized", "Unauthorized").body()
        target = Target("", "v1", "services", namespace, id, "proxy")
        try:
            self.before(method, target, {})
            with self.lock:
                self._authorise(method, target)
                service = self._existing(target._replace(name=name))
            if port and all(one["port"] != int(port) for one in service["spec"]["ports"]):
                why = f'no service port {port} found for service "{name}"'
                raise Failure(503, "ServiceUnavailable", why)
            # Who asked is known to the server alone; all else goes on as it came.
            own = ("authorization", "host")
            passed = {key: value for key, value in headers.items() if key.lower() not in own}
            answer = self.backend(f"{name}.{namespace}.svc", path, body, passed)
            if answer is None:
                why = f'no endpoints available for service "{id}"'
                raise Failure(503, "ServiceUnavailable", why)
            return answer
        except Failure as failure:
            return failure.status, failure.body()

    def _discover(self, path: str) -> Json | None:
        """The list of API groups, or of one's resources; None for other paths."""
        there = [kind for kind in KINDS if kind[0] and kind[0] not in self.missing]
        match path.strip("/").split("/"):
            case ["apis"]:
                groups = []
                for group in sorted({kind[0] for kind in there}):
                    names = sorted({version for g, version, _ in there if g == group})
                    versions = [{"groupVersion": f"{group}/{name}", "version": name} for name in names]
                    groups.append({"name": group, "versions": versions, "preferredVersion": versions[-1]})
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
            case ["apis", group, version]:
                resources = [
                    {"name": plural, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get"]}
                    for (g, v, plural), kind in KINDS.items()
                    if (g, v) == (group, version) and (g, v, plural) in there
                ]
                name = f"{group}/{version}"
                body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name}
                return {**body, "resources": resources} if resources else None
        return None

    def _authorise(self, method: str, target: Target) -> None:
        verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(method)
        verb = verb or ("get" if target.name else "list")
        plural = f"{target.plural}/{target.part}" if target.part else target.plural
        if (verb, plural) in self.denied:
            raise Failure(
                403,
                "Forbidden",
                f'{target.qualified} "{target.name}" is forbidden: User "{USER}" cannot {verb} resource '
                f'"{plural}" in API group "{target.group}" in the namespace "{target.namespace}"',
                target.details,
            )

    def _review(self, body: Json) -> Json:
        asked = body["spec"]["resourceAttributes"]
        plural = "/".join(part for part in (asked["resource"], asked.get("subresource")) if part)
        kind = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}
        return {**kind, **body, "status": {"allowed": (asked["verb"], plural) not in self.denied}}

    def _read(self, target: Target, kind: str, query: dict[str, str]) -> Json | str:
        if target.part == "log":
            if query.get("previous") == "true" and target.name not in self.logs:
                raise Failure(
                    400, "BadRequest", f'previous terminated container in pod "{target.name}" not found'
                )
            return self.logs.get(target.name, "")
        version = f"{target.group}/{target.version}" if target.group else target.version
        if target.name:
            return {"apiVersion": version, "kind": kind} | copy.deepcopy(self._existing(target))
        wanted = dict(pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair)
        fields = dict(pair.split("=", 1) for pair in query.get("fieldSelector", "").split(",") if pair)
        items = [
            copy.deepcopy(found)
            for (plural, namespace, _), found in sorted(self.objects.items())
            if (plural, namespace) == (target.plural, target.namespace)
            and wanted.items() <= found["metadata"].get("labels", {}).items()
            and all(_field(found, path) == value for path, value in fields.items())
        ]
        metadata = {"continue": "", "resourceVersion": str(self._resource_version)}
        return {"apiVersion": version, "kind": f"{kind}List", "items": items, "metadata": metadata}

    def _change(
        self,
        method: str,
        target: Target,
        kind: str,
        query: dict[str, str],
        content_type: str,
        body: Json,
        warnings: list[str],
    ) -> tuple[int, Json]:
        dry = query.get("dryRun") == "All"
        if method == "DELETE":
            return 200, self._delete(target, body, dry)
        if method == "POST":
            if self.namespaces is not None and target.namespace not in self.namespaces:
                where = {"name": target.namespace, "kind": "namespaces"}
                raise Failure(404, "NotFound", f'namespaces "{target.namespace}" not found', where)
            name, old, new = body["metadata"]["name"], None, copy.deepcopy(body)
            if body["metadata"].get("namespace", target.namespace) != target.namespace:
                message = (
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
                raise Failure(400, "BadRequest", message)
            target = target._replace(name=name)
        else:
            old = self._existing(target)
            new = self._patched(target, old, content_type, body)
        validate(kind, target, new, query.get("fieldValidation", "Warn"), warnings)
        if method == "POST" and self.find(*self._key(target)):
            message = f'{target.qualified} "{target.name}" already exists'
            raise Failure(409, "AlreadyExists", message, target.details)
        if old and _mode(old) != _mode(new):
            webhook = "inferenceservice.kserve-webhook-server.validator"
            why = f"update rejected: deploymentMode cannot be changed from {_mode(old)} to {_mode(new)}"
            raise Failure(403, "Forbidden", f'admission webhook "{webhook}" denied the request: {why}')
        if dry or (old and new == old):
            return (201 if method == "POST" else 200), new
        changed = not old or old.get("spec") != new.get("spec")
        stored = self.put(*self._key(target), new, spec_changed=changed)
        if changed:
            self.on_write(target, stored)
        return (201 if method == "POST" else 200), copy.deepcopy(stored)

    def _patched(self, target: Target, old: Json, content_type: str, body: Json) -> Json:
        if content_type != MERGE_PATCH:
            accepted = (
                "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
            )
            message = (
                f"the body of the request was in an unknown format - accepted media types include: {accepted}"
            )
            raise Failure(415, "UnsupportedMediaType", message)
        body = copy.deepcopy(body)
        seen = body.get("metadata", {}).pop("resourceVersion", None)
        if seen not in (None, old["metadata"]["resourceVersion"]):
            message = (
                f'Operation cannot be fulfilled on {target.qualified} "{target.name}": the object has been '
                "modified; please apply your changes to the latest version and try again"
            )
            raise Failure(409, "Conflict", message, target.details)
        if target.part == "status":
            body = {"status": body.get("status", {})}
        else:
            body.pop("status", None)
        return merge(old, body)

    def _delete(self, target: Target, options: Json, dry: bool) -> Json:
        found = self._existing(target)
        uid = options.get("preconditions", {}).get("uid")
        if uid not in (None, found["metadata"]["uid"]):
            message = f"Precondition failed: UID in precondition: {uid}, UID in object meta differs"
            raise Failure(409, "Conflict", message, target.details)
        if not dry:
            self.remove(*self._key(target))
            self.on_write(target, None)
        details = {**target.details, "uid": found["metadata"]["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _existing(self, target: Target) -> Json:
        found = self.find(*self._key(target))
        if found is None:
            message = f'{target.qualified} "{target.name}" not found'
            raise Failure(404, "NotFound", message, target.details)
        return found

    @staticmethod
    def _key(target: Target) -> tuple[str, str, str]:
        return target.plural, target.namespace, target.name


def merge(old: Json, patch: Json) -> Json:
    """A JSON merge patch applied (RFC 7386)."""
    new = copy.deepcopy(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            present = new.get(key)
            new[key] = merge(present if isinstance(present, dict) else {}, value)
        else:
            new[key] = value
    return new


def _field(found: Json, path: str) -> str:
    """What a field selector such as `involvedObject.name` looks at."""
    *parents, last = path.split(".")
    for key in parents:
        found = found.get(key, {})
    return str(found.get(last, ""))


def _mode(service: Json) -> str:
    return service["metadata"].get("annotations", {}).get("serving.kserve.io/deploymentMode", "")


def _target(path: str) -> Target | None:
    """`/apis/GROUP/VERSION/namespaces/NS/PLURAL/NAME/PART`, or `/api/VERSION/…` for the core group; without
    `namespaces/NS` for what a whole cluster has."""
    match path.strip("/").split("/"):
        case ["apis", group, version, "namespaces", namespace, plural, *rest] if len(rest) < 3:
            return Target(group, version, plural, namespace, *rest)
        case ["api", version, "namespaces", namespace, plural, *rest] if len(rest) < 3:
            return Target("", version, plural, namespace, *rest)
        case ["api", version, "namespaces", *rest] if len(rest) < 2:
            return Target("", version, "namespaces", "", *rest)
        case ["apis", group, version, plural, *rest] if len(rest) < 2:
            return Target(group, version, plural, "", *rest)
    return None


class _Handler(Handler):
    api: ApiServer

    def _serve(self) -> None:
        data = self.body()
        if proxied := self.api.proxy(self.command, self.path, self.headers, data):
            self.send(proxied[0], "application/json", json.dumps(proxied[1]).encode())
            return
        status, body, warnings = self.api.answer(
            self.command,
            self.path,
            self.headers.get("Authorization", ""),
            self.headers.get("Content-Type", ""),
            json.loads(data) if data else None,
        )
        plain = isinstance(body, str)
        encoded = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        kind = "text/plain; charset=utf-8" if plain else "application/json"
        self.send(status, kind, encoded, *(("Warning", warning) for warning in warnings))

    do_GET = do_POST = do_PATCH = do_DELETE = _serve
