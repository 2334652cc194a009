"""What runners and their jobs call: registration, the queue, reports, tokens."""

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
    """Add what runners call to the web application."""
    _serve_registration(app, github)
    _serve_queue(app, github)
    _serve_jobs(app, github)


def _serve_registration(app: Flask, github: GitHub) -> None:
    @app.post("/api/v3/actions/runner-registration")
    def register() -> Any:
        asked = request.get_json()
        repository = _repository(asked["url"])
        if not github.registration_tokens.opens("registration-token", _token(), repository):
            abort(404)
        runner = github.runners.add(
            repository, asked["name"], tuple(asked["labels"]), replace=asked["replace"]
        )
        if runner is None:
            return {"message": f"A runner exists with the same name {asked['name']}."}, 409
        return {"id": runner.id, "token": runner.token, "server": github.server}

    @app.delete("/api/v3/actions/runner-registration")
    def remove() -> Any:
        asked = request.get_json()
        if not github.registration_tokens.opens(
            "remove-token", _token(), _repository(asked["url"])
        ):
            abort(404)
        github.drop_runner(asked["id"])
        return {}


def _serve_queue(app: Flask, github: GitHub) -> None:
    def runner() -> Runner:
        return github.runners.by_token(_token()) or abort(401)

    @app.post("/_runner/session")
    def session() -> Any:
        github.queue.forget(found := runner())
        found.heard()
        return {}

    @app.get("/_runner/message")
    def message() -> Any:
        found = runner()
        found.heard()
        job = github.queue.take(found, POLL_S)
        runner()  # It may have been dropped while it waited.
        return messages.of(job, github.server) if job else Response(status=204)


def _serve_jobs(app: Flask, github: GitHub) -> None:
    def job(id: int | None = None) -> RunJob:
        found = github.queue.by_token(_token())
        if found is None or id not in (None, found.id):
            abort(401)
        return found

    @app.post("/_runner/jobs/<int:id>")
    def report(id: int) -> Any:
        found = job(id)
        if found.runner:
            found.runner.heard()
        return {"cancel": github.queue.hear(found, request.get_json())}

    @app.put("/_runner/jobs/<int:id>/artifacts/<name>")
    def keep(id: int, name: str) -> Any:
        job(id).artifacts[name] = request.get_data()
        return {}

    @app.get("/_actions/oidc")
    def id_token() -> Any:
        found = job()
        if found.definition.permissions.get("id-token") != "write":
            abort(403)
        return {"value": github.issuer.token(found, request.args.get("audience", github.server))}


def _repository(url: str) -> str:
    return urlsplit(url).path.strip("/").removesuffix(".git")


def _token() -> str:
    return request.headers.get("Authorization", "").partition(" ")[2]
