"""IAM's policy simulator, which moto lacks: what a role, or policies not yet in use, would allow.

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
"""Of a condition key: one value, or all values of a multivalued key."""
Statement = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One call of an API. context: the condition keys that come with it."""

    action: str
    resource: str
    context: Mapping[str, Value]


def decide(policies: Sequence[str], boundary: str | None, call: Call) -> str:
    """Return IAM's word for whether the call is allowed, by policies and within a boundary."""
    effects = _effects(policies, call)
    limits = _effects([boundary], call) if boundary else {"Allow"}
    if "Deny" in effects | limits:
        return DENIED
    return ALLOWED if "Allow" in effects and "Allow" in limits else NOT_ALLOWED


def trusted(policy: str, call: Call) -> str:
    """Return IAM's word for whether a role lets somebody in. call.resource: who, federated."""
    statements = [
        {**each, "Resource": each["Principal"].get("Federated", [])} for each in _statements(policy)
    ]
    return decide([json.dumps({"Statement": statements})], None, call)


def patch() -> None:
    """Answer SimulatePrincipalPolicy, for roles, and SimulateCustomPolicy."""
    IamResponse.simulate_principal_policy = _principal
    IamResponse.simulate_custom_policy = _custom


def policies_of(backend: Any, role: Any) -> tuple[list[str], str | None]:
    """Return a role's policies, its own and those attached, and its boundary."""
    own = [unquote(each) for each in role.policies.values()]
    attached = [_document(backend, arn) for arn in role.managed_policies]
    limit = role.permissions_boundary_arn
    return [*own, *attached], _document(backend, limit) if limit else None


def _principal(self: IamResponse) -> ActionResult:
    role = self.backend.get_role_by_arn(self._get_param("PolicySourceArn"))
    return _answer(self, *policies_of(self.backend, role))


def _custom(self: IamResponse) -> ActionResult:
    limits = self._get_param("PermissionsBoundaryPolicyInputList") or [None]
    return _answer(self, self._get_param("PolicyInputList"), limits[0])


def _answer(self: IamResponse, policies: Sequence[str], boundary: str | None) -> ActionResult:
    given = self._get_param("ContextEntries") or ()
    context = {each["ContextKeyName"]: _value(each["ContextKeyValues"]) for each in given}
    asked = product(self._get_param("ActionNames"), self._get_param("ResourceArns") or ["*"])
    results = [
        {
            "EvalActionName": action,
            "EvalResourceName": resource,
            "EvalDecision": decide(policies, boundary, Call(action, resource, context)),
        }
        for action, resource in asked
    ]
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def _value(given: list[str]) -> Value:
    return given[0] if len(given) == 1 else given


def _document(backend: Any, arn: str) -> str:
    return backend.get_policy_version(arn, backend.get_policy(arn).default_version_id).document


def _effects(policies: Sequence[str], call: Call) -> set[str]:
    every = (each for policy in policies for each in _statements(policy))
    return {each["Effect"] for each in every if _concerns(each, call)}


def _statements(policy: str) -> Iterator[Statement]:
    yield from _list(json.loads(policy)["Statement"])


def _concerns(statement: Statement, call: Call) -> bool:
    action = call.action.lower()
    return (
        any(_matches(action, each.lower()) for each in _list(statement["Action"]))
        and any(_matches(call.resource, each) for each in _list(statement["Resource"]))
        and all(
            _holds(test, call.context.get(key), _list(wanted))
            for test, pairs in statement.get("Condition", {}).items()
            for key, wanted in pairs.items()
        )
    )


def _holds(test: str, value: Value | None, wanted: list[str]) -> bool:
    """Tell whether a condition holds for a key's value, None where the call has no such key.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
    """
    if test == "Null":
        return (value is None) is (wanted == ["true"])
    if test.startswith("ForAllValues:"):
        each_holds = _TESTS[test.removeprefix("ForAllValues:")]
        return all(each_holds(each, wanted) for each in _list(value or []))
    if test.endswith("IfExists"):
        return value is None or _TESTS[test.removesuffix("IfExists")](value, wanted)
    return _TESTS[test](value, wanted)


def _matches(value: str, pattern: str) -> bool:
    """Match as IAM does, which knows * and ? alone."""
    parts = ({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None


_TESTS = {
    "StringEquals": lambda value, wanted: value in wanted,
    "StringLike": lambda value, wanted: (
        value is not None and any(_matches(value, each) for each in wanted)
    ),
    "StringNotEquals": lambda value, wanted: value not in wanted,
}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
