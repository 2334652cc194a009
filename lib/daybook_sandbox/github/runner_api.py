"""The API for runners and their jobs: registration, the queue, reports and tokens."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, request

from daybook_sandbox.github import messages
from daybook_sandbox.github.github import GitHub
from daybook_sandbox.github.runners import Runner
from daybook_sandbox.github.runs import RunJob

POLL_S = 25


def serve(app: Flask, github: GitHub) -> None:
    """Add the API to the web application."""
    _serve_registration(app, github)
    _serve_queue(app, github)
    _serve_jobs(app, github)


def _serve_registration(app: Flask, github: GitHub) -> None:
    @app.post("/api/v3/actions/runner-registration")
    def register() -> Any:
        body = request.get_json()
        repository = _repository(body["url"])
        if not github.registration_tokens.is_valid("registration-token", _token(), repository):
            abort(404)
        runner = github.runners.add(
            repository, body["name"], tuple(body["labels"]), replace=body["replace"]
        )
        if runner is None:
            return {"message": f"A runner exists with the same name {body['name']}."}, 409
        return {"id": runner.id, "token": runner.token, "server": github.server}

    @app.delete("/api/v3/actions/runner-registration")
    def remove() -> Any:
        body = request.get_json()
        if not github.registration_tokens.is_valid(
            "remove-token", _token(), _repository(body["url"])
        ):
            abort(404)
        github.drop_runner(body["id"])
        return {}


def _serve_queue(app: Flask, github: GitHub) -> None:
    def runner() -> Runner:
        return github.runners.by_token(_token()) or abort(401)

    @app.post("/_runner/session")
    def session() -> Any:
        caller = runner()
        github.queue.fail_jobs_of(caller)
        caller.touch()
        return {}

    @app.get("/_runner/message")
    def message() -> Any:
        caller = runner()
        caller.touch()
        job = github.queue.take(caller, POLL_S)
        runner()  # The runner may have been removed while it waited.
        return messages.of(job, github.server) if job else Response(status=204)


def _serve_jobs(app: Flask, github: GitHub) -> None:
    def job(id: int | None = None) -> RunJob:
        caller = github.queue.by_token(_token())
        if caller is None or id not in (None, caller.id):
            abort(401)
        return caller

    @app.post("/_runner/jobs/<int:id>")
    def report(id: int) -> Any:
        caller = job(id)
        if caller.runner:
            caller.runner.touch()
        return {"cancel": github.queue.record(caller, request.get_json())}

    @app.put("/_runner/jobs/<int:id>/artifacts/<name>")
    def keep(id: int, name: str) -> Any:
        job(id).artifacts[name] = request.get_data()
        return {}

    @app.get("/_actions/oidc")
    def id_token() -> Any:
        caller = job()
        if caller.definition.permissions.get("id-token") != "write":
            abort(403)
        return {"value": github.issuer.token(caller, request.args.get("audience", github.server))}


def _repository(url: str) -> str:
    return urlsplit(url).path.strip("/").removesuffix(".git")


def _token() -> str:
    return request.headers.get("Authorization", "").partition(" ")[2]
