"""What this repository's workflows tell GitHub: one comment a plan, one issue an environment."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import papermill
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / ".github/scripts"
WORKFLOWS = sorted(
    [*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob("app/.github/workflows/*.yml")]
)


class GitHub(ThreadingHTTPServer):
    """Answers GETs with `there`, and remembers everything else as (method, path, body)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.there: list[dict] = []
        self.heard: list[tuple[str, str, dict]] = []

    def run(self, script: str, *arguments: str, **given: str) -> None:
        url = f"http://127.0.0.1:{self.server_port}"
        said = {"GITHUB_API_URL": url, "GITHUB_SERVER_URL": url, "GITHUB_TOKEN": "t0ken"}
        said |= {"GITHUB_REPOSITORY": "octo-org/operations", "GITHUB_RUN_ID": "7"}
        command = [sys.executable, str(SCRIPTS / script), *arguments]
        subprocess.run(command, env=os.environ | said | given, check=True, timeout=30)


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or "{}")
        assert self.headers["Authorization"] == "Bearer t0ken"
        path = self.path.removeprefix("/repos/octo-org/operations/")
        if self.command != "GET":
            self.server.heard.append((self.command, path, body))
        said = json.dumps(self.server.there if self.command == "GET" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_PATCH = answer

    def log_message(self, *_args) -> None:
        """Say nothing."""


@pytest.fixture
def github() -> Iterator[GitHub]:
    server = GitHub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_plan_is_a_comment_that_is_written_anew(github, tmp_path):
    file = tmp_path / "plan.md"
    file.write_text("<!-- daybook plan staging -->\n### staging: no changes\n")
    github.run("comment", "12", str(file))
    other = {"id": 4, "body": "<!-- daybook plan production -->\n"}
    github.there = [other, {"id": 5, "body": "<!-- daybook plan staging -->\nold"}]
    github.run("comment", "12", str(file))
    said = {"body": file.read_text()}
    assert github.heard == [
        ("POST", "issues/12/comments", said),
        ("PATCH", "issues/comments/5", said),
    ]


DAYBOOK = """#!/usr/bin/env python3
import json, sys
from pathlib import Path
with Path("said").open("a") as said:
    said.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1:3] == ["run", "deploy"]:
    sys.exit(CODE)
if sys.argv[1:3] == ["runs", "show"]:
    print('{"run": "r1", "status": "STATUS", "plan": {"digest": "plan-1"}}')
"""


@pytest.fixture
def run_step(tmp_path):
    """Return what runs .github/scripts/run beside a daybook that notes how it was called."""

    def run(*, status: str = "succeeded", code: int = 0, **inputs: str):
        for name, text in (
            (".github/scripts/run", (SCRIPTS / "run").read_text()),
            (".venv/bin/daybook", DAYBOOK.replace("STATUS", status).replace("CODE", str(code))),
        ):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        given = {"STEP": "deploy", "ENVIRONMENT": "staging"} | inputs
        given |= {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
        script = tmp_path / ".github/scripts/run"
        return subprocess.run(
            [script], env=os.environ | given, capture_output=True, text=True, timeout=30
        )

    return run


def said(folder: Path) -> list[list[str]]:
    """Return how daybook was called."""
    file = folder / "said"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.parametrize(("status", "code", "waits"), [("waiting", 0, True), ("failed", 4, False)])
def test_a_plan_that_waits_ends_well_and_a_refused_approval_does_not(
    tmp_path, run_step, status, code, waits
):
    assert run_step(status=status, code=4).returncode == code
    summary = (tmp_path / "summary.md").read_text()
    assert ("pending approval of | `plan-1`" in summary) is waits
    assert "exit code 4" in summary


def test_inputs_become_parameters(tmp_path, run_step):
    digest = "plan-" + "0a" * 16
    assert run_step(PARAMETERS="image staging\nconfirm a b\n", APPROVE=digest).returncode == 0
    identity, run, _show = said(tmp_path)
    assert identity[:3] == ["github", "identity", "staging"]
    assert run == [
        *("run", "deploy", "-p", "env", "staging", "-p", "approve", digest),
        *("-p", "image", "staging", "-p", "confirm", "a b", "--wait", "10m"),
    ]


SMUGGLED = {
    "another environment": {"PARAMETERS": "env production"},
    "another environment after an innocent line": {"PARAMETERS": "image a\nenv production"},
    "another environment behind a carriage return": {"PARAMETERS": "image a\renv production"},
    "another environment behind a Unicode break": {"PARAMETERS": "image a\u2028env production"},
    "another environment behind a tab": {"PARAMETERS": "env\tproduction"},
    "another environment in look-alike letters": {"PARAMETERS": "\u0435nv production"},
    "another environment in full-width letters": {"PARAMETERS": "\uff45\uff4e\uff56 production"},
    "another environment with capitals": {"PARAMETERS": "ENV production"},
    "another target": {"PARAMETERS": "rehearse true"},
    "an approval": {"PARAMETERS": "approve auto"},
    "an approval of everything": {"APPROVE": "auto"},
    "options in the approval": {"APPROVE": "plan-" + "0" * 32 + "\n-p env production"},
    "a freeze overridden": {"PARAMETERS": "override_freeze because"},
    "the review overridden": {"PARAMETERS": "override_git because"},
    "an option as a name": {"PARAMETERS": "--resume 20261127T000000Z-deploy-000000"},
    "an option as a value": {"PARAMETERS": "image --resume"},
    "the option -p as a name": {"PARAMETERS": "-p env"},
    "a parameter twice": {"PARAMETERS": "image a\nimage b"},
    "a value without an end": {"PARAMETERS": "image " + "a" * 100_000},
    "a flood of lines": {"PARAMETERS": "image a\n" * 1000},
    "a name without a value": {"PARAMETERS": "image"},
    "a path as the step": {"STEP": "../notebooks/teardown"},
    "a notebook elsewhere as the step": {"STEP": "evil.ipynb"},
    "an option as the step": {"STEP": "--help"},
    "another environment in the environment": {"ENVIRONMENT": "staging -p env production"},
    "an environment with a line break": {"ENVIRONMENT": "staging\n"},
    "an environment in another folder": {"ENVIRONMENT": "../production"},
}


@pytest.mark.attack("F6", "a workflow input leads to another environment, target or approval")
@pytest.mark.parametrize("inputs", SMUGGLED.values(), ids=SMUGGLED)
def test_inputs_cannot_lead_elsewhere(tmp_path, run_step, inputs):
    done = run_step(**inputs)
    assert done.returncode == 2, done.stdout
    assert "Nothing was changed." in done.stderr
    assert said(tmp_path) == [], "nothing of Daybook ran"
    assert "production" not in done.stdout + done.stderr


def test_every_parameter_of_a_notebook_is_an_input_or_is_withheld_on_purpose():
    script = (SCRIPTS / "run").read_text()
    [allowed] = re.findall(r"^PARAMETERS = \((.*)\)$", script, re.M)
    withheld = {"env", "rehearse", "approve", "override_freeze", "override_git", "repository"}
    declared = {
        name
        for folder in ("notebooks", "runbooks")
        for path in (ROOT / folder).glob("*.ipynb")
        for name in papermill.inspect_notebook(path)
    }
    assert declared - withheld == set(re.findall(r"\w+", allowed))


def test_drift_is_one_issue_that_ends_with_it(github):
    there = [{"number": 3, "title": "Drift: production"}, {"number": 9, "title": "Drift: staging"}]
    github.there = there
    github.run("issue", "0", ENVIRONMENT="staging")
    calls = [(method, path) for method, path, _ in github.heard]
    assert calls == [("POST", "issues/9/comments"), ("PATCH", "issues/9")]
    assert github.heard[1][2] == {"state": "closed"}
    github.there, github.heard = [], []
    github.run("issue", "0", ENVIRONMENT="staging")
    assert github.heard == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_take_what_they_need_and_name_actions_by_commit(path):
    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    assert "cancel-in-progress" in workflow["concurrency"]
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action, _ in used)
    assert all(re.fullmatch(r" # v\d+\.\d+\.\d+", comment) for _, comment in used)
    # Logic lives in scripts: a step's own line only calls one.
    lines = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert [line for line in lines if "\n" in line.strip()] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_an_environment_is_never_cut_off_in_a_change(path):
    concurrency = yaml.safe_load(path.read_text())["concurrency"]
    only_looks = path.name in ("test.yml", "plan.yml")
    assert concurrency["cancel-in-progress"] is only_looks


HOSTILE = "```\n# Everything is fine\n<img src=https://evil.example>\n~~~\n- [x] @everyone"
RELEASES = {
    "ansible/roles/github_runner/files/release-from-ci": {"sudo": "printf '%s\\n' \"$HOSTILE\""},
    "app/ci/release-by-ssm": {
        "aws": 'case "$*" in *send-command*) echo c1 ;; *".Status --output"*) echo Success ;; '
        "*TargetCount*) echo 1 ;; *) printf '%s\\n' \"$HOSTILE\" ;; esac"
    },
}


@pytest.mark.parametrize("script", RELEASES)
@pytest.mark.attack("F2", "what an image prints becomes Markdown of the workflow's summary")
def test_what_a_release_prints_is_no_markdown_in_the_summary(tmp_path, script):
    for name, line in RELEASES[script].items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    summary = tmp_path / "summary.md"
    given = {"GITHUB_STEP_SUMMARY": str(summary), "HOSTILE": HOSTILE, "ENVIRONMENT": "staging"}
    given |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DOCUMENT": "hello-staging-release"}
    done = subprocess.run(
        ["bash", ROOT / script, "r@sha256:0"],
        env=os.environ | given,
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    lines = summary.read_text().splitlines()
    fences = [at for at, line in enumerate(lines) if line == "~" * 64]
    for line in HOSTILE.splitlines():
        is_indented = f"    {line}" in lines
        assert is_indented or fences[0] < lines.index(line) < fences[1] == len(lines) - 1


@pytest.mark.attack("F2", "what a host says becomes Markdown of the issue about drift")
def test_what_a_host_says_is_no_markdown_in_an_issue(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    issue = runpy.run_path(str(SCRIPTS / "issue"), run_name="issue")
    record = json.dumps({"error": {"message": HOSTILE, "details": [HOSTILE]}})
    monkeypatch.setattr(subprocess, "check_output", lambda *_, **__: record)
    for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"):
        monkeypatch.setenv(name, "x")
    lines = issue["body"]("staging").splitlines()
    assert [line.removeprefix("    ") for line in lines[:-2]] == HOSTILE.splitlines() * 2
    assert all(line.startswith("    ") for line in lines[:-2])
