"""What the endpoint answers for one image: the fields of V1's JSON, V2's outputs, the CSV and OpenAPI.

A new field needs a line here and a value where it is filled: `inspection.to_prediction`, or
`serve/protocol/responses.to_v1` for what is known of the request alone. Imports nothing but pydantic, so
that the client can stand without NumPy.
"""

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Grade = Literal["A", "B", "reject"]
Verdict = Literal["OK", "LOOK", "NG"]
"""LOOK: a person should look, since neither of the others can be promised."""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

# A client takes fields of newer endpoints as they are.
_CONFIG = ConfigDict(
    frozen=True,
    extra="allow",
    protected_namespaces=(),
    use_attribute_docstrings=True,
    validate_by_name=True,
    serialize_by_alias=True,
)


class Region(BaseModel):
    """A connected defect."""

    model_config = _CONFIG

    bbox: tuple[int, int, int, int]
    """x, y, width, height in pixels"""
    area_px: int
    centroid: tuple[float, float]
    """x, y in pixels"""
    score: float
    """The highest probability of a defect in it"""
    class_: str | None = Field(default=None, alias="class")
    """Where the model tells several classes apart: the one with the largest mean probability in it"""
    class_probability: float | None = None
    """That mean"""


class Prediction(BaseModel):
    """What the endpoint says of an image."""

    model_config = _CONFIG

    verdict: Verdict
    """LOOK only of models that were asked for it: see `look_as`"""
    score: float = Field(ge=0, le=1)
    """OK ⇔ score < the model's threshold; else NG or, below its second level where it has one, LOOK"""
    grade: Grade | None = None
    """Where the model has grades"""
    defect_area_px: int
    defect_area_ratio: float
    class_areas_px: dict[str, int] | None = None
    """Where the model tells several classes apart: pixels of each, in its regions"""
    regions: tuple[Region, ...]
    """The largest first"""
    mask_png: str | None = Field(
        default=None, json_schema_extra={"contentEncoding": "base64", "minLength": 4}
    )
    """PNG of the image's size: of 1 bit or, for several classes, a palette whose indices are their numbers"""
    model_version: str
    latency_ms: float
    """Within the server, without the network"""
