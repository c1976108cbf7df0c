"""`defectline keygen`"""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer


def keygen(
    given: Annotated[
        str,
        typer.Argument(metavar="FILE", help="The private key goes to FILE.key, the public one to FILE.pub."),
    ],
) -> None:
    """Make a pair of keys: one to sign with, one for others to check by."""
    from defectline.components.common.errors import SettingsError
    from defectline.components.common.files import explained
    from defectline.components.common.trust.keys import SIGN_KEY_ENV, TRUST_ENV, new_key

    file = Path(given)
    # Either of the two may be named.
    name = file.name.removesuffix(".key").removesuffix(".pub")
    if not name or str(given).endswith(os.sep):
        raise SettingsError(
            "A pair of keys needs a name.",
            got=repr(given),
            expected="a name of a file, such as keys/plates",
            fix="Name one.",
        )
    private, public = (file.parent / f"{name}{ending}" for ending in (".key", ".pub"))
    key = new_key(name)
    with explained(f"{file.parent} cannot be made.", expected="a folder", fix="Name another one."):
        file.parent.mkdir(parents=True, exist_ok=True)
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
    typer.echo(f"{private}: to sign with. Give it to nobody.")
    typer.echo(f"  bundles:   export {SIGN_KEY_ENV}={shlex.quote(str(private))}")
    typer.echo(f"  approvals: --key {shlex.quote(str(private))}")
    typer.echo(f"{public}: to check by. Give it to everybody.")
    typer.echo(f"  export {TRUST_ENV}={shlex.quote(str(public))}, or --trust {shlex.quote(str(public))}")
    typer.echo(f"SHA-256 of the public key: {key.public.fingerprint}")
