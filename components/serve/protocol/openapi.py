"""What the endpoint takes and gives, for machines (OpenAPI) and for people (a page without scripts)."""

import html
import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from defectline.components.common.bundle import Bundle, Promise
from defectline.components.common.prediction import VERDICTS, Prediction
from defectline.components.serve.protocol.errors import ERROR_CODES
from defectline.components.serve.protocol.parameters import REQUEST_ID, Parameters
from defectline.components.serve.protocol.pixels import SHAPES
from defectline.components.serve.protocol.requests import MAX_PICTURES, OUTPUTS
from defectline.components.serve.protocol.responses import DATATYPES

if TYPE_CHECKING:
    from defectline.components.serve.model import DefectModel

Schema = dict[str, Any]
PICTURES = ("image/png", "image/jpeg", "image/bmp", "image/tiff", "image/webp", "application/octet-stream")

ALIVE = {"status": "alive"}


def server_metadata() -> Schema:
    return {"name": "defectline", "version": version("defectline"), "extensions": ["binary_tensor_data"]}


def model_metadata(name: str, bundle: Bundle | None, engine: str, drifted: str = "") -> Schema:
    """V2's description of the model's tensors, or of any model's; -1 stands for any number of pictures. Its
    `properties` say what it learned from, its threshold and what it promises, which is off where frames have
    `drifted`."""
    absent = () if bundle is None else absent_outputs(bundle)
    return {
        "name": name,
        "versions": [bundle.version if bundle else ""],
        "platform": engine,
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": output, "datatype": DATATYPES[output], "shape": [-1]}
            for output in OUTPUTS
            if output not in absent
        ],
        "properties": {
            "supervision": bundle.supervision if bundle else "",
            "promises": " ".join(map(str, bundle.promises)) if bundle else "",
            "guarantee": _guarantee(bundle, drifted) if bundle else "",
            "threshold": str(bundle.threshold) if bundle else "",
        },
    }


def _guarantee(bundle: Bundle, drifted: str) -> str:
    kept = [_called(promise) for promise in bundle.promises if promise.holds]
    if not kept:
        return "none: nothing is promised"
    if drifted:
        return f"off: {drifted}"
    return "on" if len(kept) == len(bundle.promises) else f"on for {', '.join(kept)} alone"


def _called(promise: Promise) -> str:
    return f"{promise.rate}.{promise.of}" if promise.of else promise.rate


def absent_outputs(bundle: Bundle) -> list[str]:
    """What this model's answers do not have."""
    there = {"grade": bundle.grades is not None, "class_areas_px": len(bundle.classes) > 1}
    return [name for name, has in there.items() if not has]


BEARER = {"type": "http", "scheme": "bearer"}


def schema(model: "DefectModel", body_bytes: int, page: bool, guarded: bool = False) -> Schema:
    """The OpenAPI document; with the page for people at / or without, and with tokens or without."""
    all_names = [*model.names, *model.beside]
    names = {"type": "string", "enum": all_names}
    name = {"name": "name", "in": "path", "required": True, "schema": names}
    query = [
        {"name": key, "in": "query", "required": False, **_described(value)}
        for key, value in _schemas_of(Parameters)["Parameters"]["properties"].items()
    ]
    limit = (
        f"Bodies of at most {body_bytes / 1e6:g} MB, pictures of at most "
        f"{model.settings.max_pixels / 1e6:g} megapixels, at most {MAX_PICTURES} in one request."
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"defectline: {', '.join((model.name, *model.beside))}",
            "version": version("defectline"),
            "description": limit,
        },
        "paths": {
            "/v1/models/{name}:predict": {
                "post": _operation(
                    "Judge pictures",
                    "prediction_v1",
                    [name, *query],
                    {
                        **{kind: {"schema": {}} for kind in PICTURES},
                        "application/json": {"schema": {"oneOf": [_ref("V1Request"), _ref("LegacyRequest")]}},
                    },
                    {"oneOf": [_ref("V1Response"), _ref("LegacyResponse")]},
                )
            },
            "/v2/models/{name}/infer": {
                "post": _operation(
                    "Judge pictures, as the Open Inference Protocol asks it. With the header "
                    "Inference-Header-Content-Length, binary data follow so many bytes of JSON",
                    "prediction_v2",
                    [name, *query],
                    {"application/json": {"schema": _ref("V2Request")}},
                    _ref("V2Response"),
                )
            },
            "/": _people() if page else _get("Whether the process runs", "live", ALIVE),
            "/v2/health/live": _get("Whether the process runs", "live_v2", {"live": True}),
            "/v2/health/ready": _get(
                "Whether the model is ready for requests", "ready", {"ready": True}, 503
            ),
            "/v1/models": _get("The models' names", "models_v1", {"models": all_names}),
            "/v2/models": _get("The models' names", "models_v2", {"models": all_names}),
            "/v1/models/{name}": _get(
                "Whether the model is ready", "ready_v1", {"name": model.name, "ready": True}, 503, [name]
            ),
            "/v2/models/{name}/ready": _get(
                "Whether the model is ready", "ready_v2", {"name": model.name, "ready": True}, 503, [name]
            ),
            "/v2": _get("The server", "server", server_metadata()),
            "/v2/models/{name}": _get(
                "The model's tensors",
                "model",
                model_metadata(model.name, None, model.settings.engine),
                503,
                [name],
            ),
            "/v2/models/{name}/roi": _region(name),
        },
        "components": {"schemas": _schemas(), "securitySchemes": {"token": BEARER} if guarded else {}},
        "security": [{"token": []}] if guarded else [],
    }


