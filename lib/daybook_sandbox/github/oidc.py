"""GitHub's OIDC tokens for jobs, which AWS exchanges for a role's temporary credentials.

https://docs.github.com/en/actions/reference/security/oidc
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from joserfc import jwk, jwt
from joserfc.errors import JoseError

from daybook_sandbox.github.runs import RunJob

HOST = "token.actions.githubusercontent.com"
ISSUER = f"https://{HOST}"
VALID_S = 300


class Issuer:
    """Sign and verify tokens."""

    def __init__(self) -> None:
        self._key = jwk.RSAKey.generate_key(2048)

    def token(self, job: RunJob, audience: str) -> str:
        """Return a token for a job."""
        now = int(time.time())
        stamps = {"iat": now, "nbf": now - 60, "exp": now + VALID_S, "jti": str(uuid.uuid4())}
        claims = {"iss": ISSUER, "aud": audience, "sub": subject(job)}
        return jwt.encode({"alg": "RS256"}, claims | stamps | _claims(job), self._key)

    def claims(self, token: str) -> dict[str, Any] | None:
        """Return a token's claims; None unless it is valid and was issued here."""
        try:
            decoded = jwt.decode(token, self._key, algorithms=["RS256"])
            jwt.JWTClaimsRegistry(iss={"essential": True, "value": ISSUER}).validate(decoded.claims)
        except (JoseError, ValueError):
            return None
        return decoded.claims


def subject(job: RunJob) -> str:
    """Return the `sub` claim, which AWS's trust policies match."""
    event = job.run.event
    if job.environment:
        return f"repo:{event.repository}:environment:{job.environment}"
    return f"repo:{event.repository}:ref:{event.ref}"


def _claims(job: RunJob) -> dict[str, Any]:
    github = job.run.github
    names = (
        "repository repository_owner repository_id repository_owner_id ref ref_type sha actor "
        "workflow workflow_ref workflow_sha run_id run_number run_attempt event_name"
    )
    claims = {name: github[name] for name in names.split()}
    environment = {"environment": job.environment} if job.environment else {}
    kind = "github-hosted" if job.is_hosted else "self-hosted"
    return (
        claims
        | environment
        | {
            "job_workflow_ref": github["workflow_ref"],
            "runner_environment": kind,
        }
    )
