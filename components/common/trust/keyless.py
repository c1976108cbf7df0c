"""To sign without a key file: Sigstore gives a certificate of minutes to whom a token of OpenID Connect
names, and writes each signature into a public log.

The instance is the public one, or that of a client trust config. Signing asks its servers; checking asks
nobody.
"""

import base64
import json
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from defectline.components.common.errors import BundleError, SettingsError
from defectline.components.common.installing import how_to_install, is_installed
from defectline.components.common.trust.identities import Identity, identity_of

WORD = "sigstore"
"""In place of a key file."""
CONFIG_ENV = "DEFECTLINE_SIGSTORE"
"""A client trust config as JSON: a Sigstore of one's own."""
TOKEN_FILE_ENV = "DEFECTLINE_SIGSTORE_TOKEN_FILE"
"""A file with the token, which is read each time."""
TOKEN_ENV = "SIGSTORE_ID_TOKEN"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
LONGEST_TOLD = 200
TIMEOUT_S = 60.0
"""For a certificate, and for each signature's entry in the log."""
T = TypeVar("T")


class Keyless:
    """Signs what it is given as the identity of a token, with one certificate as long as that is valid."""

    def __init__(self) -> None:
        """Raises SettingsError where the package, the token or the trust config is missing or unusable."""
        _check_installed()
        _config_file()
        _token()
        self._signer: Any = None
        self._identity: Identity | None = None

    @property
    def public(self) -> Identity:
        """As the certificate names it. Raises SettingsError where there is no certificate to be had."""
        if self._identity is None:
            with _refused():
                self._certify()
        assert self._identity
        return self._identity

    def sign(self, payload: bytes) -> bytes:
        """A Sigstore bundle around an in-toto statement. Raises SettingsError where a server refuses, does
        not answer, or answers what nobody could check."""
        from sigstore._internal.fulcio.client import ExpiredCertificate
        from sigstore.dsse import Statement

        with _refused():
            if self._signer is None:
                self._certify()
            try:
                bundle = self._sign(Statement(payload))
            except ExpiredCertificate:
                self._certify()
                bundle = self._sign(Statement(payload))
            data = bundle.to_json().encode()
        try:
            prove(data, self.public, "What was just signed")
        except BundleError as error:
            raise _no_signature(error.got) from None
        return data

    def _sign(self, statement: Any) -> Any:
        return _in_time(lambda: self._signer.sign_dsse(statement))

    def _certify(self) -> None:
        from sigstore.sign import SigningContext

        def ask() -> tuple[Any, Identity]:
            context = SigningContext.from_trust_config(_trust_config(offline=False))
            with context.signer(_token()) as signer:
                return signer, identity_of(signer._signing_cert())

        self._signer, self._identity = _in_time(ask)


def prove(data: bytes, identity: Identity, where: str) -> bytes:
    """The statement in a Sigstore bundle that `identity` signed, checked by certificate and log entry.

    Raises BundleError where that cannot be proved, SettingsError where nothing can be checked here.
    """
    _check_installed()
    from sigstore.models import Bundle
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity as Policy

    verifier = Verifier(trusted_root=_trust_config(offline=True).trusted_root)
    policy = Policy(identity=identity.identity, issuer=identity.issuer)
    try:
        kind, payload = verifier.verify_dsse(Bundle.from_json(data), policy)
        if kind != PAYLOAD_TYPE:
            raise ValueError(f"a payload of type {kind}")
    # Whatever the library makes of what an attacker wrote: it is not proved.
    except Exception as error:
        raise BundleError(
            f"{where} is signed, but not so that it can be proved.",
            got=_short(error),
            expected=f"a certificate of {identity} and an entry of the log, of the Sigstore that is trusted",
            fix=f"Bring it back from the run that made it, or correct {CONFIG_ENV}.",
        ) from None
    return payload


def _check_installed() -> None:
    if not is_installed("sigstore"):
        raise SettingsError(
            "Signatures of identities need a package that is not installed.",
            got="no module sigstore",
            expected="the extra `sign`",
            fix=how_to_install("sign") + " In an image, add the package sigstore.",
        )


