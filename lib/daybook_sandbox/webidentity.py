"""AssumeRoleWithWebIdentity as AWS answers it: GitHub's signature, and the role's own word.

moto gives any role to anybody here. Who has a role this way is held to what the role may do.
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from moto.backends import get_backend
from moto.sts.exceptions import STSClientError
from moto.sts.responses import TokenResponse

from daybook_sandbox import simulator

Claims = Callable[[str], Mapping[str, Any] | None]
ACTION = "sts:AssumeRoleWithWebIdentity"
SESSION_MARK = "is_web_identity"
"""The attribute of moto's sessions that were given out this way."""


def is_one(session: Any) -> bool:
    """Tell whether a session was given out this way."""
    return hasattr(session, SESSION_MARK)


def patch(claims: Claims) -> None:
    """Ask who comes before a role is given. claims: what a token says; None: not GitHub's."""
    original = getattr(
        TokenResponse.assume_role_with_web_identity,
        "__wrapped__",
        TokenResponse.assume_role_with_web_identity,
    )

    @functools.wraps(original)
    def assume(self: TokenResponse) -> Any:
        _require(self, claims(self._get_param("WebIdentityToken") or ""))
        known = len(self.backend.assumed_roles)
        answer = original(self)
        for session in self.backend.assumed_roles[known:]:
            setattr(session, SESSION_MARK, True)
        return answer

    TokenResponse.assume_role_with_web_identity = assume


def _require(self: TokenResponse, said: Mapping[str, Any] | None) -> None:
    """Raise what AWS would answer, unless the role trusts who comes."""
    if said is None:
        raise STSClientError("InvalidIdentityToken", "Couldn't retrieve verification key")
    iam = get_backend("iam")[self.current_account]["aws"]
    host = said["iss"].removeprefix("https://")
    arn = f"arn:aws:iam::{self.current_account}:oidc-provider/{host}"
    provider = iam.open_id_providers.get(arn)
    if provider is None:
        reason = f"No OpenIDConnect provider found in your account for {said['iss']}"
        raise STSClientError("InvalidIdentityToken", reason)
    if said["aud"] not in provider.client_id_list:
        raise STSClientError("InvalidIdentityToken", "Incorrect token audience")
    wanted = self._get_param("RoleArn")
    role = next((each for each in iam.roles.values() if each.arn == wanted), None)
    if role is None or not trusts(role.assume_role_policy_document, arn, host, said):
        raise STSClientError("AccessDenied", f"Not authorized to perform {ACTION}")


def trusts(policy: Any, provider: str, host: str, said: Mapping[str, Any]) -> bool:
    """Tell whether a role's trust policy lets a provider's user in."""
    context = {f"{host}:{key}": str(said[key]) for key in ("aud", "sub")}
    call = simulator.Call(ACTION, provider, context)
    return simulator.trusted(unquote(policy), call) == simulator.ALLOWED
