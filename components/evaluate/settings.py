"""Every setting of the evaluate step: the gate's absolute rules, the cost of an escape, the grades."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple, cast, get_args
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from defectline.components.common.errors import SettingsError
from defectline.components.common.inference.inspection import Grades


def _not_below_grade_a(grade_b_px: int, others: ValidationInfo) -> int:
    least = others.data.get("grade_a_px", 0)
    if grade_b_px < least:
        raise ValueError(f"at least grade_a_px, which is {least}; or 0 for both, for no grades")
    return grade_b_px


Limit = Literal["max_escape", "min_iou", "escape_cost"]
"""What may be set for a class alone."""


class Costs(NamedTuple):
    """What errors cost, in rejected good parts."""

    escape: float
    look: float
    escape_of: Mapping[int, float]
    """With a defect of these classes, by their numbers, where it is not the usual cost."""


def read_by_class(text: str) -> dict[tuple[Limit, str], float]:
    """`max_escape.crack=0.02,escape_cost.open%20circuit=10` by setting and class. Raises ValueError."""
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        key, mark, value = part.rpartition("=")
        limit, _, name = key.strip().partition(".")
        if not (mark and name) or limit not in get_args(Limit):
            raise ValueError(
                f"{part!r} is not one of {', '.join(get_args(Limit))} as in max_escape.crack=0.02"
            )
        number = float(value)
        # Not a number fails both comparisons.
        if not (0 < number < float("inf") if limit == "escape_cost" else 0 <= number <= 1):
            raise ValueError(f"{part!r}: {'above 0' if limit == 'escape_cost' else 'from 0 to 1'}")
        found[cast(Limit, limit), unquote(name)] = number
    return found


def _readable(text: str) -> str:
    read_by_class(text)
    return text


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
    look_as: Literal["NG", "OK", "LOOK"] = Field(
        default="NG",
        description="What parts are called whose scores are too high for `max_escape` to be promised and too "
        "low for `max_overkill`; LOOK means that a person looks.",
    )
    look_cost: float = Field(
        default=0.2,
        ge=0,
        allow_inf_nan=False,
        description="How many rejected good parts are as bad as one part that a person has to look at.",
    )
    max_look: float = Field(
        default=0.1, ge=0, le=1, description="The gate: the highest share of parts called LOOK."
    )
    parts_per_day: int = Field(
        default=0,
        ge=0,
        description="Parts that the line makes a day, to tell promises in parts; 0: not told.",
    )
    replace: Literal["better", "not_worse"] = Field(
        default="better",
        description="What a challenger must be to replace a champion that learned from the same pictures, or "
        "where there are too few test pictures for a bound.",
    )
    approval: Literal["none", "required", "two"] = Field(
        default="none",
        description="Whether a person, or two, must approve a challenger that passed the gate before it is "
        "deployed.",
    )
    first_look: Literal["never", "auto"] = Field(
        default="never",
        description="Whether large frames are judged at half resolution first and only suspicious tiles in "
        "full; auto: where that changes no verdict on validation images and saves time.",
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

    by_class: Annotated[str, AfterValidator(_readable)] = Field(
        default="",
        description="Limits and costs of single classes, as in max_escape.crack=0.02, escape_cost.crack=10; "
        f"for {', '.join(get_args(Limit))}.",
    )

    def of_classes(self, limit: Limit) -> dict[str, float]:
        """What is set for single classes, by their names."""
        return {name: value for (key, name), value in read_by_class(self.by_class).items() if key == limit}

    def costs(self, classes: Sequence[str]) -> Costs:
        """What errors cost where pictures have defects of these `classes`."""
        own = self.of_classes("escape_cost")
        numbers = {n: own[name] for n, name in enumerate(classes, start=1) if name in own}
        return Costs(self.escape_cost, self.look_cost, numbers)

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raise SettingsError where a limit is for a class that there is not, or for the only one."""
        for limit, name in read_by_class(self.by_class):
            if name not in classes or len(classes) < 2:
                raise SettingsError(
                    f"There is no class {name} to set {limit} for."
                    if name not in classes
                    else f"{name} is the only class.",
                    got=f"{limit}.{name}",
                    expected=", ".join(classes) if len(classes) > 1 else f"{limit} itself",
                    fix="Correct by_class.",
                )

    @property
    def grades(self) -> Grades | None:
        return Grades(a_px=self.grade_a_px, b_px=self.grade_b_px) if self.grade_b_px else None
