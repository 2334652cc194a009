"""The application's repository, and its developer's access to GitHub."""

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
    """A checkout of a repository on GitHub. server, api: URLs; token: the developer's token."""

    root: Path
    name: str
    server: str
    api: str
    token: str

    def git(self, *words: str) -> str:
        """Run git in the repository and return its output."""
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
        """Replace a file, commit, and return the commit."""
        (self.root / file).write_text(text)
        self.git("commit", "--all", "--quiet", "-m", f"Change {file}")
        return self.git("rev-parse", "HEAD")

    def add(self, words: str) -> str:
        """Add a comment to the page, commit, and return the commit."""
        text = (self.root / "page.html").read_text()
        return self.commit("page.html", f"{text}<!-- {words} -->\n")

    def ask(self, path: str) -> Any:
        """Return the response of a GET to GitHub's API."""
        url = f"{self._actions}/{path}"
        return httpx.get(url, headers=self._signed, timeout=20).raise_for_status().json()

    def drop_runner(self, id: int) -> None:
        """Remove a runner from GitHub."""
        url = f"{self._actions}/runners/{id}"
        httpx.delete(url, headers=self._signed, timeout=20).raise_for_status()

    def runs(self, commit: str) -> list[dict]:
        return self.ask(f"runs?head_sha={commit}")["workflow_runs"]

    def jobs(self, run: int) -> dict[str, str]:
        """Return the conclusion of each job: {"Release": "success"}."""
        return {job["name"]: job["conclusion"] for job in self.ask(f"runs/{run}/jobs")["jobs"]}

    def conclusion(self, run: int, within_s: float = RUN_S) -> str:
        """Wait for a run to complete and return its conclusion."""
        is_open = retry_if_result(lambda shown: shown["status"] != "completed")
        poll = Retrying(retry=is_open, stop=stop_after_delay(within_s), wait=wait_fixed(0.5))
        return poll(lambda: self.ask(f"runs/{run}"))["conclusion"]

    def push(self, branch: str) -> tuple[int, str]:
        """Push HEAD; return the triggered run's id and its conclusion."""
        self.git("push", "--quiet", "origin", f"HEAD:{branch}")
        started = self.runs(self.git("rev-parse", "HEAD"))
        [run] = [shown["id"] for shown in started if shown["head_branch"] == branch]
        return run, self.conclusion(run)

    def dispatch(self, workflow: str, branch: str, **inputs: str) -> int:
        """Start a workflow manually; return the run's id."""
        known = {run["id"] for run in self.ask("runs")["workflow_runs"]}
        self._post(f"{self._actions}/workflows/{workflow}/dispatches", ref=branch, inputs=inputs)
        return next(
            run["id"] for run in self.ask("runs")["workflow_runs"] if run["id"] not in known
        )

    def page(self, run: int) -> str:
        """Return a run's page: its jobs, steps and log."""
        return httpx.get(f"{self.server}/{self.name}/actions/runs/{run}", timeout=20).text

    def add_job(self, runner: str, script: str, **changes: str) -> int:
        """Give a runner a job; return the run's id. changes: repository, ref or workflow."""
        job = {
            "repository": self.name,
            "ref": "refs/heads/staging",
            "workflow": WORKFLOW,
            "runner": runner,
            "run": script,
        }
        return self._post(f"{self.server}/_sandbox/jobs", **(job | changes)).json()["id"]

    @property
    def _actions(self) -> str:
        return f"{self.api}/repos/{self.name}/actions"

    @property
    def _signed(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _post(self, url: str, **content: Any) -> httpx.Response:
        return httpx.post(url, json=content, headers=self._signed, timeout=20).raise_for_status()


def open_shop(world: Any, life: Any, root: Path) -> Shop:
    """Create the application's repository in a folder, with the files that Daybook writes."""
    ignored = shutil.ignore_patterns("ci", ".github", "__pycache__")
    shutil.copytree(world.root / "app", root, ignore=ignored)
    world.succeed("github", "workflow", "staging", str(root))
    shop = at_github(life, root)
    shop.git("init", "--quiet", "--initial-branch", "staging")
    shop.git("add", "--all")
    shop.git("commit", "--quiet", "-m", "Begin")
    shop.git("remote", "add", "origin", f"{shop.server}/{shop.name}.git")
    return shop


def at_github(life: Any, root: Path) -> Shop:
    """Return the application's repository at the sandbox's GitHub, for a checkout in a folder."""
    env = life.sandbox.env
    token = (life.root / ".sandbox/github-token").read_text().strip()
    name = f"octo-org/{life.app}"
    return Shop(root, name, env["GITHUB_SERVER_URL"], env["GITHUB_API_URL"], token)
