"""Data Lifecycle Manager (DLM), which moto lacks: policies are stored, but no snapshots are made.

https://docs.aws.amazon.com/dlm/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import Flask, abort, jsonify, request
from moto.moto_server.werkzeug_app import DomainDispatcherApplication

from daybook_sandbox import calls, permissions
from daybook_sandbox.simulator import Call

_SIGNED = re.compile(r"/(?P<region>[a-z0-9-]+)/dlm/aws4_request")
_ACTIONS = {
    ("POST", "policies", False): "CreateLifecyclePolicy",
    ("GET", "policies", False): "GetLifecyclePolicies",
    ("GET", "policies", True): "GetLifecyclePolicy",
    ("PATCH", "policies", True): "UpdateLifecyclePolicy",
    ("DELETE", "policies", True): "DeleteLifecyclePolicy",
    ("GET", "tags", True): "ListTagsForResource",
    ("POST", "tags", True): "TagResource",
    ("DELETE", "tags", True): "UntagResource",
}
"""The IAM action by method, first path segment, and whether the path names a resource."""
POLICY_KEYS = ("Description", "State", "ExecutionRoleArn", "PolicyDetails")


def patch(account: str) -> None:
    """Answer requests signed for DLM instead of moto; a second call changes nothing."""
    original = DomainDispatcherApplication.get_application
    if hasattr(original, "__wrapped__"):
        return
    app = application(account)

    @functools.wraps(original)
    def get_application(self, environ):
        is_ours = _SIGNED.search(environ.get("HTTP_AUTHORIZATION", ""))
        return app if is_ours else original(self, environ)

    DomainDispatcherApplication.get_application = get_application


def application(account: str) -> Flask:
    """Return a web application that stores an account's policies in memory."""
    app, policies = Flask(__name__), {}
    app.url_map.strict_slashes = False

    @app.before_request
    def authorize() -> Any:
        action = _ACTIONS.get(
            (request.method, request.path.split("/")[1], request.path.count("/") > 1)
        )
        policy = policies.get(request.path.rpartition("/")[2])
        required = calls.dlm(account, _region(), action or "Unknown", policy, request.get_data())
        denied = permissions.denied_call(account, _access_key(), required)
        return _denial(*denied) if denied else None

    @app.post("/policies")
    def create() -> Any:
        policy = _policy(account, _region(), request.get_json())
        policies[policy["PolicyId"]] = policy
        return {"PolicyId": policy["PolicyId"]}

    @app.get("/policies")
    def list_policies() -> Any:
        keys = ("PolicyId", "Description", "State", "Tags")
        return {"Policies": [{key: policy[key] for key in keys} for policy in policies.values()]}

    @app.get("/policies/<name>")
    def get(name: str) -> Any:
        return {"Policy": policies.get(name) or _missing(name)}

    @app.patch("/policies/<name>")
    def update(name: str) -> Any:
        changes = {key: value for key, value in request.get_json().items() if key in POLICY_KEYS}
        (policies.get(name) or _missing(name)).update(changes, DateModified=_now())
        return {}

    @app.delete("/policies/<name>")
    def delete(name: str) -> Any:
        return {} if policies.pop(name, None) else _missing(name)

    _serve_tags(app, lambda arn: policies.get(arn.rpartition("/")[2]) or _missing(arn))
    return app


def _serve_tags(app: Flask, find: Callable[[str], dict[str, Any]]) -> None:
    @app.get("/tags/<path:arn>")
    def tags(arn: str) -> Any:
        return {"Tags": find(arn)["Tags"]}

    @app.post("/tags/<path:arn>")
    def tag(arn: str) -> Any:
        find(arn)["Tags"].update(request.get_json()["Tags"])
        return {}

    @app.delete("/tags/<path:arn>")
    def untag(arn: str) -> Any:
        for key in request.args.getlist("tagKeys"):
            find(arn)["Tags"].pop(key, None)
        return {}


def _policy(account: str, region: str, definition: dict[str, Any]) -> dict[str, Any]:
    name = f"policy-{secrets.token_hex(8)}0"
    return {
        **{key: definition[key] for key in POLICY_KEYS},
        "PolicyId": name,
        "PolicyArn": f"arn:aws:dlm:{region}:{account}:policy/{name}",
        "Tags": definition.get("Tags") or {},
        "DateCreated": _now(),
        "DateModified": _now(),
    }


def _region() -> str:
    return _SIGNED.search(request.headers["Authorization"])["region"]


def _access_key() -> str:
    return request.headers["Authorization"].partition("Credential=")[2].partition("/")[0]


def _denial(arn: str, call: Call) -> Any:
    message = f"User: {arn} is not authorized to perform: {call.action}"
    answer = jsonify(Message=message)
    answer.status_code = 403
    answer.headers["x-amzn-ErrorType"] = "AccessDeniedException"
    return answer


def _missing(name: str) -> Any:
    answer = jsonify(Code="ResourceNotFoundException", Message=f"{name} was not found")
    answer.status_code = 404
    answer.headers["x-amzn-ErrorType"] = "ResourceNotFoundException"
    abort(answer)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
