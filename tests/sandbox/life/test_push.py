"""From a push to a release: through a runner on the host, its hook and its one sudo rule."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1800)]
WORKFLOW = ".github/workflows/deploy.yml"
RUN_S = 300


@dataclass(frozen=True)
class Shop:
    """The application's own repository, and GitHub as its developer sees it."""

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
        headers = {"Authorization": f"Bearer {self.token}"}
        url = f"{self.api}/repos/{self.name}/actions/{path}"
        return httpx.get(url, headers=headers, timeout=20).raise_for_status().json()

    def runs(self, commit: str) -> list[dict]:
        return self.ask(f"runs?head_sha={commit}")["workflow_runs"]

    def jobs(self, run: int) -> dict[str, str]:
        """Return how each job ended: {"Release": "success"}."""
        return {job["name"]: job["conclusion"] for job in self.ask(f"runs/{run}/jobs")["jobs"]}

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
        answer = httpx.post(f"{self.server}/_sandbox/jobs", json=job | differs, timeout=20)
        return answer.raise_for_status().json()["id"]


@pytest.fixture(scope="module")
def shop(serving, life, tmp_path_factory) -> Shop:
    """Return the application's repository, with the workflow that Daybook writes into it."""
    root = tmp_path_factory.mktemp("shop") / life.app
    leave = shutil.ignore_patterns("ci", ".github", "__pycache__")
    shutil.copytree(serving.root / "app", root, ignore=leave)
    serving.succeed("github", "workflow", "staging", str(root))
    env = life.sandbox.env
    token = (serving.root / ".sandbox/github-token").read_text().strip()
    name = f"octo-org/{life.app}"
    it = Shop(root, name, env["GITHUB_SERVER_URL"], env["GITHUB_API_URL"], token)
    it.git("init", "--quiet", "--initial-branch", "staging")
    it.git("add", "--all")
    it.git("commit", "--quiet", "-m", "Begin")
    it.git("remote", "add", "origin", f"{it.server}/{name}.git")
    return it


@pytest.fixture
def ends(shop, eventually):
    """Return what waits for the end of a run and gives its conclusion."""

    def wait(run: int, where: Shop = shop) -> str:
        def ended() -> str:
            found = where.ask(f"runs/{run}")
            return found["conclusion"] if found["status"] == "completed" else ""

        return eventually(ended, within_s=RUN_S)

    return wait


@pytest.fixture
def push(shop, ends):
    """Return what pushes a branch and waits for its run: (number, conclusion)."""

    def go(branch: str) -> tuple[int, str]:
        shop.git("push", "--quiet", "origin", f"HEAD:{branch}")
        found = [
            run for run in shop.runs(shop.git("rev-parse", "HEAD")) if run["head_branch"] == branch
        ]
        assert found, f"a push to {branch} begins a run"
        return found[0]["id"], ends(found[0]["id"])

    return go


def test_a_push_to_staging_changes_the_page_and_no_request_is_lost(serving, life, shop, push):
    lost, asked, stop = [], [], threading.Event()

    def visit() -> None:
        while not stop.is_set():
            status = life.fetch("staging", "/version").status_code
            asked.append(status)
            if status != 200:
                lost.append(status)

    visitor = threading.Thread(target=visit)
    visitor.start()
    commit = shop.add("pushed")
    run, conclusion = push("staging")
    stop.set()
    visitor.join()
    assert conclusion == "success", shop.said(run)
    assert shop.jobs(run)["Release"] == "success"
    assert life.version("staging")["version"] == commit[:12]
    assert "<!-- pushed -->" in life.fetch("staging", "/").text
    assert (lost, len(asked) > 10) == ([], True)
    [releases] = json.loads(serving.succeed("release", "list", "staging", "--json")).values()
    assert releases[0]["by"] == "GitHub Actions"
    assert releases[0]["run"] == f"{shop.server}/{shop.name}/actions/runs/{run}"
    assert f"{commit[:12]}" in shop.said(run)


def test_main_releases_to_production_what_staging_has_tried(life, shop, push):
    staging = life.version("staging")["version"]
    run, conclusion = push("main")
    assert conclusion == "success", shop.said(run)
    assert "ECR has" in shop.said(run)
    assert life.version("production")["version"] == staging


def test_a_push_to_another_branch_releases_nothing(life, shop):
    before = life.version("staging"), life.version("production")
    commit = shop.commit("page.html", "a topic\n")
    shop.git("push", "--quiet", "origin", "HEAD:topic")
    assert shop.runs(commit) == []
    assert (life.version("staging"), life.version("production")) == before
    shop.git("reset", "--quiet", "--hard", "HEAD~1")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("ci/test", "#!/usr/bin/env bash\nexit 1\n"),
        ("Dockerfile", "FROM debian:trixie-slim\nRUN false\n"),
    ],
)
def test_a_failing_test_or_build_releases_nothing(life, shop, push, file, text):
    before = life.version("staging")
    shop.commit(file, text)
    run, conclusion = push("staging")
    shop.git("revert", "--no-edit", "HEAD")
    assert conclusion == "failure"
    assert shop.jobs(run)["Release"] == "skipped"
    assert life.version("staging") == before


