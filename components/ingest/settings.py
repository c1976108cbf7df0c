"""Every setting of the ingest step."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from defectline.components.ingest.groups import NO_PATTERN, check_pattern


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
        default="all", description="Which pictures need a mask; with ng_only good ones need none."
    )
    group_by: Annotated[str, AfterValidator(check_pattern)] = Field(
        default=NO_PATTERN,
        description="A regular expression whose group (…) finds in an id the part that it shows.",
    )
