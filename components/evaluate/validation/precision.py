"""Which network is served: INT8 only where it loses nothing that counts on validation pictures."""

from collections.abc import Mapping, Sequence
from typing import Literal

from defectline.components.evaluate.metrics import Count, summarize

IOU_MARGIN = 0.01
"""How much less IoU than in float32 is still no loss; a mask moved by a pixel loses 0.25."""
NAMED = 3
"""Pictures with a worse verdict that the reason names."""


def select_precision(
    counts: Mapping[str, Sequence[Count]],
) -> tuple[Literal["openvino", "openvino_int8"], str]:
    """The network to serve and why, from what each did on the same validation pictures, in the same order, at
    an operating point of its own. `openvino` is always among them; `openvino_int8` where the model was
    quantized.

    INT8 must be right wherever float32 is, and may have an IoU lower by IOU_MARGIN at most.
    """
    if "openvino_int8" not in counts:
        return "openvino", "the model was not quantized"
    whole, small = counts["openvino"], counts["openvino_int8"]
    worse = [s.id for w, s in zip(whole, small, strict=True) if _errs(s) > _errs(w)]
    lost = []
    if worse:
        more = f" and {len(worse) - NAMED} more" if len(worse) > NAMED else ""
        lost.append(f"the verdict of {', '.join(worse[:NAMED])}{more}")
    iou, iou_small = summarize(whole, None)["iou"], summarize(small, None)["iou"]
    if iou is not None and (iou_small or 0) < iou - IOU_MARGIN:
        lost.append(f"IoU {iou_small or 0:.3f} for {iou:.3f}")
    if not lost:
        return "openvino_int8", f"loses nothing on {len(whole)} validation pictures"
    return "openvino", f"INT8 is worse on validation pictures: {', '.join(lost)}"


def _errs(count: Count) -> int:
    """0 for the right verdict, 1 where a person has to look, 2 for the wrong one."""
    return 2 if count.wrong else int(count.verdict != count.label)
