"""Compiled pipelines that really run: tasks in their order, each step handed to something that runs it.

What a cluster's backend does was read from KFP's code, as far as this pipeline uses it: conditions, loops
with collected artifacts, an exit handler, the cache, and retries of pods that vanish, and of nothing else.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Values = dict[str, Any]
"""Parameters by name, or artifacts: a list for each."""
RETRIES = 2
"""Of a pod that vanished, where the step says no number: KFP's own setting of Argo."""
FINAL = {"SUCCEEDED": "COMPLETE", "FAILED": "FAILED", "CANCELED": "RUNNING"}
"""What an exit handler gets as the state of a pipeline that ended so."""


@dataclass
class Node:
    """A task that runs a container, as far as it is."""

    id: str
    name: str
    iteration: int | None = None
    """Of the innermost loop around it."""
    state: str = "PENDING"
    began: datetime | None = None
    ended: datetime | None = None
    pods: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StepSpec:
    """What a pod is made of."""

    node: Node
    container: Json
    """Of the compiled pipeline."""
    platform: Json
    """Its settings for Kubernetes."""
    input: Json
    """KFP's executor input."""


class Vanished(Exception):
    """The pod was deleted while it ran."""


class Failed(Exception):
    """A task ended otherwise than well."""


Run = Callable[["Workflow", StepSpec], bool]
"""Runs a step's pod to its end, and says whether it went well. Raises Vanished."""


