"""The demo's developer: change the page, push, and count the requests that fail meanwhile."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from daybook import github, probe, process
from daybook.environment import Environment
from daybook.errors import VerifyFailed
from daybook.target import Target

RELEASE_S = 600
REQUEST_EVERY_S = 0.1
AUTHOR = ("-c", "user.name=The demo's developer", "-c", "user.email=developer@example.com")


@dataclass
class Visits:
    """The requests of a continuous visitor. failures: the errors of failed requests."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReleasedPush:
    """A push and its successful release."""

    commit: str
    run: github.WorkflowRun
    visits: Visits


@dataclass(frozen=True)
class Checkout:
    """The application's repository on the developer's machine."""

    folder: Path

    @classmethod
    def make(cls, environment: Environment) -> Checkout:
        """Create a repository from app/ without the workflow, which first-deploy writes.

        An existing repository is used unchanged: GitHub has its history.
        """
        root, settings = environment.root, environment.settings
        checkout = cls(root / ".sandbox" / "checkout" / settings.app)
        if checkout.folder.exists():
            return checkout
        leave = shutil.ignore_patterns("ci", ".github", "__pycache__")
        shutil.copytree(root / "app", checkout.folder, ignore=leave)
        checkout._git("init", "--quiet", "--initial-branch", settings.github.branch)
        server = environment.target.environ["GITHUB_SERVER_URL"]
        checkout._git("remote", "add", "origin", f"{server}/{settings.github.path}.git")
        return checkout

    def push(self, environment: Environment) -> ReleasedPush:
        """Change the page, push it to GitHub and wait for the release."""
        settings = environment.settings
        page = self.folder / "page.html"
        page.write_text(page.read_text(encoding="utf-8") + "<!-- pushed by the demo -->\n")
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", "Change the page")
        commit = self._git("rev-parse", "HEAD")[-1]
        url = f"https://{settings.domains[0]}/"
        with visiting(url, environment.target) as visits:
            self._git("push", "--quiet", "--set-upstream", "origin", settings.github.branch)
            run = _wait_for_run(github.repository(environment), commit)
        failed = len(visits.failures)
        if run.conclusion != "success" or failed:
            raise VerifyFailed(
                "The push was not released cleanly.",
                expected="a successful run and no failed requests",
                observed=f"{run.conclusion}, {failed} of {visits.requests} requests failed",
                details=visits.failures[:3],
                next=f"read {run.url}",
            )
        return ReleasedPush(commit, run, visits)

    def _git(self, *words: str) -> tuple[str, ...]:
        quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        return process.run(["git", *AUTHOR, *words], cwd=self.folder, env=quiet).tail


@contextmanager
def visiting(url: str, target: Target) -> Iterator[Visits]:
    """Request a page ten times a second while the block runs."""
    visits, ending = Visits(), threading.Event()

    def visit() -> None:
        while not ending.wait(REQUEST_EVERY_S):
            visits.requests += 1
            try:
                probe.fetch(url, target.environ).raise_for_status()
            except (httpx.HTTPError, OSError) as error:
                visits.failures.append(f"{type(error).__name__}: {error}")

    visitor = threading.Thread(target=visit, daemon=True)
    visitor.start()
    try:
        yield visits
    finally:
        ending.set()
        visitor.join()


def _wait_for_run(repository: github.Repository, commit: str) -> github.WorkflowRun:
    """Return the only run of a commit after it has completed."""
    attempts = Retrying(
        retry=retry_if_result(lambda runs: not runs or not runs[0].conclusion),
        stop=stop_after_delay(RELEASE_S),
        wait=wait_fixed(1),
    )
    try:
        return attempts(repository.runs, commit)[0]
    except RetryError as error:
        raise VerifyFailed(
            f"The push of {commit[:12]} was not released within {RELEASE_S // 60} minutes.",
            next="daybook run diagnose -p env staging",
        ) from error
