"""`python -m defectline.cli`"""

from defectline.cli import main

main()
