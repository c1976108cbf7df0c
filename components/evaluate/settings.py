"""What evaluate is told: the gate's absolute rules, the cost of an escape, the limits of the grades."""

from pydantic import BaseModel, ConfigDict, Field

from defectline.components.common.inference.inspection import Grades
from defectline.components.common.settings import GradeB


class EvaluateSettings(BaseModel):
    """Rates are from 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_iou: float = Field(default=0.5, ge=0, le=1)
    max_escape: float = Field(default=0.1, ge=0, le=1)
    max_overkill: float = Field(default=0.1, ge=0, le=1)
    escape_cost: float = Field(default=3.0, gt=0, allow_inf_nan=False)
    """How many good parts thrown away are as bad as one defective part let through."""
    grade_a_px: int = Field(default=0, ge=0)
    """Largest defect area of a part of grade A, in pixels of the picture that came in."""
    grade_b_px: GradeB = 0
    """The same for B, second quality; 0 for no grades."""

    @property
    def grades(self) -> Grades | None:
        return Grades(a_px=self.grade_a_px, b_px=self.grade_b_px) if self.grade_b_px else None
