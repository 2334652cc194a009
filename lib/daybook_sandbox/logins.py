"""ECR's logins: one for everybody, and one of its own for each session of a workflow's role."""

from __future__ import annotations

import base64
import functools
from typing import Any

from moto.backends import get_backend
from moto.ecr.responses import ECRResponse

from daybook_sandbox import webidentity
from daybook_sandbox.api import Cloud


def login(account: str, access_key: str = "auth-token") -> str:
    """Return what `docker login` sends; a workflow's says which session it is."""
    return base64.b64encode(f"AWS:{account}-{access_key}".encode()).decode()


def session_of(cloud: Cloud, authorization: str) -> Any | None:
    """Return the session of a workflow's role that a login came from."""
    for each in cloud.sts.assumed_roles:
        known = f"Basic {login(cloud.account, each.access_key_id)}"
        if webidentity.is_one(each) and known == authorization:
            return each
    return None


def patch() -> None:
    """Give each such session its own login; a second call changes nothing."""
    original = ECRResponse.get_authorization_token
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def get_authorization_token(self: ECRResponse) -> Any:
        answer = original(self)
        sessions = get_backend("sts")[self.current_account]["aws"].assumed_roles
        mine = (each for each in sessions if each.access_key_id == self.access_key)
        if any(map(webidentity.is_one, mine)):
            for each in answer.result["authorizationData"]:
                each["authorizationToken"] = login(self.current_account, self.access_key)
        return answer

    ECRResponse.get_authorization_token = get_authorization_token
