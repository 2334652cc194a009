"""The simulated GitHub on loopback: pushes, their jobs, and an installed runner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed
from werkzeug.serving import make_server

from daybook_sandbox.github.github import GitHub
from daybook_sandbox.github.service import _Handler
from daybook_sandbox.github.web import application

REPOSITORY = "daybook/hello"
COMMIT = "0123456789012345678901234567890123456789"
DEPLOY = f"""\
name: Deploy
on:
  push:
    branches: [main, staging]
  workflow_dispatch:
    inputs:
      greeting: {{required: true}}
permissions: {{contents: read}}
jobs:
  build:
    runs-on: ubuntu-24.04
    outputs:
      word: ${{{{ steps.say.outputs.word }}}}
    steps:
      - uses: actions/checkout@{COMMIT} # v0
      - id: say
        run: ./say.sh
  deploy:
    needs: build
    runs-on: [self-hosted, staging]
    steps:
      - run: echo "released ${{{{ needs.build.outputs.word }}}} as $RUNNER_NAME"
"""
SAY = '#!/bin/sh\necho "::add-mask::hunter2"\necho hunter2\necho word=hello >> "$GITHUB_OUTPUT"\n'


def until(condition, within_s: float = 30) -> Any:
    """Return the result of `condition` once it is true."""
    return Retrying(
        retry=retry_if_result(lambda result: not result),
        stop=stop_after_delay(within_s),
        wait=wait_fixed(0.05),
    )(condition)


@dataclass
class Clone:
    """A working copy of a repository."""

    folder: Path
    server: str

    def git(self, *arguments: str) -> str:
        env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
        author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
        done = subprocess.run(
            ["git", *author, *arguments], cwd=self.folder, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)

    def push(self, branch: str = "staging") -> str:
        """Commit and push all changes; return git's output."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "A change")
        return self.git("push", self.server + f"/{REPOSITORY}.git", f"HEAD:refs/heads/{branch}")


