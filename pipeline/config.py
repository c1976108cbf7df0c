"""One file for a run's settings: what `--config` reads and `defectline config` prints.

source: s3://plates/images      labelled images
store: s3://plates/store        where snapshots, models and runs are kept
name: plates                    the model's name
parameters: {epochs: 80, …}     fields of the steps' settings; `training` may be a mapping
cluster: {gpus: 1, …}           what `compile` takes, with `kserve: {…}` for `--kserve`
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

from defectline.components.common.errors import SettingsError
from defectline.components.common.files import read_file
from defectline.components.common.settings import checked, unknown
from defectline.components.deploy.kserve.settings import KServeSettings
from defectline.components.train.settings import TRAINING, TrainParameters, TrainSettings, read_settings
from defectline.pipeline.nodes import parse_node_selector, parse_tolerations
from defectline.pipeline.parameters import Parameters
from defectline.pipeline.resources import parse_resources
from defectline.pipeline.step_runner import SETTINGS

BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "a multiple of"}
"""Names of pydantic's bounds, and what people read."""
HEAD = """\
# Settings of defectline, with their defaults: keep what you change, and remove the rest.
# `defectline run --config FILE` reads them. An option of the command, and --set, win over the file.
# Folders are relative to where the command is typed.
"""
ORDER = ("", "parameters", "parameters.training", "cluster", "cluster.kserve")
"""Of the mappings in the file."""

HAVE_OPTIONS = ("namespace", "image", "service_account", "deployment_mode", "adopt")
"""Settings of KServe that come from options of their own, or from the lock file."""
KSERVE = [name for name in KServeSettings.model_fields if name not in HAVE_OPTIONS]
"""The settings that `--kserve` takes."""


REPEATABLE = ("resources", "node_selector", "toleration")
"""Settings of the cluster of which several may be given: those of the options come after those of a file."""


class Cluster(BaseModel):
    """What `compile` can be told, but for the files that it reads and writes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field(default="defectline", min_length=1, description="Where KServe serves the model.")
    service_account: str = Field(default="", description="Of the served pods.")
    mode: Literal["Standard", "Knative"] = Field(default="Standard", description="KServe's mode.")
    gpus: int = Field(default=1, ge=0, description="For training.")
    s3_secret: str = Field(default="", description="Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    s3_endpoint: str = Field(default="", description="URL of an S3 server other than AWS.")
    s3_region: str = Field(default="", description="Region of the S3 server.")
    gcs_secret: str = Field(default="", description="Secret with key.json of a service account.")
    sign_secret: str = Field(
        default="", description="Secret with sign.key, and password if it has one: bundles are signed."
    )
    push_secret: str = Field(
        default="", description="Secret with a registry's login, for --kserve registry=…."
    )
    pull_secret: str = Field(default="", description="Secret for a private image registry.")
    resources: tuple[str, ...] = Field(
        default=(),
        description="Of steps: small, or STEP=CPU,MEMORY with ,MEMORY_LIMIT and ,CPU_LIMIT; repeatable.",
    )
    node_selector: tuple[str, ...] = Field(
        default=(), description="Label KEY=VALUE of the nodes to train on with GPUs; repeatable."
    )
    toleration: tuple[str, ...] = Field(
        default=(), description="Taint KEY[=VALUE][:EFFECT] that such nodes may have; repeatable."
    )
    retries: int = Field(default=2, ge=0, description="For a step whose pod is lost.")
    shards: int = Field(
        default=1,
        ge=1,
        description="Pods that read the source, prepare the dataset and judge the test images.",
    )
    at_once: int = Field(default=0, ge=0, description="Of these pods at the same time, at most; 0: all.")
    nodes: int = Field(
        default=1, ge=1, description="Pods that train one network together, with Kubeflow Trainer."
    )
    adopt: bool = Field(default=False, description="Take over an InferenceService that another tool made.")
    kserve: dict[str, Any] = {}
    run_as_user: int = Field(
        default=1000, ge=0, description="User id of the steps; 0: the cluster's choice, as on OpenShift."
    )

    @field_validator(*REPEATABLE, mode="before")
    @classmethod
    def _several(cls, texts: Any) -> Any:
        return (texts,) if isinstance(texts, str) else texts


class Config(BaseModel):
    """The content of a file; what it leaves out is not in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(default="", description=str(Parameters.model_fields["source"].description))
    store: str = Field(default="./store", description=str(Parameters.model_fields["store"].description))
    name: str = Field(
        default=Parameters.model_fields["model_name"].default,
        description=str(Parameters.model_fields["model_name"].description),
    )
    parameters: dict[str, Any] = {}
    cluster: dict[str, Any] = {}

    @property
    def repeatable(self) -> dict[str, list[str]]:
        """Those settings of the cluster, as the options of `compile` take them."""
        cluster = Cluster(**self.cluster)
        return {name: list(getattr(cluster, name)) for name in REPEATABLE}


