"""`defectline reject`"""

from defectline.cli.deciding import decision

reject = decision("reject", "Say no to a version that waits for approval; the champion stays.")
