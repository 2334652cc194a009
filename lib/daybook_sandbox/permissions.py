"""IAM enforcement for hosts and workflows: calls that their role does not allow are refused.

Callers with the target's keys are administrators of the account; all their calls are allowed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.sax.saxutils import escape

from moto.backends import get_backend
from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import AccessDeniedError, JsonRESTError
from moto.s3.exceptions import S3AccessDeniedError

from daybook_sandbox import calls, webidentity
from daybook_sandbox.simulator import ALLOWED, Call, decide, policies_of

ALWAYS = "sts:GetCallerIdentity"
# The permissions without which a host's Systems Manager agent cannot be reached.
AGENT = ("ssm:UpdateInstanceInformation", "ssmmessages:OpenControlChannel")


class AccessDenied(AccessDeniedError):
    """A refusal in the XML of the query, rest-xml or ec2 protocol."""

    def __init__(self, service: str, user_arn: str, call: str) -> None:
        super().__init__(user_arn, call)
        message = escape(self.message)
        if service == "ec2":
            self.error_type = "UnauthorizedOperation"
            message = f"You are not authorized to perform this operation. {message}"
        error = f"<Code>{self.error_type}</Code><Message>{message}</Message>"
        self.description = (
            f"<Response><Errors><Error>{error}</Error></Errors><RequestID>1</RequestID></Response>"
            if service == "ec2"
            else f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error></ErrorResponse>"
        )


def patch() -> None:
    """Authorize each API call; a second call changes nothing."""
    ActionAuthenticatorMixin._authenticate_and_authorize_action = _authorize


def allows(iam: Any, role: Any, call: Call) -> bool:
    """Return True if a role's policies and permissions boundary allow a call."""
    return decide(*policies_of(iam, role), call) == ALLOWED


def denied_call(account: str, access_key: str, required: Iterable[Call]) -> tuple[str, Call] | None:
    """Return the session's ARN and its first denied call; None if all are allowed."""
    session = _session(account, access_key)
    if session is None:
        return None
    iam = get_backend("iam")[account]["aws"]
    role = iam.get_role_by_arn(session.role_arn)
    denied = next((call for call in required if not allows(iam, role, call)), None)
    return (session.arn, denied) if denied else None


def _authorize(self: Any, _: type, resource: str = "*") -> None:
    if _session(self.current_account, self.access_key) is None:
        return
    request = calls.Request.of(self, resource)
    if request.action == ALWAYS:
        return
    required = calls.required(request)
    if denied := denied_call(self.current_account, self.access_key, required):
        raise _denial(self, *denied)


def is_managed(iam: Any, role: Any | None) -> bool:
    """Return True if a host's role allows its agent to connect to Systems Manager."""
    return bool(role) and all(allows(iam, role, Call(action, "*", {})) for action in AGENT)


def _session(account: str, access_key: str) -> Any | None:
    """Return the host's or workflow's session that signed a call; None for other callers."""
    sessions = get_backend("sts")[account]["aws"].assumed_roles
    own = (session for session in sessions if session.access_key_id == access_key)
    return next((session for session in own if is_restricted(session)), None)


def is_restricted(session: Any) -> bool:
    """Return True if a session belongs to a host or a GitHub workflow."""
    return session.session_name.startswith("i-") or webidentity.is_web_identity(session)


def _denial(self: Any, arn: str, call: Call) -> Exception:
    """Return the refusal in the format of the service's protocol."""
    detail = f"{call.action} on resource: {call.resource}"
    if self.service_name == "s3":
        return S3AccessDeniedError()
    if self.headers.get("X-Amz-Target"):
        message = f"User: {arn} is not authorized to perform: {detail}"
        return JsonRESTError("AccessDeniedException", message)
    return AccessDenied(self.service_name, arn, detail)