class Setting(NamedTuple):
    """A setting as people and other programs see it."""

    key: str
    """Where it is in the file: `parameters.epochs`."""
    step: str
    """Whose it is: a step's, `run`, `cluster` or `kserve`."""
    type: str
    default: Any
    choices: list[Any]
    """All values that it may have; empty where they are not so few."""
    bounds: dict[str, float]
    """`ge`, `gt`, `le`, `lt`, `multiple_of`."""
    description: str


def read_config(path: Path) -> Config:
    """The settings in a file. Raises SettingsError that names the file and the key."""
    text = read_file(path, "a YAML file of settings, as `defectline config` prints one")
    try:
        content = yaml.safe_load(text) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} is not valid YAML.",
            got=" ".join(str(error).split()),
            expected="settings as `defectline config` prints them",
            fix="Correct the file there.",
        ) from None
    if not isinstance(content, dict):
        content = {"": content}
    settable = [name for kind in SETTINGS.values() for name in kind.model_fields]
    places = {
        "parameters": settable,
        "parameters: training": TRAINING,
        "cluster": Cluster.model_fields,
        "cluster: kserve": KSERVE,
    }
    _check_keys(path, "", content, Config.model_fields, places)
    _check_mapping(path, content, "parameters")
    _check_mapping(path, content, "cluster")
    _check_mapping(path, content["cluster"], "kserve")
    _check_keys(path, "parameters.", content["parameters"], settable)
    if not isinstance(content["parameters"].get("training", ""), str):
        _check_mapping(path, content["parameters"], "training")
        _check_keys(path, "parameters.training.", content["parameters"]["training"], TRAINING)
        content["parameters"]["training"] = " ".join(as_pairs(content["parameters"]["training"]))
    _check_keys(path, "cluster.", content["cluster"], Cluster.model_fields)
    _check_keys(path, "cluster.kserve.", content["cluster"].get("kserve", {}), KSERVE)
    try:
        config = checked(Config, **{key: value for key, value in content.items() if value is not None})
        named = {"model_name": config.name}
        checked(Parameters, source="source", store="store", **named, **config.parameters)
        read_settings(**{k: v for k, v in config.parameters.items() if k in TrainParameters.model_fields})
        cluster = checked(Cluster, **config.cluster)
        where = {"namespace": cluster.namespace, "image": "any:1", "deployment_mode": cluster.mode}
        checked(KServeSettings, **where, **cluster.kserve)
        parse_resources(cluster.resources)
        parse_node_selector(cluster.node_selector)
        parse_tolerations(cluster.toleration)
    except SettingsError as error:
        # As the file calls it.
        what, fix = (re.sub(r"\bmodel_name\b", "name", text) for text in (error.what, error.fix))
        raise SettingsError(f"{path}: {what}", got=error.got, expected=error.expected, fix=fix) from None
    return config