def _schemas_of(kind: type[BaseModel]) -> Schema:
    """The model and those in it, by name. `null` is left out: a field is there or not."""
    top = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = {**top.pop("$defs", {}), kind.__name__: top}
    for schema in schemas.values():
        schema["additionalProperties"] = False
        for name, value in schema["properties"].items():
            (kept,) = [part for part in value.pop("anyOf", [value]) if part.get("type") != "null"]
            merged = {key: part for key, part in {**value, **kept}.items() if key != "title"}
            if merged.get("default", 0) is None:
                del merged["default"]
            schema["properties"][name] = merged
    return schemas


def _described(value: Schema) -> Schema:
    value = dict(value)
    return {"description": value.pop("description"), "schema": value}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Schema, *optional: str, more: bool = True) -> Schema:
    required = [key for key in properties if key not in optional]
    out = {"type": "object", "properties": properties, "required": required}
    return out if more else {**out, "additionalProperties": False}


def _array(items: Schema, least: int = 0, most: int | None = None) -> Schema:
    out: Schema = {"type": "array", "items": items}
    if least:
        out["minItems"] = least
    if most is not None:
        out["maxItems"] = most
    return out


def _schemas() -> Schema:
    text, whole = {"type": "string"}, {"type": "integer"}
    base64 = {"type": "string", "contentEncoding": "base64", "minLength": 4}
    id_ = {"type": "string", "pattern": f"^{REQUEST_ID.pattern}$"}
    error = _object({"code": {"enum": list(ERROR_CODES)}, "message": text, "request_id": id_}, more=False)
    tensor = _object(
        {
            "name": text,
            "datatype": {"enum": ["BYTES", "FP64", "INT64"]},
            "shape": _array(whole, 1),
            "data": _array({"type": ["string", "number"]}),
            "parameters": {"type": "object"},
        },
        "data",
        "parameters",
    )
    shared = _schemas_of(Parameters) | _schemas_of(Prediction)
    parameters = shared["Parameters"]
    # `regions=false` leaves them out.
    shared["Prediction"]["required"].remove("regions")
    return {
        **shared,
        "Error": {
            "description": "In V2 `error` is the message, as its clients expect.",
            "oneOf": [
                _object({"error": error}, more=False),
                _object({"error": text, "code": {"enum": list(ERROR_CODES)}, "request_id": id_}, more=False),
            ],
        },
        "V1Request": _object(
            {
                "instances": _array(_object({"image": _object({"b64": base64})}), 1, MAX_PICTURES),
                "parameters": _ref("Parameters"),
            },
            "parameters",
        ),
        "V1Response": _object(
            {
                "predictions": _array(_ref("Prediction"), 1),
                "request_id": id_,
                "part": _object({"verdict": {"enum": list(VERDICTS)}, "score": {"type": "number"}}),
            },
            "part",
            more=False,
        ),
        "LegacyRequest": _object(
            {"image": base64, "parameters": _ref("Parameters")}, "parameters", more=False
        ),
        "LegacyResponse": _object({"defected_area": text, "segmented_image": base64}, more=False),
        "V2Request": _object(
            {
                "id": id_,
                "inputs": _array(
                    _object(
                        {
                            "name": {"const": "image"},
                            "datatype": {"enum": ["BYTES", "UINT8"]},
                            "shape": {**_array({"type": "integer", "minimum": 1}, 1)},
                            "data": {
                                "description": "Encoded pictures (BYTES), or the pixels of decoded ones "
                                f"(UINT8, {SHAPES})",
                                "anyOf": [_array(base64, 1, MAX_PICTURES), {"type": "array"}],
                            },
                            "parameters": _object({"binary_data_size": whole}, "binary_data_size"),
                        },
                        "data",
                        "parameters",
                    ),
                    1,
                    1,
                ),
                "outputs": _array(
                    _object(
                        {
                            "name": {"enum": list(OUTPUTS)},
                            "parameters": _object({"binary_data": {"type": "boolean"}}, "binary_data"),
                        },
                        "parameters",
                    )
                ),
                "parameters": {
                    **parameters,
                    "properties": {
                        **parameters["properties"],
                        "binary_data_output": {"type": "boolean", "default": False},
                    },
                },
            },
            "id",
            "outputs",
            "parameters",
        ),
        "V2Response": _object(
            {
                "model_name": text,
                "model_version": text,
                "id": id_,
                "outputs": _array(tensor),
                "parameters": {"type": "object"},
            },
            "parameters",
            more=False,
        ),
    }


