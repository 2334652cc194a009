"""Plain-text pages for runs, to read after a push."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, abort

from daybook_sandbox.github.github import GitHub
from daybook_sandbox.github.runs import Run, RunJob

MARKS = {"success": "√", "failure": "X", "skipped": "-", "cancelled": "!"}
ACTIONS = "/<owner>/<name>/actions"


def serve(app: Flask, github: GitHub) -> None:
    """Add the pages to the application."""

    @app.get(ACTIONS)
    def runs_page(owner: str, name: str) -> Any:
        return _text(_line(run, github.server) for run in github.queue.runs(f"{owner}/{name}"))

    @app.get(f"{ACTIONS}/runs/<int:id>")
    @app.get(f"{ACTIONS}/runs/<int:id>/job/<int:job>")
    def run_page(owner: str, name: str, id: int, job: int | None = None) -> Any:
        run = next((r for r in github.queue.runs(f"{owner}/{name}") if r.id == id), None)
        return _text(page(run)) if run else abort(404)

    @app.get(f"{ACTIONS}/runs/<int:id>/artifacts/<artifact>")
    def artifact(owner: str, name: str, id: int, artifact: str) -> Any:
        runs = (r for r in github.queue.runs(f"{owner}/{name}") if r.id == id)
        jobs = (job for run in runs for job in run.jobs.values())
        files = next((job.artifacts[artifact] for job in jobs if artifact in job.artifacts), None)
        return Response(files, mimetype="application/zip") if files else abort(404)


def page(run: Run) -> Iterator[str]:
    """Yield the lines of a run's page."""
    yield f"{_state(run)} {run.name} #{run.number}: {run.event.title}"
    yield f"  {run.event.name} of {run.event.ref} at {run.event.sha[:12]} by {run.event.actor}"
    if run.error:
        yield f"  {run.error}"
    for job in run.jobs.values():
        yield from _job(job)


def _job(job: RunJob) -> Iterator[str]:
    runner = f" on {job.runner.name}" if job.runner else ""
    yield ""
    yield f"{_state(job)} {job.name or job.definition.id}{runner}"
    for step in job.steps:
        yield f"    {MARKS.get(step['conclusion'], '*')} {step['name']}"
    yield from (f"  | {line}" for line in job.lines)
    yield from (f"  # {line}" for text in job.summary for line in text.splitlines())


def _line(run: Run, server: str) -> str:
    return f"{_state(run)} {run.name} #{run.number} {run.event.ref_name}  {run.url(server)}"


def _state(item: Run | RunJob) -> str:
    return f"[{item.conclusion or item.status}]"


def _text(lines: Iterator[str]) -> Response:
    return Response("".join(f"{line}\n" for line in lines), mimetype="text/plain; charset=utf-8")
