"""The application's own repository, and GitHub as its developer sees it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

WORKFLOW = ".github/workflows/deploy.yml"
RUN_S = 300


@dataclass(frozen=True)
class Shop:
    """A checkout of a repository on GitHub. server, api: addresses; token: the developer's own."""

    root: Path
    name: str
    server: str
    api: str
    token: str

    def git(self, *words: str) -> str:
        """Run git in the repository, and return what it says."""
        done = subprocess.run(
            ["git", "-c", "user.name=Ann", "-c", "user.email=ann@example.com", *words],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    def commit(self, file: str, text: str) -> str:
        """Change a file, commit, and return the commit."""
        (self.root / file).write_text(text)
        self.git("commit", "--all", "--quiet", "-m", f"Change {file}")
        return self.git("rev-parse", "HEAD")

    def add(self, words: str) -> str:
        """Add a comment to the page, commit, and return the commit."""
        text = (self.root / "page.html").read_text()
        return self.commit("page.html", f"{text}<!-- {words} -->\n")

    def ask(self, path: str) -> Any:
        """Ask GitHub's API."""
        url = f"{self._actions}/{path}"
        return httpx.get(url, headers=self._signed, timeout=20).raise_for_status().json()

    def drop_runner(self, id: int) -> None:
        """Have GitHub forget a runner."""
        url = f"{self._actions}/runners/{id}"
        httpx.delete(url, headers=self._signed, timeout=20).raise_for_status()

    def runs(self, commit: str) -> list[dict]:
        return self.ask(f"runs?head_sha={commit}")["workflow_runs"]

    def jobs(self, run: int) -> dict[str, str]:
        """Return how each job ended: {"Release": "success"}."""
        return {job["name"]: job["conclusion"] for job in self.ask(f"runs/{run}/jobs")["jobs"]}

    def ends(self, run: int, within_s: float = RUN_S) -> str:
        """Wait for the end of a run and return its conclusion."""
        over = retry_if_result(lambda found: found["status"] != "completed")
        poll = Retrying(retry=over, stop=stop_after_delay(within_s), wait=wait_fixed(0.5))
        return poll(lambda: self.ask(f"runs/{run}"))["conclusion"]

    def push(self, branch: str) -> tuple[int, str]:
        """Push what is checked out; return the number of the run that starts, and its end."""
        self.git("push", "--quiet", "origin", f"HEAD:{branch}")
        started = self.runs(self.git("rev-parse", "HEAD"))
        [run] = [each["id"] for each in started if each["head_branch"] == branch]
        return run, self.ends(run)

    def dispatch(self, workflow: str, branch: str, **inputs: str) -> int:
        """Start a workflow by hand; return the run's number."""
        known = {each["id"] for each in self.ask("runs")["workflow_runs"]}
        self._post(f"{self._actions}/workflows/{workflow}/dispatches", ref=branch, inputs=inputs)
        return next(
            each["id"] for each in self.ask("runs")["workflow_runs"] if each["id"] not in known
        )

    def said(self, run: int) -> str:
        """Return the page of a run: its jobs, its steps, its log."""
        return httpx.get(f"{self.server}/{self.name}/actions/runs/{run}", timeout=20).text

    def hand_over(self, runner: str, script: str, **differs: str) -> int:
        """Let GitHub give a runner a job; returns the run's number. differs: repository, ref, …"""
        job = {
            "repository": self.name,
            "ref": "refs/heads/staging",
            "workflow": WORKFLOW,
            "runner": runner,
            "run": script,
        }
        return self._post(f"{self.server}/_sandbox/jobs", **(job | differs)).json()["id"]

    @property
    def _actions(self) -> str:
        return f"{self.api}/repos/{self.name}/actions"

    @property
    def _signed(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _post(self, url: str, **said: Any) -> httpx.Response:
        return httpx.post(url, json=said, headers=self._signed, timeout=20).raise_for_status()


def open_shop(world: Any, life: Any, root: Path) -> Shop:
    """Return the application's repository in a folder, as far as Daybook writes it."""
    leave = shutil.ignore_patterns("ci", ".github", "__pycache__")
    shutil.copytree(world.root / "app", root, ignore=leave)
    world.succeed("github", "workflow", "staging", str(root))
    it = at_github(life, root)
    it.git("init", "--quiet", "--initial-branch", "staging")
    it.git("add", "--all")
    it.git("commit", "--quiet", "-m", "Begin")
    it.git("remote", "add", "origin", f"{it.server}/{it.name}.git")
    return it


def at_github(life: Any, root: Path) -> Shop:
    """Return the life's repository as it is at the sandbox's GitHub, checked out in a folder."""
    env = life.sandbox.env
    token = (life.root / ".sandbox/github-token").read_text().strip()
    name = f"octo-org/{life.app}"
    return Shop(root, name, env["GITHUB_SERVER_URL"], env["GITHUB_API_URL"], token)
