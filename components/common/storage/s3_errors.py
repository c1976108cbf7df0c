"""What S3 servers answer with: what to do about it, and what passes by itself."""

from boto3.exceptions import RetriesExceededError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from defectline.components.common.errors import Corrupt

BROKEN_STREAM = (boto.IncompleteReadError, boto.ReadTimeoutError, boto.ResponseStreamingError, Corrupt)
NO_ANSWER = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.CredentialRetrievalError,
    RetriesExceededError,
)
TOO_MANY = (
    *("BandwidthLimitExceeded", "LimitExceededException", "PriorRequestNotComplete", "RequestLimitExceeded"),
    *("RequestThrottled", "RequestThrottledException", "RequestTimeout", "RequestTimeoutException"),
    *("SlowDown", "ThrottledException", "Throttling", "ThrottlingException", "TooManyRequestsException"),
)
"""Codes of servers that want to be asked later, whatever the status that they come with."""
ENDPOINT = (
    "the URL of an S3 server that answers",
    "Check AWS_ENDPOINT_URL for a typing error (http or https, host, port), and that the server runs.",
)
CREDENTIALS = (
    "an access key and its secret key",
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or DEFECTLINE_S3_ANONYMOUS=1 for a "
    "public bucket.",
)
EXPIRED = ("a session token that is still valid", "Sign in again and renew the credentials.")
DENIED = (
    "a key that may list, read, write and delete here",
    "Ask the owner of the bucket for these rights, or use another key.",
)
REGION = ("the region in which the bucket lies", "Set AWS_REGION to it.")
BUSY = ("an answer without an error of the server", "Try again later; if it lasts, look at the server's log.")

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
    "NotImplemented": (
        "a server that knows conditional writes (If-Match, If-None-Match)",
        "Use a newer version of the server, or another store.",
    ),
}
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
    (boto.ParamValidationError, ("valid names", "Correct the bucket or the key.")),
    (ResponseParserError, ENDPOINT),
    (boto.ConnectionError, ENDPOINT),
    (boto.HTTPClientError, ENDPOINT),
    (RetriesExceededError, ENDPOINT),
]
OTHER = ("settings that boto3 accepts", "Check the variables AWS_* and the files in ~/.aws.")


def remedy(error: Exception) -> tuple[str, str]:
    """What was expected, and how to fix it."""
    if isinstance(error, boto.ClientError):
        by_status = BUSY if busy(error) else DENIED if status(error) == 403 else ENDPOINT
        return BY_CODE.get(code(error)) or by_status
    return next((remedy for kind, remedy in BY_CLASS if isinstance(error, kind)), OTHER)


def busy(error: boto.ClientError) -> bool:
    return status(error) >= 500 or status(error) == 429 or code(error) in TOO_MANY


def passes(error: Exception) -> bool:
    """Whether the same request may go well a little later."""
    if isinstance(error, boto.ClientError):
        return busy(error)
    untrusted = isinstance(error, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error)
    return isinstance(error, (*BROKEN_STREAM, *NO_ANSWER)) and not untrusted


def code(error: boto.ClientError) -> str:
    return error.response["Error"].get("Code", "")


def status(error: boto.ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]
