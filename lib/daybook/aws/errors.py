"""Failed calls to AWS as AwsFailed, with the next action for the operator.

`aws.client` wraps every client: a call that AWS refuses, or that gets no usable answer, raises
AwsFailed. The error is also an instance of botocore's class, so that callers can catch
`client.exceptions.NoSuchKey` or ClientError, and read its `response`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions as botocore
from botocore.response import StreamingBody

from daybook.errors import NOTHING_CHANGED, AwsFailed, DaybookError, one_line
from daybook.target import Target

SIGN_IN = "sign in again (aws sso login, or new credentials)"
SIGN_IN_CODES = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestExpired",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
"""Codes for credentials that AWS does not accept, or no longer accepts."""
_WORD = re.compile(r"\w+")
_CLOCK_CODES = ("RequestTimeTooSkewed", "RequestInTheFuture")
_SIGNATURE_CODES = ("InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired")
"""Codes that may also mean a wrong local clock; the answer contains the correct time."""
_DENIED_CODES = ("403", "AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
_SLOW_CODES = (
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
)
_SKEW_S = 240
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
_NO_CREDENTIALS = (
    botocore.NoCredentialsError,
    botocore.PartialCredentialsError,
    botocore.CredentialRetrievalError,
    botocore.TokenRetrievalError,
    botocore.SSOError,
    botocore.NoAuthTokenError,
    botocore.ProfileNotFound,
    botocore.RefreshWithMFAUnsupportedError,
)
_UNREACHABLE = (botocore.HTTPClientError, botocore.ConnectionError)
_CUT = (botocore.IncompleteReadError, botocore.ResponseStreamingError)
_OF_BOTOCORE = (botocore.BotoCoreError, botocore.ClientError)
_READS = ("Get", "List", "Describe", "Head", "BatchGet")


def sign_in(lines: Iterable[str]) -> str:
    """Return the first action for a tool's output that contains one of SIGN_IN_CODES, else ""."""
    words = {word for line in lines for word in _WORD.findall(line)}
    return f"{SIGN_IN}, then " if words & SIGN_IN_CODES else ""


class Answer(dict):
    """An answer from AWS; a missing key raises AwsFailed instead of KeyError."""

    def __init__(self, answer: Mapping[str, Any], call: str) -> None:
        super().__init__(answer)
        self._call = call

    def __missing__(self, key: str) -> Any:
        raise _incomplete(self._call, f"no {key}")


def wrap_client(
    base_classes: list[type], class_attributes: dict[str, Any], *, target: Target, **_: Any
) -> None:
    """Make a client's calls raise AwsFailed; a handler for botocore's event creating-client-class.

    https://docs.aws.amazon.com/boto3/latest/guide/events.html
    """

    class Wrapped:
        def _make_api_call(self, operation_name: str, api_params: dict[str, Any]) -> Answer:
            call = f"{self.meta.service_model.service_name}:{operation_name}"
            with explained(call, target):
                try:
                    answer = super()._make_api_call(operation_name, api_params)
                except botocore.ClientError as err:
                    _require_aws(err.response, call)
                    raise
                _require_aws(answer, call)
                return Answer(_read(answer), call)

    base_classes.insert(0, Wrapped)


@contextmanager
def explained(call: str, target: Target) -> Iterator[None]:
    """Convert any exception of a call to AWS into AwsFailed; parsers raise many classes."""
    try:
        yield
    except DaybookError:
        raise
    except Exception as err:
        raise failure(err, call, target) from err


def time_of(answer: Mapping[str, Any], call: str) -> datetime:
    """Return AWS's time from an answer; AwsFailed if a proxy removed it."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        return utc(parsedate_to_datetime(date))
    except (ValueError, TypeError, OverflowError) as err:
        raise _incomplete(call, "no date") from err


def utc(moment: datetime) -> datetime:
    """Return a time from AWS in UTC, clamped to years that support arithmetic."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(aware, _FIRST), _LAST).astimezone(UTC)


def _read(answer: dict[str, Any]) -> dict[str, Any]:
    """Read the whole body, so that a truncated one fails the call."""
    if isinstance(body := answer.get("Body"), StreamingBody):
        content = body.read()
        return answer | {"Body": StreamingBody(io.BytesIO(content), len(content))}
    return answer


def _require_aws(answer: Mapping[str, Any], call: str) -> None:
    """Raise AwsFailed for an answer without a request id, which every answer from AWS has."""
    metadata = answer.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    ids = (metadata.get("RequestId"), *map(headers.get, ("x-amzn-requestid", "x-amz-request-id")))
    if not any(ids):
        kind = headers.get("content-type", "no content type")
        raise _incomplete(
            call, f"HTTP {metadata.get('HTTPStatusCode')}, {one_line(kind, 60)}, no request id"
        )


def _incomplete(call: str, observed: str) -> AwsFailed:
    return AwsFailed(
        f"{call} got an answer that does not come from AWS.",
        expected="an answer from the AWS API",
        observed=observed,
        changed=_changed(call),
        next="open a web page to check for a captive portal or proxy that answers instead of AWS; "
        "then run the same command again",
    )


