"""OpenVINO without its usage reports."""

import sys
from types import ModuleType


def import_openvino() -> ModuleType:
    """The openvino package. Its import sends usage data wherever openvino_telemetry can be imported, and so
    does NNCF's, which must come after this; where it cannot, both use stubs of their own that send nothing,
    and there is no other switch."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
