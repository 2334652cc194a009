"""What may go wrong between here and AWS, as errors that say what to do next.

Every client that aws.py makes is sheltered: a call that AWS refuses, or that gets no answer which
can be used, raises AwsFailed. It is also of the class that botocore has for it, so that callers
go on matching `client.exceptions.NoSuchKey`, ClientError, and its `response`.
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
"""How AWS says that it does not take these credentials, or not any more."""
_WORD = re.compile(r"\w+")
_CLOCK_CODES = ("RequestTimeTooSkewed", "RequestInTheFuture")
_SIGNATURE_CODES = ("InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired")
"""What AWS also says when the clock here is wrong: its own answer has the right time."""
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
_NOT_REACHED = (botocore.HTTPClientError, botocore.ConnectionError)
_CUT = (botocore.IncompleteReadError, botocore.ResponseStreamingError)
_OF_BOTOCORE = (botocore.BotoCoreError, botocore.ClientError)
_READS = ("Get", "List", "Describe", "Head", "BatchGet")


def sign_in(lines: Iterable[str]) -> str:
    """Return what to do first where a tool's output has one of SIGN_IN_CODES, else ""."""
    words = {word for line in lines for word in _WORD.findall(line)}
    return f"{SIGN_IN}, then " if words & SIGN_IN_CODES else ""


class Answer(dict):
    """What AWS answered; a part that is missing is AWS's failure, not a KeyError."""

    def __init__(self, answer: Mapping[str, Any], call: str) -> None:
        super().__init__(answer)
        self._call = call

    def __missing__(self, key: str) -> Any:
        raise _incomplete(self._call, f"no {key}")


def shelter(
    base_classes: list[type], class_attributes: dict[str, Any], *, target: Target, **_: Any
) -> None:
    """Have a client's calls raise AwsFailed; botocore's event creating-client-class calls this.

    https://docs.aws.amazon.com/boto3/latest/guide/events.html
    """

    class Sheltered:
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

    base_classes.insert(0, Sheltered)


@contextmanager
def explained(call: str, target: Target) -> Iterator[None]:
    """Turn whatever a call to AWS raises into AwsFailed: of any class, as parsers fail in many."""
    try:
        yield
    except DaybookError:
        raise
    except Exception as err:
        raise failure(err, call, target) from err


def time_of(answer: Mapping[str, Any], call: str) -> datetime:
    """Return AWS's own time from an answer; AwsFailed where a proxy has removed it."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        return utc(parsedate_to_datetime(date))
    except (ValueError, TypeError, OverflowError) as err:
        raise _incomplete(call, "no date") from err


def utc(moment: datetime) -> datetime:
    """Return a time of AWS's in UTC, within years that can be reckoned with."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(aware, _FIRST), _LAST).astimezone(UTC)


def _read(answer: dict[str, Any]) -> dict[str, Any]:
    """Read a body whole: one that is cut in the middle is the call's failure."""
    if isinstance(body := answer.get("Body"), StreamingBody):
        content = body.read()
        return answer | {"Body": StreamingBody(io.BytesIO(content), len(content))}
    return answer


def _require_aws(answer: Mapping[str, Any], call: str) -> None:
    """Refuse what does not come from AWS, whose every answer carries the request's id."""
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
        f"{call} got an answer that is not AWS's.",
        expected="an answer of AWS's API",
        observed=observed,
        changed=_changed(call),
        next="open a web page: a captive portal or a proxy may answer instead of AWS; "
        "then run the same command again",
    )


def failure(err: Exception, call: str, target: Target) -> AwsFailed:
    """Return AwsFailed for an error of botocore's, which it is an instance of as well."""
    if isinstance(err, AwsFailed):
        return err
    response = getattr(err, "response", None) or getattr(err, "last_response", None)
    response = response if isinstance(response, dict) else {}
    if not isinstance(response.get("Error"), dict):
        response["Error"] = {}
    code = response["Error"]["Code"] = str(response["Error"].get("Code") or "")
    message, expected, following = _told(err, code, response, call, target)
    error = _class_of(type(err))(
        message,
        expected=expected,
        observed=_observed(err, code, response),
        changed=_changed(call, is_refused=code and _status(response) < 500),
        next=following,
    )
    error.__dict__ = err.__dict__ | error.__dict__
    return error


