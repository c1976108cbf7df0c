"""`python -m defectline.components.ingest SOURCE STORE`"""

import typer

from defectline.components.ingest.step import ingest

if __name__ == "__main__":
    typer.run(ingest)