class Workflow:
    """One run of a compiled pipeline; `run` works through it, best in a thread of its own."""

    def __init__(
        self, run_id: str, name: str, spec: Json, parameters: Values, folder: Path, run_step: Run, cache: Json
    ):
        self.run_id, self.name, self.folder = run_id, name, folder
        self.pipeline = spec.get("pipeline_spec", spec)
        platform = spec.get("platform_spec", {}).get("platforms", {}).get("kubernetes", {})
        self.executors = platform.get("deploymentSpec", {}).get("executors", {})
        self.parameters, self.run_step, self.cache = parameters, run_step, cache
        self.nodes: list[Node] = []
        self.state = "PENDING"
        self.began = datetime.now(UTC)
        self.ended: datetime | None = None
        self.cancelled = threading.Event()
        self.lost = threading.Event()
        """The workflow's object was deleted: nothing of it runs any more, its exit handler neither."""

    def run(self) -> None:
        root = self.pipeline["root"]
        declared = root.get("inputDefinitions", {}).get("parameters", {})
        defaults = {
            name: about["defaultValue"] for name, about in declared.items() if "defaultValue" in about
        }
        self.state = "RUNNING"
        try:
            self._run_dag(root["dag"], defaults | self.parameters, {}, None)
            state = "SUCCEEDED"
        except Failed:
            state = "CANCELED" if self.cancelled.is_set() else "FAILED"
        if not self.lost.is_set():
            self.ended, self.state = datetime.now(UTC), state

    def _run_dag(self, dag: Json, parameters: Values, artifacts: Values, iteration: int | None) -> Values:
        """Run the tasks of a DAG; returns what each put out. Raises Failed once its exit handler has run."""
        done: dict[str, Values] = {}
        states: dict[str, str] = {}
        left = dict(dag["tasks"])
        while left:
            ready = [n for n, task in left.items() if not set(task.get("dependentTasks", [])) & left.keys()]
            assert ready, f"tasks in a circle: {sorted(left)}"
            # By name: the real one starts them at once, in no order that anything may rest on.
            for name in sorted(ready):
                task = left.pop(name)
                states[name] = self._run_task(name, task, parameters, artifacts, done, states, iteration)
        if set(states.values()) & {"FAILED", "CANCELED"}:
            raise Failed
        return done

    def _run_task(
        self,
        name: str,
        task: Json,
        parameters: Values,
        artifacts: Values,
        done: dict[str, Values],
        states: dict[str, str],
        iteration: int | None,
    ) -> str:
        trigger = task.get("triggerPolicy", {})
        always = trigger.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
        before = [states[one] for one in task.get("dependentTasks", [])]
        if self.lost.is_set() or (not always and (self.cancelled.is_set() or set(before) - {"SUCCEEDED"})):
            return "CANCELED" if self.cancelled.is_set() else "SKIPPED"
        ended = "CANCELED" if self.cancelled.is_set() else before[0] if before else ""
        given, files = self._inputs(task, parameters, artifacts, done, FINAL.get(ended, ""))
        if (condition := trigger.get("condition")) and not _holds(condition, given):
            return "SKIPPED"
        component = self.pipeline["components"][task["componentRef"]["name"]]
        try:
            if "parameterIterator" in task:
                done[name] = self._run_loop(task["parameterIterator"], component["dag"], given, files)
            elif "dag" in component:
                inner = self._run_dag(component["dag"], given, files, iteration)
                done[name] = _put_out(component["dag"], inner)
            else:
                done[name] = self._run_container(name, task, component, given, files, iteration, always)
        except Failed:
            return "CANCELED" if self.cancelled.is_set() else "FAILED"
        return "SUCCEEDED"

    def _run_loop(self, iterator: Json, dag: Json, parameters: Values, artifacts: Values) -> Values:
        items = iterator["items"]
        found = items["raw"] if "raw" in items else parameters[items["inputParameter"]]
        found = json.loads(found) if isinstance(found, str) else found
        collected: Values = {}
        for index, item in enumerate(found):
            inner = self._run_dag(dag, parameters | {iterator["itemInput"]: item}, artifacts, index)
            for key, value in _put_out(dag, inner).items():
                collected.setdefault(key, []).extend(value if isinstance(value, list) else [value])
        return collected

    def _inputs(
        self, task: Json, parameters: Values, artifacts: Values, done: dict[str, Values], final: str
    ) -> tuple[Values, Values]:
        wanted, given, files = task.get("inputs", {}), {}, {}
        for key, one in wanted.get("parameters", {}).items():
            if "runtimeValue" in one:
                continue
            if "componentInputParameter" in one:
                given[key] = parameters[one["componentInputParameter"]]
            elif "taskFinalStatus" in one:
                # Its error is always empty, whatever happened.
                status = {"state": final, "pipelineTaskName": one["taskFinalStatus"]["producerTask"]}
                given[key] = {**status, "pipelineJobResourceName": self.run_id, "error": {}}
            else:
                source = one["taskOutputParameter"]
                given[key] = done[source["producerTask"]][source["outputParameterKey"]]
        # Last, for their texts are made of the others.
        for key, one in wanted.get("parameters", {}).items():
            if "runtimeValue" in one:
                given[key] = self._resolved(one["runtimeValue"]["constant"], given)
        for key, one in wanted.get("artifacts", {}).items():
            if "componentInputArtifact" in one:
                files[key] = artifacts[one["componentInputArtifact"]]
            else:
                source = one["taskOutputArtifact"]
                files[key] = done[source["producerTask"]][source["outputArtifactKey"]]
        return given, files

    def _resolved(self, constant: Any, given: Values) -> Any:
        if not isinstance(constant, str):
            return constant
        text = constant.replace("{{$.pipeline_job_uuid}}", self.run_id)
        text = text.replace("{{$.pipeline_job_name}}", self.name)
        return re.sub(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}", lambda m: _text(given[m[1]]), text)

    def _run_container(
        self,
        name: str,
        task: Json,
        component: Json,
        given: Values,
        files: Values,
        iteration: int | None,
        always: bool,
    ) -> Values:
        label = component["executorLabel"]
        container = self.pipeline["deploymentSpec"]["executors"][label]["container"]
        declared = component.get("inputDefinitions", {}).get("parameters", {})
        given = {key: _typed(value, declared[key]) for key, value in given.items() if key in declared}
        node = Node(f"{self.run_id}-{name}-{len(self.nodes)}", name, iteration)
        self.nodes.append(node)
        key = _cache_key(container, given, files) if task.get("cachingOptions", {}).get("enableCache") else ""
        if key in self.cache:
            node.began = node.ended = datetime.now(UTC)
            node.state = "SUCCEEDED"
            return self.cache[key]
        policy = task.get("retryPolicy", {})
        attempts = 1 + int(policy.get("maxRetryCount", RETRIES))
        for attempt in range(attempts):
            place = self.folder / f"{len(self.nodes)}-{name}-{attempt}"
            step = _executor_input(component, given, files, place)
            spec = StepSpec(node, container, self.executors.get(label, {}), step)
            node.state, node.began = "RUNNING", node.began or datetime.now(UTC)
            try:
                well = self.run_step(self, spec)
                break
            except Vanished:
                well = False
                if self.lost.is_set() or (self.cancelled.is_set() and not always):
                    break
        node.ended = datetime.now(UTC)
        stopped = self.cancelled.is_set() and not always
        node.state = "SUCCEEDED" if well else "CANCELED" if stopped else "FAILED"
        if not well:
            raise Failed
        found = _outputs(component, place)
        if key:
            self.cache[key] = found
        return found


