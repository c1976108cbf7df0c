"""What a caller may choose for one request, in a query string, in JSON or over gRPC."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from defectline.components.serve.protocol.errors import ApiError

REQUEST_ID = re.compile("[A-Za-z0-9_.:-]{1,128}")


class Parameters(BaseModel):
    """What a caller may choose for one request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask: Literal["png", "none"] = Field("png", description="whether the mask is sent")
    regions: bool = Field(True, description="whether the regions are sent")
    threshold: float | None = Field(
        None,
        ge=0.001,
        le=1,
        allow_inf_nan=False,
        description="another threshold than the model's, for this request",
    )
    part: Literal["any", "mean"] | None = Field(
        None,
        description="one verdict for all pictures together, which show one part: the worst of theirs (any), "
        "or that of their mean score",
    )
    review: bool | None = Field(
        None,
        description="true: people are to review the picture; false: it is not from the line, so it is "
        "neither kept nor counted in drift; else the endpoint chooses which it keeps",
    )
    request_id: str | None = Field(
        None, pattern=f"^{REQUEST_ID.pattern}$", description="returned with the answer, and in the log"
    )


IGNORED = ("timeout", "priority", "sequence_id", "sequence_start", "sequence_end", "headers")
"""Parameters that V2's clients send by themselves, for servers that queue by them. The answer says that they
were ignored."""
EXPECTED = {
    "mask": "png or none",
    "regions": "true or false",
    "threshold": "a number from 0.001 to 1",
    "part": "any or mean",
    "review": "true or false",
    "request_id": "1 to 128 letters, digits and . : _ -",
}


def parameters_of(*sources: Mapping[str, Any]) -> Parameters:
    """Parameters of a query string and a body; later sources win."""
    given = {key: value for source in sources for key, value in source.items()}
    try:
        return Parameters(**given)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
    except TypeError:
        name = ""
    if name in EXPECTED:
        got = str(given[name])[:40]
        raise ApiError("invalid_request", f"Parameter {name} is {got!r}. Expected {EXPECTED[name]}.")
    raise ApiError(
        "invalid_request", f"There is no parameter {name[:40]!r}. Expected one of {', '.join(EXPECTED)}."
    )
