"""How many people a setting asks for, and how. What they say is tried in deploy/test_approval.py."""

import shlex
from typing import get_args

from defectline.components.common.trust.approvals import NEEDED, how_to_approve
from defectline.components.evaluate.settings import EvaluateSettings


def test_every_setting_that_asks_has_a_number():
    assert {*get_args(EvaluateSettings.model_fields["approval"].annotation)} == {"none", *NEEDED}


def test_the_command_is_one_that_a_shell_takes():
    said = how_to_approve("/my store", "plates", "v1", signed=True)
    words = ["defectline", "approve", "v1", "--name", "plates", "--store", "/my store"]
    assert shlex.split(said) == [*words, "--as", "YOU", "--reason", "WHY", "--key", "YOUR.key"]
    assert how_to_approve("s3://plant/store", "plates", "v1", signed=False).endswith("--reason WHY")
