"""AssumeRoleWithWebIdentity with AWS's checks: GitHub's signature and the role's trust policy.

moto assumes any role without a check. The resulting sessions are limited to the role's permissions.
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
"""An attribute that marks such sessions in moto."""


def is_web_identity(session: Any) -> bool:
    """Return True if a session comes from AssumeRoleWithWebIdentity."""
    return hasattr(session, SESSION_MARK)


def patch(claims: Claims) -> None:
    """Check the token and the trust policy. claims: returns a token's claims; None if invalid."""
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


def _require(self: TokenResponse, claims: Mapping[str, Any] | None) -> None:
    """Raise AWS's error unless the role trusts the token."""
    if claims is None:
        raise STSClientError("InvalidIdentityToken", "Couldn't retrieve verification key")
    iam = get_backend("iam")[self.current_account]["aws"]
    host = claims["iss"].removeprefix("https://")
    arn = f"arn:aws:iam::{self.current_account}:oidc-provider/{host}"
    provider = iam.open_id_providers.get(arn)
    if provider is None:
        reason = f"No OpenIDConnect provider found in your account for {claims['iss']}"
        raise STSClientError("InvalidIdentityToken", reason)
    if claims["aud"] not in provider.client_id_list:
        raise STSClientError("InvalidIdentityToken", "Incorrect token audience")
    wanted = self._get_param("RoleArn")
    role = next((known for known in iam.roles.values() if known.arn == wanted), None)
    if role is None or not trusts(role.assume_role_policy_document, arn, host, claims):
        raise STSClientError("AccessDenied", f"Not authorized to perform {ACTION}")


def trusts(policy: Any, provider: str, host: str, claims: Mapping[str, Any]) -> bool:
    """Return True if a role's trust policy allows a provider's token."""
    context = {f"{host}:{key}": str(claims[key]) for key in ("aud", "sub")}
    call = simulator.Call(ACTION, provider, context)
    return simulator.trusted(unquote(policy), call) == simulator.ALLOWED