@pytest.mark.parametrize(
    "differs",
    [
        {"ref": "refs/heads/topic"},
        {"ref": "refs/heads/main"},
        {"ref": "refs/pull/7/merge"},
        {"repository": "mallory/shop"},
        {"workflow": ".github/workflows/other.yml"},
    ],
    ids=lambda differs: next(iter(differs.values())),
)
def test_the_hook_refuses_a_job_that_is_not_this_environments(life, shop, ends, differs):
    run = shop.hand_over(f"{life.app}-staging-1", "echo it-ran-$((6 * 7))", **differs)
    theirs = replace(shop, name=differs.get("repository", shop.name))
    assert ends(run, theirs) == "failure"
    said = theirs.said(run)
    assert "This runner releases staging and refuses this job." in said
    assert "it-ran-42" not in said


TRIES = """
set +e +o pipefail
digest=$(printf '0f%.0s' $(seq 32))
deploy=$(sudo -n -l | sed -n 's/.*\\^\\(.*\\)@sha256.*/\\1/p' | sed 's/\\[\\.\\]/./g')
one=/usr/local/sbin/release-image
try() { if "$@" >/dev/null 2>&1 </dev/null; then echo "WORKED: $*"; else echo "refused: $*"; fi; }
try docker ps
try curl --max-time 3 --unix-socket /run/docker.sock http://docker/containers/json
try ls /srv/APP
try sh -c 'cat /srv/APP/releases/*/environment.json'
try cat /etc/shadow
try cat /root/.docker/config.json
try curl --max-time 3 -X PUT -H X-aws-ec2-metadata-token-ttl-seconds:60 http://169.254.169.254/latest/api/token
try sudo -n id
try sudo -n -u app id
try sudo -n /bin/sh
try sudo -n $one
try sudo -n $one --help
try sudo -n $one "$deploy@sha256:$digest"
try sudo -n $one "$deploy:latest" 1
try sudo -n $one "mallory/$deploy@sha256:$digest" 1
try sudo -n $one "$deploy@sha256:$digest" 1 --secrets X=1
try sudo -n $one "$deploy@sha256:$digest" '1; id'
try sudo -n $one "$deploy@sha256:$digest 1"
try sudo -n $one "$deploy@sha256:$digest" "1
2"
try sudo -n -E PATH=/tmp:$PATH $one "$deploy@sha256:$digest" x
try sudo -n /usr/local/sbin/../sbin/release-image x 1
try sudo -n /usr/local/sbin/release list
try sudo -n systemd-run id
try systemd-run id
try systemctl stop caddy
try sh -c 'echo exit 0 > /usr/local/lib/daybook/job-started.sh'
try sh -c 'echo {} > /etc/daybook/runner.json'
try sh -c 'echo ACTIONS_RUNNER_HOOK_JOB_STARTED= > ~/.env'
try mv "$HOME/.env" "$HOME/.env.old"
try nft flush ruleset
try kill -TERM 1
id; id -nG
"""


def test_the_runners_user_becomes_nothing_by_anything_it_may_run(life, shop, ends):
    run = shop.hand_over(f"{life.app}-staging-1", TRIES.replace("APP", life.app))
    assert ends(run) == "success", shop.said(run)
    said = [line.removeprefix("  | ") for line in shop.said(run).splitlines()]
    assert [line for line in said if line.startswith("WORKED")] == []
    # As many as there are, the one whose argument has two lines included.
    assert len([line for line in said if line.startswith("refused: ")]) == TRIES.count("\ntry ")
    assert "github-runner" in said


KILL = """
until grep --quiet phase /srv/APP/state.json; do sleep 0.05; done
systemctl kill --signal KILL github-runner
while grep --quiet phase /srv/APP/state.json; do sleep 0.2; done
"""
"""On the host, where a release may be over in three seconds: wait for one, strike, wait on."""


def test_a_runner_killed_in_the_middle_leaves_a_whole_version_and_the_next_push_works(
    life, shop, push
):
    before = life.version("staging")["version"]
    commit = shop.add("struck")
    shop.git("push", "--quiet", "origin", "HEAD:staging")
    strike = shlex.quote(KILL.replace("APP", life.app))
    life.out("staging", f"sudo timeout {RUN_S} sh -c {strike}")
    assert life.version("staging")["version"] in (before, commit[:12])
    shop.add("pushed again")
    run, conclusion = push("staging")
    assert conclusion == "success", shop.said(run)
    assert "<!-- pushed again -->" in life.fetch("staging", "/").text


@pytest.mark.faults
def test_a_runner_that_github_has_dropped_is_registered_anew(serving, life, shop, eventually):
    name = f"{life.app}-staging-1"
    [dropped] = [each for each in shop.ask("runners")["runners"] if each["name"] == name]
    headers = {"Authorization": f"Bearer {shop.token}"}
    url = f"{shop.api}/repos/{shop.name}/actions/runners/{dropped['id']}"
    httpx.delete(url, headers=headers, timeout=20).raise_for_status()
    assert "github_runner : Start the runner" in serving.step("configure", "staging")
    changes = [change["what"] for change in serving.record("staging", "configure")["changes"]]
    assert "github_runner : Start the runner" in changes
    known = lambda: [r["status"] for r in shop.ask("runners")["runners"] if r["name"] == name]  # noqa: E731
    eventually(lambda: known() == ["online"])
    assert "no changes" in serving.step("configure", "staging").lower()
