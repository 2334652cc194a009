"""IAM at work for hosts and workflows: what their role does not allow is refused, as on AWS.

Callers with the target's own keys are the account's administrators and may do everything.
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
# What the agent of Systems Manager on a host has to be allowed, to be reached at all.
AGENT = ("ssm:UpdateInstanceInformation", "ssmmessages:OpenControlChannel")


class AccessDenied(AccessDeniedError):
    """A refusal in XML, which the protocols query, rest-xml and ec2 each write in a way."""

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
    """Ask before each call of the API; a second call changes nothing."""
    ActionAuthenticatorMixin._authenticate_and_authorize_action = _authorize


def allows(iam: Any, role: Any, call: Call) -> bool:
    """Tell whether a role's policies, within its boundary, allow a call."""
    return decide(*policies_of(iam, role), call) == ALLOWED


def refused(account: str, access_key: str, asked: Iterable[Call]) -> tuple[str, Call] | None:
    """Return who is refused, and the first call that is; None where all may be."""
    session = _session(account, access_key)
    if session is None:
        return None
    iam = get_backend("iam")[account]["aws"]
    role = iam.get_role_by_arn(session.role_arn)
    denied = next((call for call in asked if not allows(iam, role, call)), None)
    return (session.arn, denied) if denied else None


def _authorize(self: Any, _: type, resource: str = "*") -> None:
    if _session(self.current_account, self.access_key) is None:
        return
    request = calls.Request.of(self, resource)
    if request.action == ALWAYS:
        return
    if found := refused(self.current_account, self.access_key, calls.asked(request)):
        raise _denied(self, *found)


def is_managed(iam: Any, role: Any | None) -> bool:
    """Tell whether a host's role lets its agent talk to Systems Manager."""
    return bool(role) and all(allows(iam, role, Call(action, "*", {})) for action in AGENT)


def _session(account: str, access_key: str) -> Any | None:
    """Return the session of a host's or a workflow's role that a call is signed with."""
    sessions = get_backend("sts")[account]["aws"].assumed_roles
    mine = (each for each in sessions if each.access_key_id == access_key)
    return next((each for each in mine if is_held(each)), None)


def is_held(session: Any) -> bool:
    """Tell whether a session is a host's, or was given for GitHub's word."""
    return session.session_name.startswith("i-") or webidentity.is_one(session)


def _denied(self: Any, who: str, call: Call) -> Exception:
    """Return the refusal in the words of the service's protocol."""
    about = f"{call.action} on resource: {call.resource}"
    if self.service_name == "s3":
        return S3AccessDeniedError()
    if self.headers.get("X-Amz-Target"):
        said = f"User: {who} is not authorized to perform: {about}"
        return JsonRESTError("AccessDeniedException", said)
    return AccessDenied(self.service_name, who, about)
