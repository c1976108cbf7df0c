"""What people write to name a place: what can be understood, and what is wrong with the rest."""

import re
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import unquote

from defectline.components.common.errors import SettingsError
from defectline.components.common.storage.base import redact

SCHEMES = ("s3://bucket/prefix", "gs://bucket/prefix", "file:///folder", "a folder's path")
NAMES = {
    **dict.fromkeys(("s3", "s3a", "s3n", "minio", "http", "https", "arn"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gs"),
    "file": "file",
}
"""Schemes of other programs and of addresses of servers, and which of ours may be meant."""
ACCESS_POINT = re.compile(
    r"arn:aws[a-z-]*:s3[a-z-]*:[a-z0-9-]*:\d{12}:(outpost[/:][\w-]+[/:])?accesspoint[/:][A-Za-z0-9.-]+"
)
OPTIONS = {
    **dict.fromkeys(("region", "awsregion", "regionname"), "AWS_REGION"),
    **dict.fromkeys(
        ("endpoint", "endpointurl", "endpointoverride", "host", "scheme", "disablessl", "disablehttps"),
        "AWS_ENDPOINT_URL",
    ),
    **dict.fromkeys(
        ("s3forcepathstyle", "forcepathstyle", "usepathstyle", "hostnameimmutable"),
        "DEFECTLINE_S3_PATH_STYLE",
    ),
    **dict.fromkeys(("profile", "awsprofile"), "AWS_PROFILE"),
    **dict.fromkeys(
        ("accesskey", "accesskeyid", "awsaccesskeyid", "secretkey", "secretaccesskey", "awssecretaccesskey"),
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    **dict.fromkeys(("sessiontoken", "token", "awssessiontoken"), "AWS_SESSION_TOKEN"),
    **dict.fromkeys(("anonymous", "anon", "nosignrequest"), "DEFECTLINE_S3_ANONYMOUS"),
    **dict.fromkeys(("requesterpays", "requestpayer"), "DEFECTLINE_S3_REQUESTER_PAYS"),
    **dict.fromkeys(("userproject", "project"), "DEFECTLINE_GCS_USER_PROJECT"),
    **dict.fromkeys(("accessid", "privatekeypath"), "GOOGLE_APPLICATION_CREDENTIALS"),
    **dict.fromkeys(("versionid", "generation", "prefix", "tab"), ""),
}
"""What other programs and consoles put behind a question mark, and the variable that says it here."""
PRESIGNED = ("xamz", "xgoog", "signature", "expires", "googleaccessid")


class Place(NamedTuple):
    """A bucket and a prefix in it, or a folder."""

    scheme: str
    """s3, gs or file."""
    bucket: str
    path: str
    """The prefix, or the path of a folder."""


def read_uri(uri: str) -> Place:
    """What a location names.

    Raises SettingsError, whose text holds neither keys nor signatures, for one that names no place or says
    more than a place.
    """
    if not uri.strip():
        raise SettingsError(
            "A location is empty.", got=repr(uri), expected=", ".join(SCHEMES), fix="Name one of these."
        )
    if (uri != uri.strip() or any(ord(c) < 32 for c in uri)) and not _is_folder(uri):
        _refuse(
            f"The location {_shown(uri)} has spaces at its ends, or a line break.",
            f"{len(uri)} characters, of which {len(uri.strip())} lie between them",
            "Remove them: a secret or a variable that was made from a file often ends with a line break.",
        )
    scheme, colon, rest = uri.partition(":")
    name = scheme.lower()
    if not colon or (not rest.startswith("//") and (name not in NAMES or _is_folder(uri))):
        return Place("file", "", uri)
    if name == "file":
        return Place("file", "", _file_path(uri, rest))
    if name not in ("s3", "gs") or not rest.startswith("//"):
        _refuse_scheme(uri, name, rest)
    return _read_bucket(uri, name, rest.removeprefix("//"))


def _shown(uri: str) -> str:
    """The location without what may be a key: part of it may stand where a prefix does."""
    text = redact(uri)
    scheme, separator, rest = text.partition("://")
    return f"{scheme}://…" if separator and "@" in rest else text


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def _file_path(uri: str, rest: str) -> str:
    if not rest.startswith("//"):
        return unquote(rest)
    host, _, path = rest.removeprefix("//").partition("/")
    if host not in ("", "localhost"):
        raise SettingsError(
            f"{_shown(uri)} names a host.",
            got=f"host {host}",
            expected="file:///folder, with three slashes",
            fix=f"Write file:///{host}/{path}, or the folder's plain path.",
        )
    return "/" + unquote(path)


def _refuse_scheme(uri: str, name: str, rest: str) -> NoReturn:
    meant = NAMES.get(name, "")
    fix = f"Write {meant}://bucket/prefix" if meant else "Use one of these, or copy the images into a folder"
    if name in ("http", "https", "minio"):
        fix += ", and put the server's address into AWS_ENDPOINT_URL if it is not Amazon's"
    if name == "arn" and ACCESS_POINT.match(uri):
        fix = f"Write s3://{uri}"
    raise SettingsError(
        f"The scheme of {_shown(uri)} is unknown.",
        got=f"{name}:{'//' if rest.startswith('//') else ''}",
        expected=", ".join(SCHEMES),
        fix=f"{fix}.",
    )


def _read_bucket(uri: str, scheme: str, rest: str) -> Place:
    # Taken from the text, not by urlsplit: `?` and `#` are ordinary in keys.
    point = ACCESS_POINT.match(rest) if scheme == "s3" else None
    bucket = point[0] if point else re.split("[/?]", rest, maxsplit=1)[0]
    if bucket.startswith("arn:") and not point:
        meant = re.fullmatch("arn:aws[a-z-]*:s3:::(.+)", rest)
        fix = f"Write s3://{meant[1] if meant else 'bucket/prefix'}, or the ARN of an access point."
        _refuse(f"{_shown(uri)} names neither a bucket nor an access point.", bucket, fix)
    if not point and not {"@", ":"}.isdisjoint(bucket):
        # What stands there may be a key, and a part of it in the prefix.
        _refuse(
            f"A location with {scheme}:// has more than a bucket's name.",
            "a user, key or port before the first slash, which are not shown here",
            f"Write {scheme}://bucket/prefix; keys belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "the address of another server into AWS_ENDPOINT_URL.",
        )
    if options := _options(rest):
        _refuse_options(uri, scheme, options)
    if not bucket:
        _refuse(f"{uri} names no bucket.", uri, "Put the bucket's name after the two slashes.")
    if "\\" in rest:
        _refuse(f"{uri} has a backslash.", uri, f"Write {uri.replace(chr(92), '/')}")
    path = rest[len(bucket) :].removeprefix("/")
    if path.startswith("/"):
        fix = f"Write {scheme}://{bucket}/{path.lstrip('/')}"
        _refuse(f"{uri} has two slashes after the bucket's name.", uri, fix)
    return Place(scheme, bucket, path)


def _options(rest: str) -> list[str]:
    """The names before `=` behind a question mark, where one of them is an option of another program."""
    _, mark, query = rest.partition("?")
    names = [pair.partition("=")[0] for pair in query.split("&") if "=" in pair] if mark else []
    return names if any(_plain(name) in OPTIONS or _signs(name) for name in names) else []


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _signs(name: str) -> bool:
    return _plain(name).startswith(PRESIGNED)


def _refuse_options(uri: str, scheme: str, options: list[str]) -> NoReturn:
    variables = dict.fromkeys(OPTIONS.get(_plain(name), "") for name in options)
    named = ", ".join(name for name in variables if name)
    fix = "Remove it" + (f", and set {named} instead." if named else ".")
    raise SettingsError(
        f"{_shown(uri)} has a query.",
        got="?" + "&".join(f"{name}=…" for name in options),
        expected=f"{scheme}://bucket/prefix, and settings in the environment",
        fix=fix,
    )


def _refuse(what: str, got: str, fix: str) -> NoReturn:
    raise SettingsError(what, got=got, expected=", ".join(SCHEMES), fix=fix)
