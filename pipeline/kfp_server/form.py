"""Whether an answer has the form that the API of Kubeflow Pipelines gives it.

The generated client makes objects of whatever comes: fields that are missing become None, and a wrong type
shows much later, if at all.
"""

import json
import re
from datetime import datetime
from typing import Any

import kfp_server_api as api

NEEDED = {
    "V2beta1Experiment": ("experiment_id", "display_name"),
    "V2beta1Pipeline": ("pipeline_id", "display_name"),
    "V2beta1PipelineVersion": ("pipeline_version_id", "display_name"),
    "V2beta1RecurringRun": ("recurring_run_id", "display_name"),
    "V2beta1Run": ("run_id", "display_name", "created_at"),
}
"""What a server always tells of each. Of a list it leaves out all that is empty, also the items."""
PLAIN: dict[str, tuple[type, ...]] = {"str": (str, int), "bool": (bool,), "int": (int, str)}
"""Types of the API → those of JSON, where numbers of 64 bits are texts; all others are texts."""


class OddAnswer(Exception):
    """An answer that a server of this API would not give."""


def check_form(value: Any, kind: str, where: str) -> None:
    """Raise OddAnswer unless a JSON value has the form of an API's type, such as `list[V2beta1Run]`. Pure."""
    model = getattr(api, kind, None)
    inside = re.fullmatch(r"(list\[|dict\(str, )(.+)[\])]", kind)
    if kind == "object":
        return
    if inside and inside[1] == "list[":
        _check_type(value, (list,), where)
        parts = [(one, inside[2], f"[{index}]") for index, one in enumerate(value)]
    elif inside:
        _check_type(value, (dict,), where)
        parts = [(one, inside[2], f".{key}") for key, one in value.items()]
    elif model and model.openapi_types:
        _check_type(value, (dict,), where)
        keys = [(key, model.openapi_types[name]) for name, key in model.attribute_map.items()]
        parts = [(value[key], its, f".{key}") for key, its in keys if value.get(key) is not None]
        if missing := [name for name in NEEDED.get(kind, ()) if value.get(name) in (None, "")]:
            raise OddAnswer(f"{where} without {' and '.join(missing)}")
    else:
        _check_type(value, PLAIN.get(kind, (str,)), where)
        if kind == "datetime" and not _is_time(value):
            raise OddAnswer(f"{where} that is not a time: {value[:80]!r}")
        return
    for part, its, place in parts:
        check_form(part, its, where + place)


def _check_type(value: Any, types: tuple[type, ...], where: str) -> None:
    if not isinstance(value, types):
        names = {dict: "a mapping", list: "a list", str: "a text", int: "a number", bool: "true or false"}
        wanted = " or ".join(names[one] for one in types)
        raise OddAnswer(f"{where} that is not {wanted}: {json.dumps(value)[:80]}")


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
