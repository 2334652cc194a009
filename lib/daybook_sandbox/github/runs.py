"""A run and its jobs: what is known of each, and in which words GitHub tells it."""

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
    """What made a run. ref: refs/heads/…; payload: GitHub's JSON of it."""

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
    """One job of a run. only: the one runner that may have it; empty for any that fits."""

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
    seen: float = 0.0
    is_unwanted: bool = False

    @property
    def is_hosted(self) -> bool:
        return SELF_HOSTED not in self.labels

    @property
    def is_over(self) -> bool:
        return self.status == COMPLETED

    def heard(self) -> None:
        """Note that whoever does it has just been heard of."""
        self.seen = time.monotonic()

    def end(self, conclusion: str, *lines: str) -> None:
        """Complete it."""
        self.status, self.conclusion = COMPLETED, conclusion
        self.lines += lines
        for step in self.steps:
            if step["status"] != COMPLETED:
                step |= {"status": COMPLETED, "conclusion": "cancelled"}

    def cancel(self, why: str) -> None:
        """Have it end: at once where nobody does it yet."""
        self.is_unwanted = True
        if self.status in (WAITING, QUEUED):
            self.end("cancelled", why)

    def document(self, server: str) -> dict[str, Any]:
        """Return GitHub's words for it."""
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
    """One run of a workflow. error: why it could not be started at all."""

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
    def is_over(self) -> bool:
        return self.status == COMPLETED

    @property
    def name(self) -> str:
        return self.workflow.name if self.workflow else self.path

    def url(self, server: str) -> str:
        """Return the address of its page."""
        return f"{server}/{self.event.repository}/actions/runs/{self.id}"

    def cancel(self, why: str) -> None:
        """Have every job of it end."""
        for job in self.jobs.values():
            if not job.is_over:
                job.cancel(why)
        self.settle()

    def scope(self, job: RunJob | None = None) -> Scope:
        """Return what its expressions may speak of, at its start or for one of its jobs."""
        needs = [self.jobs[id] for id in job.definition.needs] if job else []
        told = {
            need.definition.id: {"result": need.conclusion, "outputs": need.outputs}
            for need in needs
        }
        contexts = {"inputs": self.event.inputs, "needs": told, "vars": self.variables}
        return Scope(contexts | {"github": self.github}, self._status(job))

    variables: Mapping[str, str] = field(default_factory=dict)
    github: Mapping[str, Any] = field(default_factory=dict)

    def settle(self) -> None:
        """Complete the run when its jobs are."""
        ends = [job.conclusion for job in self.jobs.values()]
        if self.is_over or None in ends:
            return
        worst = next((each for each in ("failure", "cancelled") if each in ends), "success")
        self.status, self.conclusion = COMPLETED, "skipped" if set(ends) == {"skipped"} else worst

    def document(self, server: str) -> dict[str, Any]:
        """Return GitHub's words for it."""
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
        """Return what a job's success() and its kind ask: how all that comes before it ended."""
        ends = {self.jobs[id].conclusion for id in self._before(job)} if job else set()
        if job and job.is_unwanted:
            return "cancelled"
        return "failure" if "failure" in ends else "success" if ends <= {"success"} else "other"

    def _before(self, job: RunJob) -> set[str]:
        direct = set(job.definition.needs)
        return direct.union(*(self._before(self.jobs[id]) for id in direct))
