"""ECR's logins: one for the account, and a separate one for each session of a workflow's role."""

from __future__ import annotations

import base64
import functools
from typing import Any

from moto.backends import get_backend
from moto.ecr.responses import ECRResponse

from daybook_sandbox import webidentity
from daybook_sandbox.api import Cloud


def login(account: str, access_key: str = "auth-token") -> str:
    """Return the credentials of `docker login`; a workflow's contain its session's access key."""
    return base64.b64encode(f"AWS:{account}-{access_key}".encode()).decode()


def session_of(cloud: Cloud, authorization: str) -> Any | None:
    """Return the workflow session that a login belongs to."""
    for session in cloud.sts.assumed_roles:
        expected = f"Basic {login(cloud.account, session.access_key_id)}"
        if webidentity.is_web_identity(session) and expected == authorization:
            return session
    return None


def patch() -> None:
    """Return a separate login to each workflow session; a second call changes nothing."""
    original = ECRResponse.get_authorization_token
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def get_authorization_token(self: ECRResponse) -> Any:
        answer = original(self)
        sessions = get_backend("sts")[self.current_account]["aws"].assumed_roles
        own = (session for session in sessions if session.access_key_id == self.access_key)
        if any(map(webidentity.is_web_identity, own)):
            for login_data in answer.result["authorizationData"]:
                login_data["authorizationToken"] = login(self.current_account, self.access_key)
        return answer

    ECRResponse.get_authorization_token = get_authorization_token
