"""The demo's developer: changes the page, pushes, and looks whether visitors notice anything."""

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
ASK_EVERY_S = 0.1
BY = ("-c", "user.name=The demo's developer", "-c", "user.email=developer@example.com")


@dataclass
class Visits:
    """What somebody met who asked for the page all the time. lost: what went wrong for them."""

    asked: int = 0
    lost: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReleasedPush:
    """A push that was released."""

    commit: str
    run: github.WorkflowRun
    visits: Visits


@dataclass(frozen=True)
class Checkout:
    """The application in a repository of its own, as its developer has it."""

    folder: Path

    @classmethod
    def make(cls, environment: Environment) -> Checkout:
        """Make a repository of app/, without the workflow, which first-deploy writes.

        One that is there is taken as it is: GitHub knows its history.
        """
        root, chosen = environment.root, environment.settings
        it = cls(root / ".sandbox" / "checkout" / chosen.app)
        if it.folder.exists():
            return it
        leave = shutil.ignore_patterns("ci", ".github", "__pycache__")
        shutil.copytree(root / "app", it.folder, ignore=leave)
        it._git("init", "--quiet", "--initial-branch", chosen.github.branch)
        server = environment.target.environ["GITHUB_SERVER_URL"]
        it._git("remote", "add", "origin", f"{server}/{chosen.github.path}.git")
        return it

    def push(self, environment: Environment) -> ReleasedPush:
        """Change the page, push it to GitHub, and wait until a visitor sees it."""
        chosen = environment.settings
        page = self.folder / "page.html"
        page.write_text(page.read_text(encoding="utf-8") + "<!-- pushed by the demo -->\n")
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", "Change the page")
        commit = self._git("rev-parse", "HEAD")[-1]
        url = f"https://{chosen.domains[0]}/"
        with visiting(url, environment.target) as visits:
            self._git("push", "--quiet", "--set-upstream", "origin", chosen.github.branch)
            run = _ended(github.repository(environment), commit)
        if run.conclusion != "success" or visits.lost:
            raise VerifyFailed(
                "The push was not released as it should be.",
                expected="a run that succeeds, and no request lost",
                observed=f"{run.conclusion}, {len(visits.lost)} of {visits.asked} requests lost",
                details=visits.lost[:3],
                next=f"read {run.url}",
            )
        return ReleasedPush(commit, run, visits)

    def _git(self, *words: str) -> tuple[str, ...]:
        quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        return process.run(["git", *BY, *words], cwd=self.folder, env=quiet).tail


@contextmanager
def visiting(url: str, target: Target) -> Iterator[Visits]:
    """Ask for a page ten times a second while the block runs."""
    visits, ending = Visits(), threading.Event()

    def visit() -> None:
        while not ending.wait(ASK_EVERY_S):
            visits.asked += 1
            try:
                probe.fetch(url, target.environ).raise_for_status()
            except (httpx.HTTPError, OSError) as error:
                visits.lost.append(f"{type(error).__name__}: {error}")

    visitor = threading.Thread(target=visit, daemon=True)
    visitor.start()
    try:
        yield visits
    finally:
        ending.set()
        visitor.join()


def _ended(repository: github.Repository, commit: str) -> github.WorkflowRun:
    """Return the one run of a commit once it is over."""
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
