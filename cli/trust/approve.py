"""`defectline approve`"""

from defectline.cli.deciding import decision

approve = decision(
    "approve", "Say yes to a version that waits for approval, and deploy it where that is enough."
)
