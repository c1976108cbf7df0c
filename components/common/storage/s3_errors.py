"""What S3 servers answer with: what to do about it, and what passes by itself."""

import re

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from defectline.components.common.errors import Corrupt

BROKEN_STREAM = (boto.IncompleteReadError, boto.ReadTimeoutError, boto.ResponseStreamingError, Corrupt)
NO_ANSWER = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.CredentialRetrievalError,
)
TOO_MANY = (
    *("BandwidthLimitExceeded", "LimitExceededException", "PriorRequestNotComplete", "RequestLimitExceeded"),
    *("RequestThrottled", "RequestThrottledException", "RequestTimeout", "RequestTimeoutException"),
    *("SlowDown", "ThrottledException", "Throttling", "ThrottlingException", "TooManyRequestsException"),
)
"""Codes of servers that want to be asked later, whatever the status that they come with."""
FAILURES = (boto.ClientError, boto.BotoCoreError, ResponseParserError)
ENDPOINT = (
    "the URL of an S3 server that answers",
    "Check AWS_ENDPOINT_URL for a typing error (http or https, host, port), and that the server runs.",
)
CREDENTIALS = (
    "an access key and its secret key",
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or DEFECTLINE_S3_ANONYMOUS=1 for a "
    "public bucket.",
)
UNSENDABLE = (
    "an access key and a session token that fit into the header of a request",
    "Set AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN and AWS_REGION without line breaks; printf writes none.",
)
EXPIRED = ("a session token that is still valid", "Sign in again and renew the credentials.")
DENIED = (
    "a key that may list, read, write and delete here",
    "Ask the owner of the bucket, or of the access point, for these rights, or use another key. Where the "
    "requester pays, set DEFECTLINE_S3_REQUESTER_PAYS=1.",
)
PAYER = (
    "a requester who agrees to pay",
    "Set DEFECTLINE_S3_REQUESTER_PAYS=1, and the owner of the keys pays.",
)
KMS = (
    "a KMS key that is enabled, and that these credentials may use (kms:Decrypt, kms:GenerateDataKey)",
    "Enable the KMS key, ask its owner for these rights, or store the objects again under another key.",
)
CUSTOMER_KEY = (
    "an object that the server can decrypt by itself",
    "Store the object again without a key of your own (SSE-C): SSE-S3 and SSE-KMS can be read.",
)
WEB_PAGE = (
    "an answer of the S3 server",
    "A proxy, a firewall or another server answered in its place: check HTTPS_PROXY, HTTP_PROXY, NO_PROXY, "
    "what the proxy forbids, and AWS_ENDPOINT_URL (the port of a console is not that of the server).",
)
PROXY = (
    "a proxy that lets requests through",
    "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY: address, port, user and password.",
)
ACCESS_POINT = (
    "the ARN or alias of an access point in one region",
    "Check the ARN, its account and its region; of one for several regions name that of a single region.",
)
REGION = ("the region in which the bucket lies", "Set AWS_REGION to it.")
BUSY = (
    "an answer without an error of the server",
    "Try again later; if it lasts, look at the log of the server or of a proxy before it.",
)

