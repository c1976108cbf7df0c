"""The client of botocore as the environment asks for it, and what in the environment looks wrong."""

import os
from typing import Any

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.parsers import ResponseParserFactory, RestXMLParser

from defectline.components.common.storage.flags import flag

PAYER = "x-amz-request-payer"
FILES = {
    "shared-credentials-file": "the file ~/.aws/credentials",
    "config-file": "the file ~/.aws/config",
    "custom-process": "the program that AWS_PROFILE names",
}
"""Where botocore found keys: how it calls the place, and what people call it."""


class Parser(RestXMLParser):
    """botocore's, which takes four times as long for the objects of a listing."""

    def _handle_structure(self, shape: Any, node: Any) -> Any:
        if shape.name != "Object":
            return super()._handle_structure(shape, node)
        found = {child.tag.rpartition("}")[2]: child.text or "" for child in node}
        # Dates stay as they are written: nearly none is needed.
        return {**{name: found[name] for name in ("Key", "ETag", "LastModified")}, "Size": int(found["Size"])}


class ParserFactory(ResponseParserFactory):
    def create_parser(self, protocol_name: str) -> Any:
        return (
            Parser(timestamp_parser=str)
            if protocol_name == "rest-xml"
            else super().create_parser(protocol_name)
        )


class S3Client:
    """A client for S3 and the keys that it signs with."""

    def __init__(self, connect_s: float, read_s: float, attempts: int, connections: int):
        """Raises ValueError for an endpoint that is not a URL, botocore's errors, and SettingsError."""
        core = botocore.session.get_session()
        core.register_component("response_parser_factory", ParserFactory())
        style = {True: "path", False: "virtual", None: "auto"}[flag("DEFECTLINE_S3_PATH_STYLE")]
        anonymous = flag("DEFECTLINE_S3_ANONYMOUS")
        config = Config(
            connect_timeout=connect_s,
            read_timeout=read_s,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=connections,
            s3={"addressing_style": style},
            signature_version=UNSIGNED if anonymous else None,
        )
        region = os.environ.get("AWS_REGION") or core.get_config_variable("region") or "us-east-1"
        self._keys = None if anonymous else core.get_credentials()
        self.boto: Any = core.create_client("s3", region_name=region, config=config)
        if flag("DEFECTLINE_S3_REQUESTER_PAYS"):
            self.boto.meta.events.register("before-sign.s3", _pay)

    @property
    def endpoint(self) -> str:
        return self.boto.meta.endpoint_url

    def secrets(self) -> list[str]:
        """What no message may show."""
        # Keys that are renewed come from a server, and asking for them here might take long.
        keys = self._keys if type(self._keys) is Credentials else None
        return [text for text in (keys.secret_key, keys.token) if text] if keys else []

    def oddities(self) -> list[str]:
        """What looks wrong with keys that do not stand in variables, a sentence each."""
        keys = self._keys if type(self._keys) is Credentials else None
        if keys is None or keys.method == "env":
            return []
        where = FILES.get(keys.method, "the settings of botocore")
        named = {"access key": keys.access_key, "secret key": keys.secret_key, "session token": keys.token}
        return [
            f"The {name} in {where} {how}: correct it."
            for name, text in named.items()
            if (how := oddity(text))
        ]


def _pay(request: Any, **_: object) -> None:
    request.headers[PAYER] = "requester"


def odd_variables() -> list[str]:
    """What looks wrong with the variables AWS_*, a sentence each."""
    return [
        f"{name} {how}: correct it."
        for name, value in sorted(os.environ.items())
        if name.startswith("AWS_") and (how := oddity(value))
    ]


def oddity(value: str | None) -> str:
    """What is odd about a key as people copy it, in a few words; empty where nothing is.

    >>> oddity("AKIA\\n"), oddity('"AKIA"'), oddity("AKIA")
    ('ends with a line break', 'stands in quotes', '')
    """
    if not value:
        return ""
    for end, says in ((value[-1], "ends"), (value[0], "begins")):
        if end in "\r\n":
            return f"{says} with a line break"
        if end.isspace():
            return f"{says} with a space"
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'`":
        return "stands in quotes"
    if value[0] in "\"'`" or value[-1] in "\"'`":
        return "has a quote at one of its ends"
    if any(ord(c) < 32 for c in value):
        return "has a line break or another control character in it"
    if value[0] in "\ufeff\u200b" or value[-1] in "\ufeff\u200b":
        return "has an invisible character at one of its ends"
    return ""
