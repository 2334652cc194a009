"""Workflow runs and their jobs, and their JSON in GitHub's API."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from daybook_sandbox.github.expressions import Scope
from daybook_sandbox.github.workflow import SELF_HOSTED, JobDefinition, Workflow

WAITING, QUEUED, IN_PROGRESS, COMPLETED = "waiting", "queued", "in_progress", "completed"
GOOD = ("success", "skipped")


@dataclass(frozen=True)
class TriggerEvent:
    """The event that triggered a run. ref: refs/heads/…; payload: its JSON."""

    name: str
    repository: str
    ref: str
    sha: str
    actor: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""

    @property
    def ref_name(self) -> str:
        return self.ref.split("/", 2)[-1]


@dataclass
class RunJob:
    """A job of a run. only: the name of the only runner that may execute it; empty for any."""

    id: int
    run: Run = field(repr=False)
    definition: JobDefinition
    name: str = ""
    labels: tuple[str, ...] = ()
    environment: str = ""
    status: str = WAITING
    conclusion: str | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)
    outputs: Mapping[str, str] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    environment_url: str = ""
    runner: Any = None
    only: str = ""
    token: str = field(default_factory=lambda: f"ghs_{secrets.token_hex(18)}")
    last_seen: float = 0.0
    is_cancel_requested: bool = False

    @property
    def is_hosted(self) -> bool:
        return SELF_HOSTED not in self.labels

    @property
    def is_completed(self) -> bool:
        return self.status == COMPLETED

    def touch(self) -> None:
        """Record a report of the runner."""
        self.last_seen = time.monotonic()

    def complete(self, conclusion: str, *lines: str) -> None:
        """Complete the job; steps that have not completed are cancelled."""
        self.status, self.conclusion = COMPLETED, conclusion
        self.lines += lines
        for step in self.steps:
            if step["status"] != COMPLETED:
                step |= {"status": COMPLETED, "conclusion": "cancelled"}

    def cancel(self, reason: str) -> None:
        """Request cancellation; a job without a runner is cancelled immediately."""
        self.is_cancel_requested = True
        if self.status in (WAITING, QUEUED):
            self.complete("cancelled", reason)

    def document(self, server: str) -> dict[str, Any]:
        """Return the JSON of GitHub's API."""
        return {
            "id": self.id,
            "run_id": self.run.id,
            "name": self.name or self.definition.id,
            "status": self.status,
            "conclusion": self.conclusion,
            "labels": self.labels,
            "runner_name": self.runner.name if self.runner else None,
            "steps": self.steps,
            "head_sha": self.run.event.sha,
            "html_url": f"{self.run.url(server)}/job/{self.id}",
        }


@dataclass
class Run:
    """A run of a workflow. error: the reason if it failed to start."""

    id: int
    number: int
    event: TriggerEvent
    path: str
    workflow: Workflow | None = None
    jobs: dict[str, RunJob] = field(default_factory=dict)
    status: str = QUEUED
    conclusion: str | None = None
    error: str = ""
    created: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def is_completed(self) -> bool:
        return self.status == COMPLETED

    @property
    def name(self) -> str:
        return self.workflow.name if self.workflow else self.path

    def url(self, server: str) -> str:
        """Return the URL of the run's page."""
        return f"{server}/{self.event.repository}/actions/runs/{self.id}"

    def cancel(self, reason: str) -> None:
        """Cancel all jobs."""
        for job in self.jobs.values():
            if not job.is_completed:
                job.cancel(reason)
        self.complete_if_done()

    def scope(self, job: RunJob | None = None) -> Scope:
        """Return the scope of expressions in the run, or in one of its jobs."""
        needs = [self.jobs[id] for id in job.definition.needs] if job else []
        results = {
            need.definition.id: {"result": need.conclusion, "outputs": need.outputs}
            for need in needs
        }
        contexts = {"inputs": self.event.inputs, "needs": results, "vars": self.variables}
        return Scope(contexts | {"github": self.github}, self._status(job))

    variables: Mapping[str, str] = field(default_factory=dict)
    github: Mapping[str, Any] = field(default_factory=dict)

    def complete_if_done(self) -> None:
        """Complete the run once all its jobs are completed."""
        ends = [job.conclusion for job in self.jobs.values()]
        if self.is_completed or None in ends:
            return
        worst = next((end for end in ("failure", "cancelled") if end in ends), "success")
        self.status, self.conclusion = COMPLETED, "skipped" if set(ends) == {"skipped"} else worst

    def document(self, server: str) -> dict[str, Any]:
        """Return the JSON of GitHub's API."""
        return {
            "id": self.id,
            "name": self.name,
            "display_title": self.event.title,
            "run_number": self.number,
            "run_attempt": 1,
            "event": self.event.name,
            "status": self.status,
            "conclusion": self.conclusion,
            "head_branch": self.event.ref_name,
            "head_sha": self.event.sha,
            "path": self.path,
            "created_at": self.created.isoformat(timespec="seconds"),
            "html_url": self.url(server),
        }

    def _status(self, job: RunJob | None) -> str:
        """Return the combined result of all jobs that a job depends on, for status functions."""
        ends = {self.jobs[id].conclusion for id in self._before(job)} if job else set()
        if job and job.is_cancel_requested:
            return "cancelled"
        return "failure" if "failure" in ends else "success" if ends <= {"success"} else "other"

    def _before(self, job: RunJob) -> set[str]:
        direct = set(job.definition.needs)
        return direct.union(*(self._before(self.jobs[id]) for id in direct))