def _told(
    err: Exception, code: str, response: Mapping[str, Any], call: str, target: Target
) -> tuple[str, str, str]:
    """Return message, what was expected, and the next action, by the kind of failure."""
    again = ", then run the same command again"
    up_again = "daybook sandbox down && daybook sandbox up"
    skew_s = _skew_s(response)
    if code in _CLOCK_CODES or (code in _SIGNATURE_CODES and abs(skew_s) > _SKEW_S):
        return (
            f"AWS refused {call}: the clock of this computer is wrong.",
            f"a clock within {_SKEW_S // 60} minutes of AWS's",
            f"set the clock: timedatectl set-ntp true{again}",
        )
    if code in SIGN_IN_CODES or code in _SIGNATURE_CODES or isinstance(err, _NO_CREDENTIALS):
        return (
            f"AWS does not accept the credentials for {call}.",
            "credentials that are valid and have not expired",
            f"{up_again if target.is_sandbox else SIGN_IN}{again}",
        )
    if code in _DENIED_CODES:
        return (
            f"AWS denied {call}.",
            f"the permission {call} for who is signed in",
            f"have the permission granted, or sign in as somebody who has it{again}",
        )
    if code in _SLOW_CODES or _status(response) == 429:
        return f"AWS throttled {call}.", "fewer requests", f"wait a few minutes{again}"
    if _status(response) >= 500:
        health = "see https://health.aws.amazon.com/health/status"
        return f"AWS failed at {call}.", "an answer", f"{health}{again}"
    if isinstance(err, _CUT):
        return f"The answer to {call} was cut off.", "a whole answer", f"check the network{again}"
    if isinstance(err, _NOT_REACHED):
        network = "check the network, the proxy and the VPN"
        following = "daybook sandbox up, if daybook sandbox status says that it is down"
        return (
            f"AWS cannot be reached for {call}.",
            "an answer",
            f"{following if target.is_sandbox else network}{again}",
        )
    if isinstance(err, botocore.WaiterError):
        return f"AWS: {call} failed.", "that state", f"look at it in AWS's console{again}"
    if not isinstance(err, (*_OF_BOTOCORE, OSError)):
        unreadable = _incomplete(call, "")
        return unreadable.message, unreadable.expected, unreadable.next
    if isinstance(err, botocore.ClientError):
        return f"AWS refused {call}.", "success", f"correct what AWS complains about{again}"
    configuration = f"correct ~/.aws/config, AWS_PROFILE and AWS_* variables, or {SIGN_IN}"
    return f"{call} could not be called.", "a usable configuration", f"{configuration}{again}"


def _observed(err: Exception, code: str, response: Mapping[str, Any]) -> str:
    """Return code and message of an answer; what only repeats our own parameters is left out."""
    if code:
        skew_s = _skew_s(response)
        clock = f" (this computer's clock is {skew_s:+.0f} s off)" if abs(skew_s) > _SKEW_S else ""
        return one_line(f"{code}: {response['Error'].get('Message') or 'no message'}") + clock
    if isinstance(err, botocore.ParamValidationError):
        return type(err).__name__
    return one_line(f"{type(err).__name__}: {err}")


def _changed(call: str, *, is_refused: object = False) -> str:
    """Say that nothing was changed where that is certain: nothing was asked for, or refused."""
    is_read = call.rpartition(":")[2].startswith(_READS) or ":" not in call
    if is_read or is_refused:
        return NOTHING_CHANGED
    return f"Whether {call} took effect is not known."


def _status(response: Mapping[str, Any]) -> int:
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0


def _skew_s(response: Mapping[str, Any]) -> float:
    """Return how far this computer's clock is ahead of the one of an answer; 0 if unknown."""
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return (datetime.now(UTC) - utc(parsedate_to_datetime(date))).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _class_of(cls: type[Exception]) -> type[AwsFailed]:
    """Return the class that is AwsFailed and also this one; its name is what exit codes go by."""
    if cls not in _CLASSES:
        bases = (AwsFailed, cls) if issubclass(cls, _OF_BOTOCORE) else (AwsFailed,)
        _CLASSES[cls] = type(AwsFailed.__name__, bases, {})
    return _CLASSES[cls]


_CLASSES: dict[type[Exception], type[AwsFailed]] = {}
