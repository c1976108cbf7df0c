"""What each step asks of a cluster's nodes, and what it may take at most.

A pod starts on a node that has free what it requests. Processors have no limit unless one is set: a step
takes what is free. A step that needs more memory than its limit is killed.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from defectline.components.common.errors import SettingsError
from defectline.components.common.settings import unknown

UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "M": 10**6, "G": 10**9, "T": 10**12}
FORM = "STEP=CPU,MEMORY[,MEMORY_LIMIT[,CPU_LIMIT]]"


class Resources(NamedTuple):
    """Of one step, as Kubernetes writes amounts: processors as `2` or `500m`, memory as `2Gi`."""

    cpu: str
    memory: str
    memory_limit: str
    cpu_limit: str = ""
    """Empty for none."""


DEFAULT = {
    "ingest": Resources("500m", "512Mi", "2Gi"),
    "preprocess": Resources("1", "1Gi", "2Gi"),
    "train": Resources("1", "4Gi", "8Gi"),
    "find-champion": Resources("100m", "256Mi", "512Mi"),
    "evaluate": Resources("1", "1Gi", "2Gi"),
    "deploy": Resources("250m", "512Mi", "1Gi"),
    "finish": Resources("100m", "256Mi", "512Mi"),
}
SMALL = {
    "ingest": Resources("100m", "256Mi", "2Gi"),
    "preprocess": Resources("250m", "512Mi", "2Gi"),
    "train": Resources("500m", "2Gi", "4Gi"),
    "find-champion": Resources("50m", "128Mi", "512Mi"),
    "evaluate": Resources("250m", "512Mi", "2Gi"),
    "deploy": Resources("100m", "256Mi", "1Gi"),
    "finish": Resources("50m", "128Mi", "512Mi"),
}
"""Beside Kubeflow Pipelines and KServe on one node with two processors and 8 GiB."""
PRESETS = {"default": DEFAULT, "small": SMALL}


def parse_resources(texts: Iterable[str]) -> Mapping[str, Resources]:
    """Of every step, from texts that are a preset's name, or FORM; later ones win over those before.

    Without a MEMORY_LIMIT the limit stays, unless MEMORY is above it. Raises SettingsError.
    """
    found = dict(DEFAULT)
    for text in texts:
        step, equals, amounts = text.partition("=")
        if not equals:
            if text not in PRESETS:
                raise unknown(f"preset {text} for --resources", text, [*PRESETS, FORM])
            found = dict(PRESETS[text])
        elif step not in DEFAULT:
            raise unknown(f"step {step} for --resources", step, DEFAULT)
        else:
            found[step] = _of_step(text, amounts, found[step])
    return found


def _of_step(text: str, amounts: str, before: Resources) -> Resources:
    parts = [part.strip() for part in amounts.split(",")]
    if not 2 <= len(parts) <= 4:
        raise _wrong(text, f"{len(parts)} of the amounts", FORM)
    cpu, memory = parts[:2]
    requested = _bytes(text, memory)
    if len(parts) > 2:
        memory_limit = parts[2]
        if _bytes(text, memory_limit) < requested:
            raise _wrong(text, f"{memory} with a limit of {memory_limit}", "a limit that is not below it")
    else:
        memory_limit = max(memory, before.memory_limit, key=lambda amount: _bytes(text, amount))
    cpu_limit = parts[3] if len(parts) > 3 else ""
    asked = _processors(text, cpu)
    if cpu_limit and _processors(text, cpu_limit) < asked:
        raise _wrong(text, f"{cpu} processors with a limit of {cpu_limit}", "a limit that is not below it")
    return Resources(cpu, memory, memory_limit, cpu_limit)


def _processors(text: str, amount: str) -> float:
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", amount)) or not float(found[1]):
        raise _wrong(text, f"{amount!r} for processors", "a number such as 2, 0.5 or 500m, above 0")
    return float(found[1]) / (1000 if found[2] else 1)


def _bytes(text: str, amount: str) -> int:
    if not (found := re.fullmatch(rf"(\d+)({'|'.join(UNITS)})", amount)) or not int(found[1]):
        raise _wrong(text, f"{amount!r} for memory", "a whole number with a unit, such as 512Mi or 2Gi")
    return int(found[1]) * UNITS[found[2]]


def _wrong(text: str, got: str, expected: str) -> SettingsError:
    return SettingsError(
        f"--resources {text} cannot be used.",
        got=got,
        expected=expected,
        fix="Write it like --resources train=1,4Gi,8Gi: processors and memory to start with, then limits.",
    )
