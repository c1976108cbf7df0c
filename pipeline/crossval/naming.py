"""What the store calls the folds.

Apart from the code that judges them: the pipeline's definition needs no more, and compiles a second sooner.
"""

from defectline.components.common.layout import CROSSVAL
from defectline.pipeline.parameters import Parameters

UNLIKE = frozenset({"source", "store", "force", "min_new_images", "max_rejected", "group_by"})
"""Parameters that change nothing in what is judged, once there is a snapshot."""
INGEST_RUN = f"{CROSSVAL}ingest"
"""Of no fold: what ingest shows of the source."""
MODEL_NAME = "crossval"
"""Another name than any model's, whose gate must not take a fold for one of its runs."""


def settings_of(parameters: Parameters, *but: str) -> str:
    """Those that a fold's result depends on, as `key=value key=value …`."""
    values = parameters.model_dump(exclude={*UNLIKE, *but})
    return " ".join(f"{key}={value}" for key, value in values.items())
