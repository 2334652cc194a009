"""IAM at work for hosts and workflows: what their role does not allow is refused, as on AWS.

Whoever calls with the target's own keys is the account's administrator and may do everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from moto.backends import get_backend
from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import AccessDeniedError, JsonRESTError
from moto.s3.exceptions import S3AccessDeniedError

from daybook_sandbox import runcommand, webidentity
from daybook_sandbox.simulator import ALLOWED, Call, decide, policies_of

ALWAYS = "sts:GetCallerIdentity"
OF_S3 = {"HeadBucket": "ListBucket"}
"""Calls of S3 that IAM knows by another name."""
# What the agent of Systems Manager on a host has to be allowed, to be reached at all.
AGENT = ("ssm:UpdateInstanceInformation", "ssmmessages:OpenControlChannel")


def patch() -> None:
    """Ask before each call of the API; a second call changes nothing."""
    ActionAuthenticatorMixin._authenticate_and_authorize_action = _authorize


def allows(iam: Any, role: Any, call: Call) -> bool:
    """Tell whether a role's policies, within its boundary, allow a call."""
    return decide(*policies_of(iam, role), call) == ALLOWED


def _authorize(self: Any, _: type, resource: str = "*") -> None:
    session = _session(self)
    if session is None:
        return
    iam = get_backend("iam")[self.current_account]["aws"]
    role = iam.get_role_by_arn(session.role_arn)
    action = _action(self)
    calls = _calls(self, action, resource)
    if action != ALWAYS and not all(allows(iam, role, call) for call in calls):
        raise _denied(self, session.arn, action)


def is_managed(iam: Any, role: Any | None) -> bool:
    """Tell whether a host's role lets its agent talk to Systems Manager."""
    return bool(role) and all(allows(iam, role, Call(action, "*", {})) for action in AGENT)


def _session(self: Any) -> Any | None:
    """Return the session of a host's or a workflow's role that a call is signed with."""
    sessions = get_backend("sts")[self.current_account]["aws"].assumed_roles
    mine = (each for each in sessions if each.access_key_id == self.access_key)
    return next((each for each in mine if is_held(each)), None)


def is_held(session: Any) -> bool:
    """Tell whether a session is a host's, or was given for GitHub's word."""
    return session.session_name.startswith("i-") or webidentity.is_one(session)


def _action(self: Any) -> str:
    """Return what IAM calls an action."""
    if self.service_name != "s3":
        return f"{self.service_name}:{self._get_action()}"
    name = self.data.get("Action", "ListAllMyBuckets")
    return f"s3:{OF_S3.get(name, name)}"


def _calls(self: Any, action: str, resource: str) -> Iterator[Call]:
    """Give what has to be allowed for a call; a command is one call for each machine too."""
    if action == "ssm:SendCommand":
        yield from _sending(self, action)
        return
    context = {
        "aws:RequestedRegion": self.region,
        "cloudwatch:namespace": self._get_param("Namespace") or "",
    }
    for each in _resources(self, resource):
        yield Call(action, each, context)


def _sending(self: Any, action: str) -> Iterator[Call]:
    """https://docs.aws.amazon.com/systems-manager/latest/userguide/run-command-setting-up.html"""
    name = self._get_param("DocumentName")
    owner = "" if name.startswith("AWS-") else self.current_account
    yield Call(action, f"arn:aws:ssm:{self.region}:{owner}:document/{name}", {})
    machines = get_backend("ec2")[self.current_account][self.region].all_instances()
    named, filters = self._get_param("InstanceIds") or [], self._get_param("Targets") or []
    for each in runcommand.chosen(machines, named, filters):
        where = f"arn:aws:ec2:{self.region}:{self.current_account}:instance/{each.id}"
        tags = {f"ssm:resourceTag/{tag['key']}": tag["value"] for tag in each.get_tags()}
        yield Call(action, where, tags)


def _resources(self: Any, resource: str) -> Sequence[str]:
    """Return what a call is about, where a policy may speak of it."""
    where = f"{self.region}:{self.current_account}"
    if self.service_name == "ssm":
        names = self._get_param("Names") or [self._get_param("Name") or self._get_param("Path")]
        return [f"arn:aws:ssm:{where}:parameter/{str(name).strip('/')}" for name in names]
    if self.service_name == "ecr":
        named = self._get_param("repositoryNames") or [self._get_param("repositoryName")]
        return [f"arn:aws:ecr:{where}:repository/{name}" if name else resource for name in named]
    return [resource]


def _denied(self: Any, who: str, action: str) -> Exception:
    """Return the refusal in the words of the service's protocol."""
    if self.service_name == "s3":
        return S3AccessDeniedError()
    if self.headers.get("X-Amz-Target"):
        said = f"User: {who} is not authorized to perform: {action}"
        return JsonRESTError("AccessDeniedException", said)
    return AccessDeniedError(who, action)
