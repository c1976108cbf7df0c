"""Which nodes the step with GPUs runs on, from what people write."""

import re
from collections.abc import Iterable

from defectline.components.common.errors import SettingsError

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PART = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
KEY = rf"(?:{_PART}(?:\.{_PART})*/)?{_NAME}"
VALUE = rf"(?:{_NAME})?"
"""Keys and values of labels and taints, as Kubernetes has them."""
SELECTOR = re.compile(f"(?P<key>{KEY})=(?P<value>{VALUE})")
TOLERATION = re.compile(f"(?P<key>{KEY})(?:=(?P<value>{VALUE}))?(?::(?P<effect>{'|'.join(EFFECTS)}))?")


def parse_node_selector(texts: Iterable[str]) -> dict[str, str]:
    """Labels that a node must have, from texts `key=value`; the last one of a key counts.

    Raises SettingsError.
    """
    found = {}
    for text in texts:
        if not (label := SELECTOR.fullmatch(text)):
            raise SettingsError(
                f"--node-selector {text} is not a label.",
                got=repr(text),
                expected="key=value, as `kubectl get nodes --show-labels` prints it",
                fix="Write it like --node-selector nvidia.com/gpu.product=NVIDIA-A30.",
            )
        found[label["key"]] = label["value"]
    return found


def parse_tolerations(texts: Iterable[str]) -> tuple[dict[str, str], ...]:
    """Taints of nodes that do not matter, from texts `key[=value][:effect]`, as Kubernetes' tolerations.

    Without a value all values of the key are meant, without an effect all effects. Raises SettingsError.
    """
    found = []
    for text in texts:
        if not (taint := TOLERATION.fullmatch(text)):
            raise SettingsError(
                f"--toleration {text} is not a taint.",
                got=repr(text),
                expected=f"key[=value][:effect], where effect is one of {', '.join(EFFECTS)}",
                fix="Write it like --toleration nvidia.com/gpu:NoSchedule.",
            )
        given = {key: value for key, value in taint.groupdict().items() if value is not None}
        found.append({"operator": "Equal" if "value" in given else "Exists", **given})
    return tuple(found)