def _config_file() -> str:
    """The client trust config as JSON; "" for the public instance."""
    name = os.environ.get(CONFIG_ENV, "")
    if not name:
        return ""
    from sigstore.models import ClientTrustConfig

    try:
        text = Path(name).read_text(encoding="utf-8")
        config = ClientTrustConfig.from_json(text)
        _ = config.trusted_root, config.signing_config
    except Exception as error:
        raise SettingsError(
            f"{CONFIG_ENV} does not name a trust config.",
            got=f"{name}: {getattr(error, 'strerror', None) or type(error).__name__}",
            expected="a client trust config of Sigstore, as JSON",
            fix=f"Correct {CONFIG_ENV}, or unset it for the public instance.",
        ) from None
    return text


def _trust_config(offline: bool) -> Any:
    from sigstore.models import ClientTrustConfig

    if text := _config_file():
        return ClientTrustConfig.from_json(text)
    # It warns of each check that it looks for no update, which is what was asked for.
    logging.getLogger("sigstore._internal.tuf").setLevel(logging.ERROR)
    try:
        return ClientTrustConfig.production(offline=offline)
    except Exception as error:
        raise SettingsError(
            "Whom the public Sigstore trusts cannot be read.",
            got=_short(error),
            expected="a cache folder that can be written" if offline else "an answer of its server",
            fix=f"Try again, or name a trust config with {CONFIG_ENV}.",
        ) from None


def _token() -> Any:
    """An identity token. Raises SettingsError, which never shows it."""
    from sigstore.oidc import IdentityToken, detect_credential

    text, origin = os.environ.get(TOKEN_ENV, ""), TOKEN_ENV
    try:
        if not text and (origin := os.environ.get(TOKEN_FILE_ENV, "")):
            text = Path(origin).read_text(encoding="utf-8").strip()
        elif not text:
            origin, text = "the surroundings", detect_credential() or ""
    except Exception as error:
        raise _no_token(f"{origin}: {getattr(error, 'strerror', None) or type(error).__name__}") from None
    if not text:
        raise _no_token("an empty file" if os.environ.get(TOKEN_FILE_ENV) else "none")
    try:
        return IdentityToken(text)
    except Exception:
        raise _no_token(f"in {origin} {_what_is_wrong(text)}") from None


def _what_is_wrong(token: str) -> str:
    from datetime import UTC, datetime

    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        expired = float(claims["exp"]) < datetime.now(UTC).timestamp()
    except (ValueError, KeyError, TypeError, IndexError):
        return "something that is not a token"
    return "one that has expired" if expired else "one without what Sigstore needs, such as its audience"


def _no_token(got: str) -> SettingsError:
    return SettingsError(
        "There is no identity token to sign with.",
        got=got,
        expected="a token of OpenID Connect that is valid now, for the audience sigstore",
        fix=f"Set {TOKEN_ENV}, or {TOKEN_FILE_ENV} to a file that is kept fresh; in CI, let the job ask.",
    )


def _no_signature(got: str) -> SettingsError:
    return SettingsError(
        "Sigstore gave no signature.",
        got=got,
        expected="a certificate and an entry of the log",
        fix=f"Start again, which goes on from here; else correct the token, or {CONFIG_ENV}.",
    )


@contextmanager
def _refused() -> Iterator[None]:
    """What a server of Sigstore does wrong, in words without a token."""
    try:
        yield
    except SettingsError:
        raise
    # Of requests, sigstore and whatever reads a broken answer; a fault of ours would be told the same way.
    except Exception as error:
        response = getattr(error.__cause__, "response", None)
        status = getattr(response, "status_code", None)
        raise _no_signature(f"HTTP {status}" if status else _short(error)) from None


def _in_time(ask: Callable[[], T]) -> T:
    """What `ask` comes to. Raises as it does, and SettingsError after TIMEOUT_S: the library itself waits for
    ever, and reads as slowly as a server sends."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(ask())
        except BaseException as error:
            future.set_exception(error)

    # A daemon, so that a server that hangs does not keep the process.
    Thread(target=run, name="sigstore", daemon=True).start()
    try:
        return future.result(TIMEOUT_S)
    except TimeoutError:
        raise _no_signature(f"no answer within {TIMEOUT_S:g} s") from None


def _short(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_TOLD else text[:LONGEST_TOLD] + "…"
