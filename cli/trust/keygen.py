"""`defectline keygen`"""

import os
from pathlib import Path
from typing import Annotated

import typer


def keygen(
    file: Annotated[
        Path, typer.Argument(help="The private key goes to FILE.key, the public one to FILE.pub.")
    ],
) -> None:
    """Make a pair of keys: one to sign with, one for others to check by."""
    from defectline.components.common.errors import SettingsError
    from defectline.components.common.files import explained
    from defectline.components.common.trust.keys import SIGN_KEY_ENV, TRUST_ENV, new_key

    private, public = (file.parent / f"{file.name}{ending}" for ending in (".key", ".pub"))
    key = new_key(file.name)
    for place, data, mode in ((private, key.pem, 0o600), (public, key.public.pem, 0o644)):
        try:
            # What is there is never written over: a lost private key cannot be made again.
            with explained(f"{place} cannot be written.", expected="a new file", fix="Name another one."):
                handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except SettingsError:
            if place is public:
                private.unlink()
            raise
        with os.fdopen(handle, "wb") as output:
            output.write(data)
    typer.echo(f"{private}: to sign with, for whoever runs the pipeline: export {SIGN_KEY_ENV}={private}")
    typer.echo(f"{public}: to check by, for everybody: export {TRUST_ENV}={public}, or --trust {public}")
    typer.echo(f"SHA-256 of the public key: {key.public.fingerprint}")
