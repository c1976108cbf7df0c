"""How many people a setting asks for. What they say is tried in deploy/test_approval.py."""

from typing import get_args

from defectline.components.common.trust.approvals import NEEDED
from defectline.components.evaluate.settings import EvaluateSettings


def test_every_setting_that_asks_has_a_number():
    assert {*get_args(EvaluateSettings.model_fields["approval"].annotation)} == {"none", *NEEDED}
