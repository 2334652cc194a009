"""IAM's policy simulator, which moto lacks, for roles and for custom policies.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import unquote

from moto.core.responses import ActionResult
from moto.iam.responses import IamResponse

ALLOWED, DENIED, NOT_ALLOWED = "allowed", "explicitDeny", "implicitDeny"
Value = str | Sequence[str]
"""A condition key's value, or all values of a multivalued key."""
Statement = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """A call to check. context: its condition keys."""

    action: str
    resource: str
    context: Mapping[str, Value]


def decide(policies: Sequence[str], boundary: str | None, call: Call) -> str:
    """Return IAM's decision on a call under policies and an optional permissions boundary."""
    effects = _effects(policies, call)
    limits = _effects([boundary], call) if boundary else {"Allow"}
    if "Deny" in effects | limits:
        return DENIED
    return ALLOWED if "Allow" in effects and "Allow" in limits else NOT_ALLOWED


def trusted(policy: str, call: Call) -> str:
    """Return IAM's decision on assuming a role. call.resource: the federated principal."""
    statements = [
        {**statement, "Resource": statement["Principal"].get("Federated", [])}
        for statement in _statements(policy)
    ]
    return decide([json.dumps({"Statement": statements})], None, call)


def patch() -> None:
    """Implement SimulatePrincipalPolicy (roles only) and SimulateCustomPolicy."""
    IamResponse.simulate_principal_policy = _principal
    IamResponse.simulate_custom_policy = _custom


def policies_of(backend: Any, role: Any) -> tuple[list[str], str | None]:
    """Return a role's inline and attached policies, and its permissions boundary."""
    inline = [unquote(policy) for policy in role.policies.values()]
    attached = [_document(backend, arn) for arn in role.managed_policies]
    boundary = role.permissions_boundary_arn
    return [*inline, *attached], _document(backend, boundary) if boundary else None


def _principal(self: IamResponse) -> ActionResult:
    role = self.backend.get_role_by_arn(self._get_param("PolicySourceArn"))
    return _answer(self, *policies_of(self.backend, role))


def _custom(self: IamResponse) -> ActionResult:
    limits = self._get_param("PermissionsBoundaryPolicyInputList") or [None]
    return _answer(self, self._get_param("PolicyInputList"), limits[0])


def _answer(self: IamResponse, policies: Sequence[str], boundary: str | None) -> ActionResult:
    entries = self._get_param("ContextEntries") or ()
    context = {entry["ContextKeyName"]: _value(entry["ContextKeyValues"]) for entry in entries}
    calls = product(self._get_param("ActionNames"), self._get_param("ResourceArns") or ["*"])
    results = [
        {
            "EvalActionName": action,
            "EvalResourceName": resource,
            "EvalDecision": decide(policies, boundary, Call(action, resource, context)),
        }
        for action, resource in calls
    ]
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def _value(values: list[str]) -> Value:
    return values[0] if len(values) == 1 else values


def _document(backend: Any, arn: str) -> str:
    return backend.get_policy_version(arn, backend.get_policy(arn).default_version_id).document


def _effects(policies: Sequence[str], call: Call) -> set[str]:
    statements = (statement for policy in policies for statement in _statements(policy))
    return {statement["Effect"] for statement in statements if _applies(statement, call)}


def _statements(policy: str) -> Iterator[Statement]:
    yield from _list(json.loads(policy)["Statement"])


def _applies(statement: Statement, call: Call) -> bool:
    action = call.action.lower()
    return (
        any(_matches(action, pattern.lower()) for pattern in _list(statement["Action"]))
        and any(_matches(call.resource, pattern) for pattern in _list(statement["Resource"]))
        and all(
            _holds(test, call.context.get(key), _list(wanted))
            for test, pairs in statement.get("Condition", {}).items()
            for key, wanted in pairs.items()
        )
    )


def _holds(test: str, value: Value | None, wanted: list[str]) -> bool:
    """Return True if a condition holds for a key's value; None means that the key is absent.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
    """
    if test == "Null":
        return (value is None) is (wanted == ["true"])
    if test.startswith("ForAllValues:"):
        value_holds = _TESTS[test.removeprefix("ForAllValues:")]
        return all(value_holds(item, wanted) for item in _list(value or []))
    if test.endswith("IfExists"):
        return value is None or _TESTS[test.removesuffix("IfExists")](value, wanted)
    return _TESTS[test](value, wanted)


def _matches(value: str, pattern: str) -> bool:
    """Match like IAM, with only the wildcards * and ?."""
    parts = ({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None


_TESTS = {
    "StringEquals": lambda value, wanted: value in wanted,
    "StringLike": lambda value, wanted: (
        value is not None and any(_matches(value, pattern) for pattern in wanted)
    ),
    "StringNotEquals": lambda value, wanted: value not in wanted,
}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
