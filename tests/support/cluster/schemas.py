"""What objects of a cluster must look like: KServe's schemas, and the answer where one does not fit."""

import importlib.util
import json
import re
from functools import cache
from typing import Any, NamedTuple

from paths import SHARED

Json = dict[str, Any]


class Failure(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, reason: str, message: str, details: Json | None = None):
        super().__init__(message)
        self.status, self.reason, self.message, self.details = status, reason, message, details

    def body(self) -> Json:
        body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        body |= {"message": self.message, "reason": self.reason}
        if self.details:
            body["details"] = self.details
        return {**body, "code": self.status}


class Target(NamedTuple):
    """What a path names."""

    group: str
    version: str
    plural: str
    namespace: str
    name: str = ""
    part: str = ""

    @property
    def qualified(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def details(self) -> Json:
        return {"name": self.name, "group": self.group, "kind": self.plural}


@cache
def crd_validators() -> dict[tuple[str, str], Any]:
    """JSON Schema validators by (apiVersion, kind): KServe's CRDs, or the SDK's fields where those are not
    at hand, which know no ranges and no required fields."""
    path = SHARED / "tools/crd_check.py"
    if not path.exists():
        return sdk_validators()
    spec = importlib.util.spec_from_file_location("crd_check", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.validators(SHARED / "data/kserve/crds")


@cache
def sdk_validators() -> dict[tuple[str, str], Any]:
    """What the models of KServe's and Kubernetes' Python packages allow."""
    import kserve.models
    import kubernetes.client.models
    from jsonschema import Draft202012Validator

    definitions: Json = {}

    def schema(kind: str) -> Json:
        """Of `str`, `list[V1Container]`, `dict(str, V1Thing)`, `V1Thing`."""
        if inner := re.fullmatch(r"list\[(.+)\]", kind):
            return {"type": "array", "items": schema(inner[1])}
        if inner := re.fullmatch(r"dict[(\[]str, (.+)[)\]]", kind):
            return {"type": "object", "additionalProperties": schema(inner[1])}
        plain = {"str": "string", "bool": "boolean", "int": "integer", "float": "number"}
        # A quantity may be a number, and a port a name.
        if kind in plain:
            return {"type": [plain[kind], "integer", "null"] if kind == "str" else [plain[kind], "null"]}
        found = getattr(kserve.models, kind, None) or getattr(kubernetes.client.models, kind, None)
        if found is None or not hasattr(found, "openapi_types"):
            return {}
        if kind not in definitions:
            definitions[kind] = {}
            fields = {found.attribute_map[name]: schema(of) for name, of in found.openapi_types.items()}
            definitions[kind] = {"type": "object", "properties": fields, "additionalProperties": False}
        return {"$ref": f"#/$defs/{kind}"}

    kinds = {
        ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
        ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
    }
    roots = {key: schema(kind) for key, kind in kinds.items()}
    return {key: Draft202012Validator({**root, "$defs": definitions}) for key, root in roots.items()}


def validate(kind: str, target: Target, new: Json, strictness: str, warnings: list[str]) -> None:
    """Check against the CRD; unknown fields are refused if Strict, else pruned with a warning."""
    validator = crd_validators().get((f"{target.group}/{target.version}", kind))
    if validator is None:
        return
    errors = list(validator.iter_errors(new))
    unknown = []
    for error in errors:
        if error.validator == "additionalProperties":
            for name in sorted(error.instance.keys() - error.schema["properties"].keys()):
                unknown.append((f"{_field(error.absolute_path)}.{name}", error.instance, name))
    if unknown and strictness == "Strict":
        fields = ", ".join(f'unknown field "{field}"' for field, _, _ in unknown)
        version = f'{kind} in version "{target.version}" cannot be handled as a {kind}'
        raise Failure(400, "BadRequest", f"{version}: strict decoding error: {fields}")
    for field, parent, name in unknown:
        warnings.append(f'299 - "unknown field \\"{field}\\""')
        del parent[name]
    if causes := [_cause(error) for error in errors if error.validator != "additionalProperties"]:
        said = "; ".join(f"{cause['field']}: {cause['message']}" for cause in causes)
        message = f'{kind}.{target.group} "{target.name}" is invalid: {said}'
        raise Failure(422, "Invalid", message, {**target.details, "kind": kind, "causes": causes})


def _cause(error: Any) -> Json:
    field = _field(error.absolute_path)
    if error.validator == "required":
        name = next(name for name in error.validator_value if name not in error.instance)
        return {"reason": "FieldValueRequired", "message": "Required value", "field": f"{field}.{name}"}
    why = error.message
    if error.validator == "maximum":
        why = f"{field} in body should be less than or equal to {error.validator_value}"
    message = f"Invalid value: {json.dumps(error.instance)}: {why}"
    return {"reason": "FieldValueInvalid", "message": message, "field": field}


def _field(path: Any) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