def steps_of(spec: Json) -> Iterator[str]:
    """The names of the tasks that run a container."""
    pipeline = spec.get("pipeline_spec", spec)
    for part in (pipeline["root"], *pipeline["components"].values()):
        for name, task in part.get("dag", {}).get("tasks", {}).items():
            if "executorLabel" in pipeline["components"][task["componentRef"]["name"]]:
                yield name


def _holds(condition: str, given: Values) -> bool:
    """Of the conditions that this pipeline has: a parameter that is, or is not, a text."""
    match = re.fullmatch(r"inputs\.parameter_values\['([^']+)'\] (==|!=) '([^']*)'", condition)
    assert match, f"a condition that is not understood: {condition}"
    return (str(given[match[1]]) == match[3]) == (match[2] == "==")


def _text(value: Any) -> str:
    """As KFP writes a value into a text."""
    return value if isinstance(value, str) else json.dumps(value)


def _typed(value: Any, declared: Json) -> Any:
    """Numbers of a compiled pipeline are floating."""
    if declared["parameterType"] == "NUMBER_INTEGER" and isinstance(value, float):
        return int(value)
    return value


def _cache_key(container: Json, given: Values, files: Values) -> str:
    made = {key: [one["uri"] for one in found] for key, found in files.items()}
    text = json.dumps([container, given, made], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _executor_input(component: Json, given: Values, files: Values, place: Path) -> Json:
    outputs = component.get("outputDefinitions", {})
    made = {
        key: {
            "artifacts": [
                {"name": key, "type": about["artifactType"], "uri": str(place / key), "metadata": {}}
            ]
        }
        for key, about in outputs.get("artifacts", {}).items()
    }
    parameters = {key: {"outputFile": str(place / f"{key}.txt")} for key in outputs.get("parameters", {})}
    return {
        "inputs": {
            "parameterValues": given,
            "artifacts": {key: {"artifacts": found} for key, found in files.items()},
        },
        "outputs": {
            "parameters": parameters,
            "artifacts": made,
            "outputFile": str(place / "executor_output.json"),
        },
    }


def _outputs(component: Json, place: Path) -> Values:
    """What a step put out: parameters from the file that KFP's executor wrote, artifacts with metadata."""
    written = place / "executor_output.json"
    said = json.loads(written.read_text()) if written.exists() else {}
    outputs = component.get("outputDefinitions", {})
    found: Values = {}
    for key in outputs.get("parameters", {}):
        found[key] = said.get("parameterValues", {}).get(key)
    for key in outputs.get("artifacts", {}):
        artifacts = said.get("artifacts", {}).get(key, {}).get("artifacts")
        found[key] = artifacts or [{"name": key, "uri": str(place / key), "metadata": {}}]
    return found


def _put_out(dag: Json, done: dict[str, Values]) -> Values:
    """The outputs of a DAG, out of those of its tasks."""
    found: Values = {}
    for key, about in dag.get("outputs", {}).get("artifacts", {}).items():
        for one in about["artifactSelectors"]:
            if one["producerSubtask"] in done:
                found.setdefault(key, []).extend(done[one["producerSubtask"]][one["outputArtifactKey"]])
    for key, about in dag.get("outputs", {}).get("parameters", {}).items():
        one = about["valueFromParameter"]
        if one["producerSubtask"] in done:
            found[key] = done[one["producerSubtask"]][one["outputParameterKey"]]
    return found