@dataclass
class World:
    """A server and its clients. caller: the identity that all callers get."""

    github: GitHub
    tmp: Path
    caller: str = "operator"
    processes: list[subprocess.Popen] = field(default_factory=list)

    def clone(self) -> Clone:
        clone = Clone(self.tmp / "clone", self.github.server)
        clone.folder.mkdir()
        clone.git("init", "--quiet", "--initial-branch=main")
        clone.write(**{".github__workflows__deploy.yml": DEPLOY, "say.sh": SAY})
        return clone

    def api(self, method: str, path: str, content: Any = None, token: str | None = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        url = f"{self.github.server}/api/v3/repos/{REPOSITORY}{path}"
        request = urllib.request.Request(url, body, method=method)
        request.add_header("Authorization", f"Bearer {token or self.github.token}")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def install(self) -> Path:
        """Unpack the runner's package like the Ansible role does."""
        path = "/actions/runner/releases/download/v2.335.1/actions-runner-linux-x64-2.335.1.tar.gz"
        with urllib.request.urlopen(self.github.server + path) as answer:
            content = answer.read()
        folder = self.tmp / "runner"
        with tarfile.open(fileobj=BytesIO(content)) as tar:
            tar.extractall(folder, filter="data")
        return folder

    def config(self, folder: Path, *arguments: str, token: str) -> subprocess.CompletedProcess:
        env = os.environ | {"RUNNER_ALLOW_RUNASROOT": "1", "ACTIONS_RUNNER_INPUT_TOKEN": token}
        return subprocess.run(
            [folder / "config.sh", *arguments], env=env, capture_output=True, text=True
        )

    def register(self, folder: Path, labels: str = "staging") -> subprocess.CompletedProcess:
        token = self.api("POST", "/actions/runners/registration-token")["token"]
        url = ("--url", f"{self.github.server}/{REPOSITORY}")
        name = ("--name", "host-1", "--labels", labels, "--replace")
        return self.config(folder, "--unattended", *url, *name, token=token)

    def listen(self, folder: Path, **env: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [folder / "run.sh"],
            env=os.environ | {"RUNNER_ALLOW_RUNASROOT": "1"} | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def completed(self, number: int = 0) -> Any:
        """Wait for a run and return it; 0 is the newest."""
        return until(lambda: (run := self.github.queue.runs()[number]).is_completed and run)

    def log(self, run: Any, job: str) -> str:
        return "\n".join(run.jobs[job].lines)


@pytest.fixture
def world(tmp_path):
    known = {}
    server = make_server(
        "127.0.0.1",
        0,
        lambda environ, start: known["app"](environ, start),
        threaded=True,
        request_handler=_Handler,
    )
    github = GitHub(tmp_path / "github", f"http://127.0.0.1:{server.port}", {})
    running = World(github, tmp_path)
    known["app"] = application(github, lambda _: running.caller)
    github.repositories.start()
    github.hosted.start()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield running
    for process in running.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    github.hosted.close()
    server.shutdown()


def test_a_push_builds_on_a_hosted_runner_and_releases_on_the_self_hosted_one(world):
    folder = world.install()
    assert world.register(folder).returncode == 0
    runner = world.listen(folder)
    output = world.clone().push()
    assert "remote: Deploy #1: " in output
    run = world.completed()
    assert run.conclusion == "success", [job.lines for job in run.jobs.values()]
    assert "released hello as host-1" in world.log(run, "deploy")
    assert "hunter2" not in world.log(run, "build").replace("::add-mask::hunter2", "")
    with urllib.request.urlopen(run.url(world.github.server)) as page:
        assert "[success] deploy on host-1" in page.read().decode()
    os.killpg(runner.pid, signal.SIGTERM)
    out, _ = runner.communicate()
    assert "Job deploy completed with result: Succeeded" in out


def test_an_unsupported_key_is_reported_with_its_line(world):
    clone = world.clone()
    line = DEPLOY.splitlines().index("    needs: build") + 1
    wrong = DEPLOY.replace("    needs: build", "    services: {}\n    needs: build")
    clone.write(**{".github__workflows__deploy.yml": wrong})
    output = clone.push()
    problem = f".github/workflows/deploy.yml:{line}: 'services' in jobs.deploy is not supported"
    assert f"remote: {problem}" in output
    assert (world.completed().conclusion, world.completed().error) == ("startup_failure", problem)


def test_a_push_to_another_branch_starts_no_workflow(world):
    assert "No workflow is triggered by refs/heads/other." in world.clone().push("other")
    assert not world.github.queue.runs()


def test_a_failed_build_skips_the_release(world):
    world.register(folder := world.install())
    world.listen(folder)
    clone = world.clone()
    clone.write(**{"say.sh": "#!/bin/sh\necho broken\nexit 3\n"})
    clone.push()
    run = world.completed()
    assert (run.conclusion, run.jobs["deploy"].conclusion) == ("failure", "skipped")
    assert "Process completed with exit code 3." in world.log(run, "build")


def test_the_hook_can_refuse_a_job_before_its_first_step(world, tmp_path):
    world.register(folder := world.install())
    hook = tmp_path / "hook.sh"
    hook.write_text('echo "for $GITHUB_REPOSITORY $GITHUB_REF $GITHUB_WORKFLOW_REF"\nexit 1\n')
    world.listen(folder, ACTIONS_RUNNER_HOOK_JOB_STARTED=str(hook))
    job = {"repository": "else/fork", "ref": "refs/heads/x", "workflow": "evil.yml"}
    body = json.dumps({**job, "runner": "host-1", "run": f"touch {tmp_path / 'ran'}"}).encode()
    request = urllib.request.Request(f"{world.github.server}/_sandbox/jobs", body, method="POST")
    request.add_header("Content-Type", "application/json")
    urllib.request.urlopen(request)
    run = world.completed()
    assert run.conclusion == "failure"
    assert "for else/fork refs/heads/x else/fork/evil.yml@refs/heads/x" in world.log(run, "job")
    assert not (tmp_path / "ran").exists()


def test_a_removed_runner_exits_and_can_register_again(world):
    world.register(folder := world.install())
    runner = world.listen(folder)
    [known] = until(lambda: world.api("GET", "/actions/runners")["runners"])
    until(lambda: world.api("GET", "/actions/runners")["runners"][0]["status"] == "online")
    world.api("DELETE", f"/actions/runners/{known['id']}")
    out, _ = runner.communicate(timeout=40)
    assert (runner.returncode, "has been deleted from the server" in out) == (0, True)
    assert "already configured" in world.register(folder).stderr
    world.config(folder, "remove", "--local", token="")
    assert world.register(folder).returncode == 0


def test_a_token_registers_only_for_its_repository(world):
    folder = world.install()
    token = world.api("POST", "/actions/runners/registration-token")["token"]
    url = ("--url", f"{world.github.server}/else/hello", "--name", "host-1")
    done = world.config(folder, "--unattended", *url, token=token)
    assert (done.returncode, "NotFound" in done.stderr) == (1, True)
    assert not (folder / ".runner").exists()


def test_a_killed_runner_fails_its_job_and_the_next_push_succeeds(world):
    world.register(folder := world.install())
    first = world.listen(folder)
    clone = world.clone()
    slow = DEPLOY.replace('echo "released', 'sleep ${SLOW:-0}; echo "released')
    clone.write(**{".github__workflows__deploy.yml": slow.replace("${SLOW:-0}", "60")})
    clone.push()
    job = until(lambda: world.github.queue.runs()[0].jobs["deploy"])
    until(lambda: any("sleep" in line for line in job.lines))
    os.killpg(first.pid, signal.SIGKILL)
    world.listen(folder)
    assert world.completed().conclusion == "failure"
    assert "lost communication" in world.log(world.completed(), "deploy")
    clone.write(**{".github__workflows__deploy.yml": slow})
    clone.push()
    assert world.completed().conclusion == "success"


def test_only_the_newest_pending_push_runs_and_none_is_interrupted(world):
    world.register(folder := world.install())
    concurrency = (
        "concurrency: {group: 'deploy-${{ github.ref_name }}', cancel-in-progress: false}\n"
    )
    clone = world.clone()
    clone.write(**{".github__workflows__deploy.yml": concurrency + DEPLOY})
    for _ in range(3):
        clone.push()
    superseded = world.github.queue.runs()[1]
    assert superseded.conclusion == "cancelled"
    world.listen(folder)
    assert (world.completed(0).conclusion, world.completed(2).conclusion) == ("success", "success")


def test_a_workflow_is_started_manually_with_its_inputs(world):
    clone = world.clone()
    manual = DEPLOY.replace("[self-hosted, staging]", "ubuntu-24.04")
    manual = manual.replace("as $RUNNER_NAME", "for ${{ inputs.greeting }}")
    clone.write(**{".github__workflows__deploy.yml": manual})
    clone.push("other")
    path = "/actions/workflows/deploy.yml/dispatches"
    with pytest.raises(urllib.error.HTTPError, match="422"):
        world.api("POST", path, {"ref": "other", "inputs": {}})
    world.api("POST", path, {"ref": "other", "inputs": {"greeting": "you"}})
    run = world.completed()
    assert run.conclusion == "success"
    assert "released hello for you" in world.log(run, "deploy")


def test_the_operators_token_and_address_are_required(world):
    for token in ("wrong", world.github.token[:-1]):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            world.api("POST", "/actions/runners/registration-token", token=token)
    clone = world.clone()
    world.caller = "machine"
    with pytest.raises(AssertionError, match="could not read Username"):
        clone.push()
    world.caller = ""
    with pytest.raises(urllib.error.HTTPError, match="403"):
        world.api("GET", "/actions/runners")


def test_paths_filter_the_changes_that_start_a_workflow(world):
    clone = world.clone()
    only = DEPLOY.replace("    branches:", "    paths: [say.sh, docs/**]\n    branches:")
    clone.write(**{".github__workflows__deploy.yml": only})
    assert "Deploy #1" in clone.push()
    clone.write(other="nothing to do with it")
    assert "No workflow is triggered" in clone.push()
    clone.write(docs__a__page="a page")
    assert "Deploy #2" in clone.push()


def test_artifacts_are_stored_without_excluded_files(world):
    clone = world.clone()
    upload = (
        f"      - uses: actions/upload-artifact@{COMMIT}\n"
        '        with: {name: record, path: "runs\\n!runs/**/.plans"}\n'
    )
    keep = DEPLOY.replace("        run: ./say.sh\n", f"        run: ./say.sh\n{upload}")
    files = {"runs__a__record.json": "{}", "runs__a__.plans__secret": "no"}
    clone.write(**{".github__workflows__deploy.yml": keep, **files})
    clone.push()
    run = world.github.queue.runs()[0]
    content = until(lambda: run.jobs["build"].artifacts.get("record"))
    with zipfile.ZipFile(BytesIO(content)) as kept:
        assert kept.namelist() == ["a/record.json"]