def failure(err: Exception, call: str, target: Target) -> AwsFailed:
    """Return AwsFailed for an exception; the error is also an instance of botocore's class."""
    if isinstance(err, AwsFailed):
        return err
    response = getattr(err, "response", None) or getattr(err, "last_response", None)
    response = response if isinstance(response, dict) else {}
    if not isinstance(response.get("Error"), dict):
        response["Error"] = {}
    code = response["Error"]["Code"] = str(response["Error"].get("Code") or "")
    message, expected, next_action = _explanation(err, code, response, call, target)
    error = _class_of(type(err))(
        message,
        expected=expected,
        observed=_observed(err, code, response),
        changed=_changed(call, is_refused=code and _status(response) < 500),
        next=next_action,
    )
    error.__dict__ = err.__dict__ | error.__dict__
    return error


def _explanation(
    err: Exception, code: str, response: Mapping[str, Any], call: str, target: Target
) -> tuple[str, str, str]:
    """Return message, expected state and next action for a failure."""
    again = ", then run the same command again"
    restart = "daybook sandbox down && daybook sandbox up"
    skew_s = _skew_s(response)
    if code in _CLOCK_CODES or (code in _SIGNATURE_CODES and abs(skew_s) > _SKEW_S):
        return (
            f"AWS refused {call}: this computer's clock is wrong.",
            f"a clock within {_SKEW_S // 60} minutes of AWS's",
            f"set the clock: timedatectl set-ntp true{again}",
        )
    if code in SIGN_IN_CODES or code in _SIGNATURE_CODES or isinstance(err, _NO_CREDENTIALS):
        return (
            f"AWS does not accept the credentials for {call}.",
            "credentials that are valid and have not expired",
            f"{restart if target.is_sandbox else SIGN_IN}{again}",
        )
    if code in _DENIED_CODES:
        return (
            f"AWS denied {call}.",
            f"the permission {call} for the caller",
            f"get the permission granted, or sign in with an identity that has it{again}",
        )
    if code in _SLOW_CODES or _status(response) == 429:
        return f"AWS throttled {call}.", "fewer requests", f"wait a few minutes{again}"
    if _status(response) >= 500:
        health = "see https://health.aws.amazon.com/health/status"
        return f"AWS failed to process {call}.", "an answer", f"{health}{again}"
    if isinstance(err, _CUT):
        return (
            f"The answer to {call} was cut off.",
            "a complete answer",
            f"check the network{again}",
        )
    if isinstance(err, _UNREACHABLE):
        network = "check the network, the proxy and the VPN"
        sandbox = "if daybook sandbox status reports that it is down: daybook sandbox up"
        return (
            f"AWS cannot be reached for {call}.",
            "an answer",
            f"{sandbox if target.is_sandbox else network}{again}",
        )
    if isinstance(err, botocore.WaiterError):
        return f"AWS: {call} failed.", "that state", f"inspect it in the AWS console{again}"
    if not isinstance(err, (*_OF_BOTOCORE, OSError)):
        unreadable = _incomplete(call, "")
        return unreadable.message, unreadable.expected, unreadable.next
    if isinstance(err, botocore.ClientError):
        return f"AWS refused {call}.", "success", f"correct the cause that AWS reports{again}"
    configuration = f"correct ~/.aws/config, AWS_PROFILE and AWS_* variables, or {SIGN_IN}"
    return f"{call} was not sent.", "a usable configuration", f"{configuration}{again}"


def _observed(err: Exception, code: str, response: Mapping[str, Any]) -> str:
    """Return code and message of an answer, without messages that repeat our own parameters."""
    if code:
        skew_s = _skew_s(response)
        clock = f" (this computer's clock is {skew_s:+.0f} s off)" if abs(skew_s) > _SKEW_S else ""
        return one_line(f"{code}: {response['Error'].get('Message') or 'no message'}") + clock
    if isinstance(err, botocore.ParamValidationError):
        return type(err).__name__
    return one_line(f"{type(err).__name__}: {err}")


def _changed(call: str, *, is_refused: object = False) -> str:
    """Return NOTHING_CHANGED if that is certain: the call only reads, or AWS refused it."""
    is_read = call.rpartition(":")[2].startswith(_READS) or ":" not in call
    if is_read or is_refused:
        return NOTHING_CHANGED
    return f"It is unknown whether {call} took effect."


def _status(response: Mapping[str, Any]) -> int:
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0


def _skew_s(response: Mapping[str, Any]) -> float:
    """Return how far this computer's clock is ahead of the answer's, in seconds; 0 if unknown."""
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return (datetime.now(UTC) - utc(parsedate_to_datetime(date))).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _class_of(cls: type[Exception]) -> type[AwsFailed]:
    """Return a subclass of AwsFailed and this class; its name selects the exit code."""
    if cls not in _CLASSES:
        bases = (AwsFailed, cls) if issubclass(cls, _OF_BOTOCORE) else (AwsFailed,)
        _CLASSES[cls] = type(AwsFailed.__name__, bases, {})
    return _CLASSES[cls]


_CLASSES: dict[type[Exception], type[AwsFailed]] = {}