def _check_mapping(path: Path, content: dict[str, Any], key: str) -> None:
    # A heading without anything below it is null in YAML.
    if not isinstance(values := content.get(key) or {}, dict):
        raise SettingsError(
            f"{path}: {key} is not a mapping.",
            got=repr(values),
            expected="key: value, one a line, further to the right",
            fix="Compare with what `defectline config` prints.",
        )
    content[key] = values


def _check_keys(
    path: Path,
    prefix: str,
    found: Mapping[str, Any],
    known: Iterable[str],
    places: Mapping[str, Iterable[str]] = MappingProxyType({}),
) -> None:
    """Raise SettingsError for a key that is not known; `places` are the headings below which others are."""
    for key in found:
        if key not in known:
            error = unknown(f"key {prefix}{key} in {path}", str(key), known)
            heading = next((heading for heading, keys in places.items() if key in keys), "")
            error.fix = f"Write it below {heading}." if heading else error.fix
            raise error


def as_pairs(values: Mapping[str, Any]) -> list[str]:
    """`key=value` texts, as people write them after --set and --kserve."""
    return [f"{key}={_as_text(value)}" for key, value in values.items()]


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def describe() -> list[Setting]:
    """Every setting, in the order of the file."""
    groups: list[tuple[str, str, type[BaseModel], Iterable[str]]] = [
        ("", "run", Config, ("source", "store", "name")),
        *(group for step, kind in SETTINGS.items() for group in _of_step(step, kind)),
        ("cluster.", "cluster", Cluster, (name for name in Cluster.model_fields if name != "kserve")),
        ("cluster.kserve.", "kserve", KServeSettings, KSERVE),
    ]
    return [
        describe_field(f"{prefix}{name}", step, kind.model_fields[name])
        for prefix, step, kind, names in groups
        for name in names
    ]


def _of_step(step: str, kind: type[BaseModel]) -> Iterator[tuple[str, str, type[BaseModel], Iterable[str]]]:
    yield "parameters.", step, kind, kind.model_fields
    if kind is TrainParameters:
        yield "parameters.training.", step, TrainSettings, TRAINING


def describe_field(key: str, step: str, field: FieldInfo) -> Setting:
    """A field of the class of a group of settings, as people and other programs see it."""
    several = get_origin(field.annotation) is Literal
    choices = list(get_args(field.annotation)) if several else []
    kind = type(choices[0]) if several else get_origin(field.annotation) or field.annotation
    bounds = {
        name: value
        for one in field.metadata
        for name in BOUNDS
        if (value := getattr(one, name, None)) is not None
    }
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return Setting(
        key,
        step,
        getattr(kind, "__name__", str(kind)),
        default,
        choices,
        bounds,
        " ".join((field.description or "").split()),
    )


def as_yaml() -> str:
    """Every setting with its default, its bounds and a sentence, as a file for `read_config`."""
    lines, heading = [HEAD], ""
    settings = [setting for setting in describe() if setting.key != "parameters.training"]
    for setting in sorted(settings, key=lambda one: ORDER.index(one.key.rpartition(".")[0])):
        prefix, _, name = setting.key.rpartition(".")
        above, _, last = prefix.rpartition(".")
        margin = "  " * len(prefix.split(".")) if prefix else ""
        if prefix != heading:
            lines.append(f"{margin[2:]}{last}:" if above else f"\n{last}:")
            heading = prefix
        allowed = [f"{BOUNDS[bound]} {value}" for bound, value in setting.bounds.items()]
        allowed += [f"one of {', '.join(map(str, setting.choices))}"] if setting.choices else []
        bounds = f" ({', '.join(allowed)})" if allowed else ""
        lines.append(f"{margin}# {setting.description}{bounds}")
        # The default of one of training's may follow from another setting, so none is fixed here.
        off = "# " if last == "training" else ""
        lines.append(f"{margin}{off}{name}: {json.dumps(setting.default)}")
    return "\n".join(lines) + "\n"