def _operation(summary: str, id_: str, parameters: list[Schema], content: Schema, response: Schema) -> Schema:
    failures = sorted({str(kind.http) for code, kind in ERROR_CODES.items() if code != "method_not_allowed"})
    return {
        "summary": summary,
        "operationId": id_,
        "parameters": parameters,
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": "the answer", "content": {"application/json": {"schema": response}}},
            **{status: _error(status) for status in failures},
        },
    }


def _error(status: str) -> Schema:
    out: Schema = {
        "description": ", ".join(code for code, kind in ERROR_CODES.items() if str(kind.http) == status),
        "content": {"application/json": {"schema": _ref("Error")}},
    }
    if status in ("429", "503"):
        out["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return out


def _get(
    summary: str,
    id_: str,
    example: Schema,
    failure: int | None = None,
    parameters: list[Schema] | None = None,
) -> Schema:
    answer = {"type": "object", "required": list(example)}
    responses: Schema = {
        "200": {
            "description": "the answer",
            "content": {"application/json": {"schema": answer, "example": example}},
        }
    }
    for status in ([404] if parameters else []) + ([failure] if failure else []):
        responses[str(status)] = _error(str(status))
    return {
        "get": {
            "summary": summary,
            "operationId": id_,
            "parameters": parameters or [],
            "responses": responses,
        }
    }


def _people() -> Schema:
    alive = _get(
        "A page on which people inspect pictures; to others, whether the process runs", "page", ALIVE
    )
    alive["get"]["responses"]["200"]["content"]["text/html"] = {"schema": {"type": "string"}}
    return alive


def _region(name: Schema) -> Schema:
    picture = {
        "description": "white where it counts, black elsewhere",
        "content": {"image/png": {"schema": {}}},
    }
    return {
        "get": {
            "summary": "The region of interest, which fits every picture: outside of it nothing is a defect",
            "operationId": "roi",
            "parameters": [name],
            "responses": {
                "200": picture,
                "204": {"description": "the model has none"},
                **{status: _error(status) for status in ("404", "503")},
            },
        }
    }


def page(document: Schema) -> str:
    """The document to read, without scripts and without anything from elsewhere."""
    parts = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            rows = "".join(
                f"<tr><td><code>{_escape(p['name'])}</code><td>{p['in']}"
                f"<td>{_escape(p.get('description', ''))}<td><code>{_escape(json.dumps(p['schema']))}</code>"
                for p in operation["parameters"]
            )
            answers = "; ".join(f"{s} {_escape(r['description'])}" for s, r in operation["responses"].items())
            content = operation.get("requestBody", {}).get("content", {})
            takes = f"<p>Body: {_escape(', '.join(content))}" if content else ""
            parts.append(
                f"<h2><code>{method.upper()} {_escape(path)}</code></h2>"
                f"<p>{_escape(operation['summary'])}.{takes}<table>{rows}</table><p>Answers: {answers}"
            )
    schemas = _escape(json.dumps(document["components"]["schemas"], indent=2))
    info = document["info"]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_escape(info['title'])}</title>"
        "<style>body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
        "td{padding:.1em 1em .1em 0;vertical-align:top}pre{overflow:auto}</style>"
        f"<h1>{_escape(info['title'])}</h1><p>{_escape(info['description'])} "
        f'<a href="openapi.json">openapi.json</a>{"".join(parts)}'
        f"<h2>Bodies</h2><pre>{schemas}</pre></html>"
    )


def _escape(text: str) -> str:
    return html.escape(str(text))
