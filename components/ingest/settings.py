"""Every setting of the ingest step."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from defectline.components.ingest.grouping.groups import NO_PATTERN, check_pattern


def parse_class_map(text: str) -> dict[str, str]:
    """The pairs of `a=b,c=d`. Raises ValueError for anything else.

    >>> parse_class_map("dust=ignore, light scratch=scratch")
    {'dust': 'ignore', 'light scratch': 'scratch'}
    """
    names: dict[str, str] = {}
    for part in text.split(",") if text.strip() else ():
        old, equals, new = (side.strip() for side in part.partition("="))
        if not (old and equals and new) or "=" in new:
            raise ValueError(f"{part.strip()!r} is not of the form name=name")
        if names.setdefault(old, new) != new:
            raise ValueError(f"{old} is both {names[old]} and {new}")
    return names


def _check_class_map(text: str) -> str:
    parse_class_map(text)
    return text


class IngestSettings(BaseModel):
    """What is brought into the store, and when that is worth a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_new_images: int = Field(
        default=1, ge=1, description="New pairs since the last gate that a run needs to go on."
    )
    max_rejected: float = Field(
        default=0.1, ge=0, le=1, description="Share of pairs that may be unusable; more stop the run."
    )
    force: bool = Field(default=False, description="Go on even where nothing is new.")
    masks: Literal["all", "ng_only"] = Field(
        default="all",
        description="With all, each good picture needs a mask where some have one; with ng_only none does.",
    )
    group_by: Annotated[str, AfterValidator(check_pattern)] = Field(
        default=NO_PATTERN,
        description="A regular expression whose group (…) finds in an id the part that it shows.",
    )
    layout: Literal[
        "auto",
        "folders",
        "csv",
        "mvtec",
        "visa",
        "kolektor",
        "coco",
        "labelme",
        "cvat",
        "voc",
        "yolo",
        "yolo_masks",
        "labelstudio",
        "datumaro",
    ] = Field(default="auto", description="The format of the labels; auto takes the one that fits.")
    class_map: Annotated[str, AfterValidator(_check_class_map)] = Field(
        default="",
        description="Classes to rename, merge or leave out, such as dust=ignore,scratch_light=scratch.",
    )

    @property
    def classes(self) -> dict[str, str]:
        """`class_map`, from names of the source to names of the snapshot."""
        return parse_class_map(self.class_map)
