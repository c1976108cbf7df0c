"""Every setting of the evaluate step: the gate's absolute rules, the cost of an escape, the grades."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from defectline.components.common.inference.inspection import Grades


def _not_below_grade_a(grade_b_px: int, others: ValidationInfo) -> int:
    least = others.data.get("grade_a_px", 0)
    if grade_b_px < least:
        raise ValueError(f"at least grade_a_px, which is {least}; or 0 for both, for no grades")
    return grade_b_px


class EvaluateSettings(BaseModel):
    """Rates are from 0 to 1, on the test split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_iou: float = Field(default=0.5, ge=0, le=1, description="The gate: the least IoU.")
    max_escape: float = Field(
        default=0.1, ge=0, le=1, description="The gate: the highest share of defective parts called OK."
    )
    max_overkill: float = Field(
        default=0.1, ge=0, le=1, description="The gate: the highest share of good parts called NG."
    )
    escape_cost: float = Field(
        default=3.0,
        gt=0,
        allow_inf_nan=False,
        description="How many rejected good parts are as bad as one defective part that gets through.",
    )
    grade_a_px: int = Field(
        default=0,
        ge=0,
        description="Largest defect area of a part of grade A, in pixels of the incoming image.",
    )
    grade_b_px: Annotated[int, AfterValidator(_not_below_grade_a)] = Field(
        default=0,
        ge=0,
        validate_default=True,
        description="The same for grade B, second quality; 0 for no grades.",
    )

    @property
    def grades(self) -> Grades | None:
        return Grades(a_px=self.grade_a_px, b_px=self.grade_b_px) if self.grade_b_px else None
