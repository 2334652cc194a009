"""GitHub's web server: git, the subset of the REST API that Daybook uses, and the runs' pages."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, abort, g, jsonify, request

from daybook_sandbox.github import pages, runner_api
from daybook_sandbox.github.github import GitHub
from daybook_sandbox.github.repositories import NoSuchCommit, Push
from daybook_sandbox.github.runs import TriggerEvent
from daybook_sandbox.github.workflow import JobDefinition, Triggers, Workflow

API = "/api/v3/repos/<owner>/<name>"
ACTIONS = f"{API}/actions"
CALLERS = ("operator", "machine")
"""Allowed callers: a process on this computer, treated as signed in, or a sandbox machine."""


def application(github: GitHub, caller: Callable[[str], str]) -> Flask:
    """Return the web application. caller: returns the one of CALLERS at an address, or ""."""
    app = Flask("github")
    app.url_map.strict_slashes = False

    @app.before_request
    def identify_caller() -> None:
        g.caller = caller(request.remote_addr or "")
        if g.caller not in CALLERS:
            abort(403)

    _serve_git(app, github)
    _serve_downloads(app, github)
    _serve_runners(app, github)
    _serve_runs(app, github)
    runner_api.serve(app, github)
    pages.serve(app, github)
    return app


def require_token(github: GitHub) -> None:
    """Refuse a REST API call without the operator's token."""
    if request.headers.get("Authorization", "") not in (
        f"Bearer {github.token}",
        f"token {github.token}",
    ):
        _refuse(401, "Bad credentials")


def _refuse(status: int, message: str) -> None:
    answer = jsonify(message=message, status=str(status))
    answer.status_code = status
    abort(answer)


def _serve_git(app: Flask, github: GitHub) -> None:
    @app.get("/<owner>/<name>/info/refs")
    @app.post("/<owner>/<name>/<any('git-upload-pack','git-receive-pack'):rest>")
    def git(owner: str, name: str, rest: str = "info/refs") -> Response:
        repository = f"{owner}/{name.removesuffix('.git')}"
        is_push = "git-receive-pack" in (rest, request.args.get("service"))
        if not _may_git(repository, is_push):
            challenge = {"WWW-Authenticate": 'Basic realm="GitHub"'}
            return Response("Repository not found.\n", 401, challenge)
        output = github.repositories.backend(repository, _cgi(repository, rest), _body())
        head, _, body = output.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200").split()[0])
        return Response(body, status, headers)

    def _may_git(repository: str, is_push: bool) -> bool:
        password = (request.authorization.password if request.authorization else "") or ""
        if g.caller == "operator" and not password:
            return True
        if password == github.token:
            return True
        job = github.queue.by_token(password)
        return (
            job is not None
            and not is_push
            and job.run.event.repository == repository
            and "contents" in job.definition.permissions
        )

    @app.post("/_sandbox/pushed/<owner>/<name>")
    def pushed(owner: str, name: str) -> str:
        _require_operator()
        lines = request.get_data(as_text=True).splitlines()
        return github.pushed(f"{owner}/{name}", [Push.of(line) for line in lines])

    @app.post("/_sandbox/jobs")
    def add_job() -> Any:
        """Add a job for one runner without a push, so that tests can run any command."""
        _require_operator()
        body = request.get_json()
        steps = ({"line": 1, "shell": "bash", "run": body["run"]},)
        job = JobDefinition("job", "job", ("self-hosted",), steps)
        workflow = Workflow(body["workflow"], body["workflow"], Triggers(), {"job": job})
        event = TriggerEvent("push", body["repository"], body["ref"], "0" * 40, github.actor)
        run = github.queue.start(event, workflow, only=body["runner"])
        return run.document(github.server)


def _serve_downloads(app: Flask, github: GitHub) -> None:
    @app.get("/actions/runner/releases/download/<tag>/<file>")
    def package(tag: str, file: str) -> Response:
        version = tag.removeprefix("v")
        known = [f"actions-runner-linux-{cpu}-{version}.tar.gz" for cpu in ("x64", "arm64")]
        if file not in known:
            abort(404)
        return Response(github.archive, mimetype="application/octet-stream")

    @app.get(f"{API}/tarball/<path:ref>")
    def tarball(owner: str, name: str, ref: str) -> Response:
        repository = f"{owner}/{name}"
        job = github.queue.by_token(request.headers.get("Authorization", "").partition(" ")[2])
        if job is None or job.run.event.repository != repository:
            require_token(github)
        try:
            return Response(
                github.repositories.tarball(repository, ref), mimetype="application/gzip"
            )
        except NoSuchCommit as error:
            return _refuse(404, str(error))