BY_CODE = {
    "NoSuchBucket": (
        "a bucket that exists",
        "Check the bucket's name and AWS_ENDPOINT_URL, or create the bucket.",
    ),
    "InvalidBucketName": ("a bucket's name", "Correct the bucket's name."),
    "InvalidAccessKeyId": (
        "an access key that the server knows",
        "Check AWS_ACCESS_KEY_ID, or the profile that AWS_PROFILE names.",
    ),
    "SignatureDoesNotMatch": (
        "the secret key that belongs to the access key",
        "Check AWS_SECRET_ACCESS_KEY for a typing error or a missing character.",
    ),
    "ExpiredToken": EXPIRED,
    "InvalidToken": EXPIRED,
    "TokenRefreshRequired": EXPIRED,
    "RequestTimeTooSkewed": ("a clock that is right to 15 minutes", "Set this machine's clock."),
    "AuthorizationHeaderMalformed": REGION,
    "PermanentRedirect": REGION,
    "InvalidObjectState": ("an object that can be read at once", "Restore the object from its archive."),
    "XMinioStorageFull": ("free space on the server", "Free some space there, or use another store."),
    "QuotaExceeded": ("free space in the quota", "Free some space there, or ask for a larger quota."),
    "NoSuchAccessPoint": ACCESS_POINT,
    "NotImplemented": (
        "a server that knows conditional writes (If-Match, If-None-Match)",
        "Use a newer version of the server, or another store.",
    ),
}
BY_MESSAGE = [
    (re.compile(r"requester.?pays|request.?payer", re.IGNORECASE), PAYER),
    (re.compile(r"\bKMS\b|\bkms:"), KMS),
    (
        re.compile(r"stored using a form of server side encryption|SSE-?C\b|sse.?customer", re.IGNORECASE),
        CUSTOMER_KEY,
    ),
]
"""Looked for in code and message, where the code alone says too little."""
WITHHELD = ("AccessDenied", "InvalidObjectState")
BY_CLASS: list[tuple[type[Exception], tuple[str, str]]] = [
    (boto.NoCredentialsError, CREDENTIALS),
    (boto.PartialCredentialsError, CREDENTIALS),
    (boto.ProfileNotFound, ("a profile of ~/.aws/config", "Correct AWS_PROFILE.")),
    (
        boto.SSLError,
        (
            "a certificate that this machine trusts",
            "Set AWS_CA_BUNDLE to the server's CA file, or write http:// if it has no certificate.",
        ),
    ),
    (boto.ProxyConnectionError, PROXY),
    (boto.UnsupportedS3ArnError, ACCESS_POINT),
    (boto.UnsupportedS3AccesspointConfigurationError, ACCESS_POINT),
    (boto.UnsupportedS3ConfigurationError, ACCESS_POINT),
    (boto.MissingDependencyException, ACCESS_POINT),
    (boto.ParamValidationError, ("valid names", "Correct the bucket or the key.")),
    (ResponseParserError, WEB_PAGE),
    (boto.ConnectionError, ENDPOINT),
    (boto.HTTPClientError, ENDPOINT),
]
OTHER = ("settings that botocore accepts", "Check the variables AWS_* and the files in ~/.aws.")


def remedy(error: Exception) -> tuple[str, str]:
    """What was expected, and how to fix it."""
    if _is_unsendable(error):
        return UNSENDABLE
    if not isinstance(error, boto.ClientError):
        return next((remedy for kind, remedy in BY_CLASS if isinstance(error, kind)), OTHER)
    if busy(error):
        return BY_CODE.get(code(error), BUSY)
    if by_message := _by_message(error):
        return by_message
    if _is_web_page(error):
        return WEB_PAGE
    return BY_CODE.get(code(error)) or (DENIED if status(error) == 403 else ENDPOINT)


def _is_unsendable(error: Exception) -> bool:
    return isinstance(error, boto.HTTPClientError) and "header value" in str(error)


def _by_message(error: boto.ClientError) -> tuple[str, str] | None:
    text = f"{code(error)} {error.response['Error'].get('Message', '')}"
    return next((remedy for pattern, remedy in BY_MESSAGE if pattern.search(text)), None)


def _is_web_page(error: boto.ClientError) -> bool:
    """Whether the answer is not in S3's words, which those to HEAD never are."""
    return not code(error).strip("0123456789") and error.operation_name != "HeadObject"


def answered_by(error: Exception) -> str:
    """Who answered in place of the server, where that can be told."""
    if not isinstance(error, boto.ClientError) or not _is_web_page(error):
        return ""
    headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
    names = [headers[name] for name in ("via", "server") if headers.get(name)]
    return f", answered by {', '.join(names)}" if names else ""


def withheld(error: Exception) -> bool:
    """Whether the server does not give out this object, and may give out others."""
    if not isinstance(error, boto.ClientError) or busy(error):
        return False
    return code(error) in WITHHELD or _by_message(error) in (KMS, CUSTOMER_KEY)


def busy(error: boto.ClientError) -> bool:
    return status(error) >= 500 or status(error) == 429 or code(error) in TOO_MANY


def passes(error: Exception) -> bool:
    """Whether the same request may go well a little later."""
    if isinstance(error, boto.ClientError):
        return busy(error)
    untrusted = isinstance(error, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error)
    lasting = untrusted or _is_unsendable(error)
    return isinstance(error, (*BROKEN_STREAM, *NO_ANSWER)) and not lasting


def code(error: boto.ClientError) -> str:
    return error.response["Error"].get("Code", "")


def status(error: boto.ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]
