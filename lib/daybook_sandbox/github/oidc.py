"""GitHub's word for who runs a job, signed: what AWS changes into an hour of a role.

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
    """Signs tokens and knows its own again."""

    def __init__(self) -> None:
        self._key = jwk.RSAKey.generate_key(2048)

    def token(self, job: RunJob, audience: str) -> str:
        """Return a token for a job that may have one."""
        now = int(time.time())
        stamps = {"iat": now, "nbf": now - 60, "exp": now + VALID_S, "jti": str(uuid.uuid4())}
        about = {"iss": ISSUER, "aud": audience, "sub": subject(job)}
        return jwt.encode({"alg": "RS256"}, about | stamps | _claims(job), self._key)

    def claims(self, token: str) -> dict[str, Any] | None:
        """Return what a token says, if it is one of these and its time is not over."""
        try:
            found = jwt.decode(token, self._key, algorithms=["RS256"])
            jwt.JWTClaimsRegistry(iss={"essential": True, "value": ISSUER}).validate(found.claims)
        except (JoseError, ValueError):
            return None
        return found.claims


def subject(job: RunJob) -> str:
    """Return whom AWS's trust policies speak of."""
    event = job.run.event
    if job.environment:
        return f"repo:{event.repository}:environment:{job.environment}"
    return f"repo:{event.repository}:ref:{event.ref}"


def _claims(job: RunJob) -> dict[str, Any]:
    github = job.run.github
    same = (
        "repository repository_owner repository_id repository_owner_id ref ref_type sha actor "
        "workflow workflow_ref workflow_sha run_id run_number run_attempt event_name"
    )
    found = {name: github[name] for name in same.split()}
    environment = {"environment": job.environment} if job.environment else {}
    kind = "github-hosted" if job.is_hosted else "self-hosted"
    return (
        found
        | environment
        | {
            "job_workflow_ref": github["workflow_ref"],
            "runner_environment": kind,
        }
    )
