"""The board of all runs: what starts when, who gets which job, and how each ends."""

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
    """Keeps every run; all its methods may be called from any thread.

    on_hosted: starts a job that needs no runner of the user's; it returns at once.
    describe: makes GitHub's `github` context of a run.
    """

    def __init__(
        self,
        on_hosted: Callable[[RunJob], None],
        describe: Callable[[Run], Mapping[str, Any]],
    ) -> None:
        self._on_hosted, self._describe = on_hosted, describe
        self._runs: list[Run] = []
        self._ids = itertools.count(1)
        self._turns: dict[str, Run | RunJob] = {}
        self._waiting: dict[str, Run | RunJob] = {}
        self._variables: dict[str, dict[str, str]] = {}
        self.changed = threading.Condition(threading.RLock())

    def variables(self, repository: str) -> dict[str, str]:
        """Return a repository's variables, to be read and changed."""
        return self._variables.setdefault(repository, {})

    def runs(self, repository: str | None = None) -> list[Run]:
        """Return the runs of one repository or of all, the newest first."""
        return [r for r in self._runs[::-1] if repository in (None, r.event.repository)]

    def jobs(self) -> list[RunJob]:
        """Return the jobs of all runs, the oldest first."""
        return [job for run in self._runs for job in run.jobs.values()]

    def start(self, event: TriggerEvent, workflow: Workflow, *, only: str = "") -> Run:
        """Put a run on the board. only: the runner that its jobs are for."""
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
        """Put a run on the board that failed before it began."""
        with self.changed:
            run = self._new(event, path, None)
            run.error = error
            run.status, run.conclusion = "completed", "startup_failure"
            return run

    def take(self, runner: Runner, wait_s: float) -> RunJob | None:
        """Give a runner the oldest job that is for it; wait a while for one."""
        with self.changed:
            self.changed.wait_for(lambda: self._next(runner) or runner.is_dropped, wait_s)
            job = self._next(runner)
            if job:
                job.status, job.runner = IN_PROGRESS, runner
                runner.is_busy = True
                job.heard()
            return job

    def by_token(self, token: str) -> RunJob | None:
        """Return the job in progress whose token this is."""
        alive = (job for job in self.jobs() if job.status == IN_PROGRESS)
        return next((job for job in alive if secrets.compare_digest(job.token, token)), None)

    def hear(self, job: RunJob, told: Mapping[str, Any]) -> bool:
        """Take down what a runner tells of its job; return whether it is to be cancelled."""
        with self.changed:
            job.heard()
            job.lines += told["lines"]
            job.summary += told["summary"]
            job.steps = told["steps"]
            if told.get("conclusion"):
                job.outputs = told["outputs"]
                job.environment_url = told["environment_url"]
                self._end(job, told["conclusion"])
            return job.is_unwanted

    def give_up(self, job: RunJob, why: str) -> None:
        """Fail a job that nobody does any more."""
        with self.changed:
            if not job.is_over:
                self._end(job, "failure", f"##[error]{why}")

    def forget(self, runner: Runner) -> None:
        """Fail what a runner was at: it has begun anew, or is gone."""
        for job in self.jobs():
            if job.runner is runner and not job.is_over:
                self.give_up(job, LOST)
        runner.is_busy = False
        with self.changed:
            self.changed.notify_all()

    def cancel(self, run: Run) -> None:
        """End a run on somebody's word."""
        with self.changed:
            run.cancel("The run was canceled.")
            self._advance()

    def look(self) -> None:
        """Fail the jobs whose runner has not been heard of for long."""
        for job in self.jobs():
            if job.status == IN_PROGRESS and time.monotonic() - job.seen > LOST_S:
                self.give_up(job, LOST)

    def _new(self, event: TriggerEvent, path: str, workflow: Workflow | None) -> Run:
        number = 1 + sum(r.path == path for r in self.runs(event.repository))
        self._runs.append(Run(next(self._ids), number, event, path, workflow))
        return self._runs[-1]

    def _next(self, runner: Runner) -> RunJob | None:
        if runner.is_busy:
            return None
        return next((job for job in self.jobs() if _is_for(job, runner)), None)

    def _end(self, job: RunJob, conclusion: str, *lines: str) -> None:
        job.end(conclusion, *lines)
        if job.runner:
            job.runner.is_busy = False
        self._advance()

    def _advance(self) -> None:
        """Start whatever may start now, until nothing more may."""
        before = None
        while before != (before := self._states()):
            for run in self._runs:
                if not run.is_over:
                    self._consider_run(run)
        self.changed.notify_all()

    def _states(self) -> list[str]:
        return [each.status for run in self._runs for each in (run, *run.jobs.values())]

    def _consider_run(self, run: Run) -> None:
        if run.status == QUEUED and self._has_turn(run, run.workflow.concurrency, run):
            run.status = IN_PROGRESS
        if run.status == IN_PROGRESS:
            for job in run.jobs.values():
                if job.status == WAITING:
                    self._consider(job)
        run.settle()

    def _consider(self, job: RunJob) -> None:
        """Queue a job, or skip it, when all that it needs is over."""
        run, definition = job.run, job.definition
        if not all(run.jobs[need].is_over for need in definition.needs):
            return
        try:
            scope = run.scope(job)
            job.name = scope.text(definition.name)
            if not scope.holds(definition.condition):
                job.end("skipped")
            elif self._has_turn(job, definition.concurrency, run):
                job.labels = tuple(map(scope.text, definition.runs_on))
                job.environment = scope.text(definition.environment)
                self._queue(job)
        except (ExpressionError, KeyError, ValueError) as error:
            job.end("failure", f"##[error]{run.path}: jobs.{definition.id}: {error}")

    def _queue(self, job: RunJob) -> None:
        job.status = QUEUED
        if job.is_hosted and not job.only:
            job.status = IN_PROGRESS
            job.heard()
            self._on_hosted(job)

    def _has_turn(self, who: Run | RunJob, group: Concurrency, run: Run) -> bool:
        """Tell whether it may go on; of those that wait in a group, the newest stays."""
        scope = run.scope(who if isinstance(who, RunJob) else None)
        if not group.group:
            return True
        key = f"{run.event.repository} {scope.text(group.group).lower()}"
        holder = self._turns.get(key)
        if holder is None or holder is who or holder.is_over:
            self._turns[key] = who
            if self._waiting.get(key) is who:
                del self._waiting[key]
            return True
        if group.cancels:
            holder.cancel("The run was canceled by a newer one.")
        other = self._waiting.get(key)
        if other and other is not who and not other.is_over:
            older = min(other, who, key=lambda each: each.id)
            older.cancel(SUPERSEDED)
            who = max(other, who, key=lambda each: each.id)
        self._waiting[key] = who
        return False


def _is_for(job: RunJob, runner: Runner) -> bool:
    if job.status != QUEUED:
        return False
    if job.only:
        return job.only == runner.name
    return job.run.event.repository == runner.repository and runner.can(job.labels)
