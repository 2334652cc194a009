"""The job queue: start runs, assign jobs to runners, and record the results."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from daybook_sandbox.github.expressions import ExpressionError
from daybook_sandbox.github.runners import Runner
from daybook_sandbox.github.runs import (
    IN_PROGRESS,
    QUEUED,
    WAITING,
    Run,
    RunJob,
    TriggerEvent,
)
from daybook_sandbox.github.workflow import Concurrency, Workflow

LOST_S = 20
LOST = "The self-hosted runner lost communication with the server."
SUPERSEDED = "Canceling since a higher priority waiting request exists"


class JobQueue:
    """All runs and their jobs; methods may be called from any thread.

    on_hosted: starts a job for a GitHub-hosted runner and returns immediately.
    describe: returns the `github` context of a run.
    """

    def __init__(
        self,
        on_hosted: Callable[[RunJob], None],
        describe: Callable[[Run], Mapping[str, Any]],
    ) -> None:
        self._on_hosted, self._describe = on_hosted, describe
        self._runs: list[Run] = []
        self._ids = itertools.count(1)
        self._active: dict[str, Run | RunJob] = {}
        self._pending: dict[str, Run | RunJob] = {}
        self._variables: dict[str, dict[str, str]] = {}
        self.changed = threading.Condition(threading.RLock())

    def variables(self, repository: str) -> dict[str, str]:
        """Return a repository's variables as a mutable dict."""
        return self._variables.setdefault(repository, {})

    def runs(self, repository: str | None = None) -> list[Run]:
        """Return the runs of one repository or of all, newest first."""
        return [r for r in self._runs[::-1] if repository in (None, r.event.repository)]

    def jobs(self) -> list[RunJob]:
        """Return the jobs of all runs, oldest first."""
        return [job for run in self._runs for job in run.jobs.values()]

    def start(self, event: TriggerEvent, workflow: Workflow, *, only: str = "") -> Run:
        """Add a run. only: the name of the only runner that may execute its jobs."""
        with self.changed:
            run = self._new(event, workflow.path, workflow)
            run.variables = dict(self.variables(event.repository))
            run.github = self._describe(run)
            for definition in workflow.jobs.values():
                job = RunJob(next(self._ids), run, definition, only=only)
                run.jobs[definition.id] = job
            self._advance()
            return run

    def refuse(self, event: TriggerEvent, path: str, error: str) -> Run:
        """Add a run that failed to start."""
        with self.changed:
            run = self._new(event, path, None)
            run.error = error
            run.status, run.conclusion = "completed", "startup_failure"
            return run

    def take(self, runner: Runner, wait_s: float) -> RunJob | None:
        """Assign the oldest matching job to a runner; wait up to `wait_s` seconds for one."""
        with self.changed:
            self.changed.wait_for(lambda: self._next(runner) or runner.is_dropped, wait_s)
            job = self._next(runner)
            if job:
                job.status, job.runner = IN_PROGRESS, runner
                runner.is_busy = True
                job.touch()
            return job

    def by_token(self, token: str) -> RunJob | None:
        """Return the job in progress with this token."""
        running = (job for job in self.jobs() if job.status == IN_PROGRESS)
        return next((job for job in running if secrets.compare_digest(job.token, token)), None)

    def record(self, job: RunJob, report: Mapping[str, Any]) -> bool:
        """Record a runner's report on its job; return True if the job is to be cancelled."""
        with self.changed:
            job.touch()
            job.lines += report["lines"]
            job.summary += report["summary"]
            job.steps = report["steps"]
            if report.get("conclusion"):
                job.outputs = report["outputs"]
                job.environment_url = report["environment_url"]
                self._complete(job, report["conclusion"])
            return job.is_cancel_requested

    def fail(self, job: RunJob, reason: str) -> None:
        """Fail a job that no runner executes any more."""
        with self.changed:
            if not job.is_completed:
                self._complete(job, "failure", f"##[error]{reason}")

    def fail_jobs_of(self, runner: Runner) -> None:
        """Fail the job of a runner that has restarted or was removed."""
        for job in self.jobs():
            if job.runner is runner and not job.is_completed:
                self.fail(job, LOST)
        runner.is_busy = False
        with self.changed:
            self.changed.notify_all()

    def cancel(self, run: Run) -> None:
        """Cancel a run on a user's request."""
        with self.changed:
            run.cancel("The run was canceled.")
            self._advance()

    def fail_lost_jobs(self) -> None:
        """Fail jobs without a report from their runner for LOST_S."""
        for job in self.jobs():
            if job.status == IN_PROGRESS and time.monotonic() - job.last_seen > LOST_S:
                self.fail(job, LOST)

    def _new(self, event: TriggerEvent, path: str, workflow: Workflow | None) -> Run:
        number = 1 + sum(r.path == path for r in self.runs(event.repository))
        self._runs.append(Run(next(self._ids), number, event, path, workflow))
        return self._runs[-1]

    def _next(self, runner: Runner) -> RunJob | None:
        if runner.is_busy:
            return None
        return next((job for job in self.jobs() if _matches(job, runner)), None)

    def _complete(self, job: RunJob, conclusion: str, *lines: str) -> None:
        job.complete(conclusion, *lines)
        if job.runner:
            job.runner.is_busy = False
        self._advance()

    def _advance(self) -> None:
        """Start all runs and jobs that can start, until nothing changes."""
        before = None
        while before != (before := self._states()):
            for run in self._runs:
                if not run.is_completed:
                    self._advance_run(run)
        self.changed.notify_all()

    def _states(self) -> list[str]:
        return [item.status for run in self._runs for item in (run, *run.jobs.values())]

    def _advance_run(self, run: Run) -> None:
        if run.status == QUEUED and self._may_start(run, run.workflow.concurrency, run):
            run.status = IN_PROGRESS
        if run.status == IN_PROGRESS:
            for job in run.jobs.values():
                if job.status == WAITING:
                    self._advance_job(job)
        run.complete_if_done()

    def _advance_job(self, job: RunJob) -> None:
        """Queue or skip a job once all jobs that it needs are completed."""
        run, definition = job.run, job.definition
        if not all(run.jobs[need].is_completed for need in definition.needs):
            return
        try:
            scope = run.scope(job)
            job.name = scope.text(definition.name)
            if not scope.holds(definition.condition):
                job.complete("skipped")
            elif self._may_start(job, definition.concurrency, run):
                job.labels = tuple(map(scope.text, definition.runs_on))
                job.environment = scope.text(definition.environment)
                self._queue(job)
        except (ExpressionError, KeyError, ValueError) as error:
            job.complete("failure", f"##[error]{run.path}: jobs.{definition.id}: {error}")

    def _queue(self, job: RunJob) -> None:
        job.status = QUEUED
        if job.is_hosted and not job.only:
            job.status = IN_PROGRESS
            job.touch()
            self._on_hosted(job)

    def _may_start(self, item: Run | RunJob, group: Concurrency, run: Run) -> bool:
        """Return True if a run or job may start; a group keeps only its newest pending item."""
        scope = run.scope(item if isinstance(item, RunJob) else None)
        if not group.group:
            return True
        key = f"{run.event.repository} {scope.text(group.group).lower()}"
        active = self._active.get(key)
        if active is None or active is item or active.is_completed:
            self._active[key] = item
            if self._pending.get(key) is item:
                del self._pending[key]
            return True
        if group.cancels:
            active.cancel("The run was canceled by a newer one.")
        pending = self._pending.get(key)
        if pending and pending is not item and not pending.is_completed:
            older, item = sorted((pending, item), key=lambda candidate: candidate.id)
            older.cancel(SUPERSEDED)
        self._pending[key] = item
        return False


def _matches(job: RunJob, runner: Runner) -> bool:
    if job.status != QUEUED:
        return False
    if job.only:
        return job.only == runner.name
    return job.run.event.repository == runner.repository and runner.has_labels(job.labels)
