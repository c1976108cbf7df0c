"""Which network is served: INT8 only where it loses nothing that the gate sees on validation pictures."""

from collections.abc import Mapping, Sequence
from typing import Literal

from defectline.components.evaluate.metrics import Count, summarize

IOU_MARGIN = 0.005
"""How much less IoU than in float32 is still no loss; a mask moved by a pixel loses 0.25."""


def select_precision(
    counts: Mapping[str, Sequence[Count]],
) -> tuple[Literal["openvino", "openvino_int8"], str]:
    """The network to serve and why, from what each did on the same validation pictures, at an operating
    point of its own. `openvino` is always among them; `openvino_int8` where the model was quantized.

    INT8 may have no more escapes and no more overkills, and an IoU lower by IOU_MARGIN at most.
    """
    if "openvino_int8" not in counts:
        return "openvino", "the model was not quantized"
    whole, small = (summarize(counts[name], None) for name in ("openvino", "openvino_int8"))
    lost = [name for name in ("escape", "overkill") if (small[name] or 0) > (whole[name] or 0)]
    if whole["iou"] is not None and (small["iou"] or 0) < whole["iou"] - IOU_MARGIN:
        lost.append("iou")
    if not lost:
        return "openvino_int8", f"loses nothing on {len(counts['openvino'])} validation pictures"
    change = ", ".join(f"{name} {small[name] or 0:.3f} for {whole[name] or 0:.3f}" for name in lost)
    return "openvino", f"INT8 is worse on validation pictures: {change}"