def _serve_runners(app: Flask, github: GitHub) -> None:
    @app.post(f"{ACTIONS}/runners/<any('registration-token','remove-token'):kind>")
    def registration_token(owner: str, name: str, kind: str) -> Any:
        require_token(github)
        return github.registration_tokens.issue(kind, f"{owner}/{name}").document(), 201

    @app.get(f"{ACTIONS}/runners")
    def runners(owner: str, name: str) -> Any:
        require_token(github)
        wanted = request.args.get("name")
        registered = github.runners.of(f"{owner}/{name}")
        matches = [r.document() for r in registered if wanted in (None, r.name)]
        return {"total_count": len(matches), "runners": matches}

    @app.delete(f"{ACTIONS}/runners/<int:id>")
    def drop(owner: str, name: str, id: int) -> Any:
        require_token(github)
        if id not in [runner.id for runner in github.runners.of(f"{owner}/{name}")]:
            _refuse(404, "Not Found")
        github.drop_runner(id)
        return Response(status=204)


def _serve_runs(app: Flask, github: GitHub) -> None:
    def find(id: int) -> Any:
        require_token(github)
        runs = github.queue.runs()
        return next((run for run in runs if run.id == id), None) or _refuse(404, "Not Found")

    @app.get(f"{ACTIONS}/runs")
    def runs(owner: str, name: str) -> Any:
        require_token(github)
        matches = [run.document(github.server) for run in github.queue.runs(f"{owner}/{name}")]
        filters = {"head_sha": "head_sha", "branch": "head_branch", "event": "event"}
        for argument, key in filters.items():
            if wanted := request.args.get(argument):
                matches = [run for run in matches if run[key] == wanted]
        return {"total_count": len(matches), "workflow_runs": matches}

    @app.get(f"{ACTIONS}/runs/<int:id>")
    def run(owner: str, name: str, id: int) -> Any:
        return find(id).document(github.server)

    @app.get(f"{ACTIONS}/runs/<int:id>/jobs")
    def jobs(owner: str, name: str, id: int) -> Any:
        documents = [job.document(github.server) for job in find(id).jobs.values()]
        return {"total_count": len(documents), "jobs": documents}

    @app.post(f"{ACTIONS}/runs/<int:id>/cancel")
    def cancel(owner: str, name: str, id: int) -> Any:
        github.queue.cancel(find(id))
        return {}, 202

    @app.get(f"{ACTIONS}/jobs/<int:id>/logs")
    def logs(owner: str, name: str, id: int) -> Any:
        require_token(github)
        job = next((job for job in github.queue.jobs() if job.id == id), None)
        text = "\n".join(job.lines) if job else _refuse(404, "Not Found")
        return Response(f"{text}\n", mimetype="text/plain")

    @app.post(f"{ACTIONS}/workflows/<file>/dispatches")
    def dispatch(owner: str, name: str, file: str) -> Any:
        require_token(github)
        body = request.get_json()
        try:
            github.dispatch(f"{owner}/{name}", file, body["ref"], body.get("inputs") or {})
        except (KeyError, NoSuchCommit):
            _refuse(404, "Not Found")
        except ValueError as error:
            _refuse(422, str(error))
        return Response(status=204)

    @app.route(f"{ACTIONS}/variables", methods=["GET", "POST"])
    @app.route(f"{ACTIONS}/variables/<variable>", methods=["PATCH"])
    def variables(owner: str, name: str, variable: str = "") -> Any:
        require_token(github)
        known = github.queue.variables(f"{owner}/{name}")
        if request.method == "GET":
            listed = [{"name": key, "value": value} for key, value in known.items()]
            return {"total_count": len(listed), "variables": listed}
        body = request.get_json()
        known[variable or body["name"]] = body["value"]
        return Response(status=204 if variable else 201)


def _cgi(repository: str, rest: str) -> dict[str, str]:
    return {
        "PATH_INFO": f"/{repository}.git/{rest}",
        "QUERY_STRING": request.query_string.decode(),
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        "REMOTE_USER": "git",
        "REMOTE_ADDR": request.remote_addr or "",
    }


def _body() -> io.BytesIO:
    return io.BytesIO(request.get_data())


def _require_operator() -> None:
    if g.caller != "operator":
        abort(403)
