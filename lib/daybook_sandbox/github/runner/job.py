"""Execute a job: the hook, then the steps in order."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from daybook_sandbox.github.expressions import ExpressionError, Scope
from daybook_sandbox.github.runner import commands, shell
from daybook_sandbox.github.runner.actions import ACTIONS, ActionFailed
from daybook_sandbox.github.runner.configure import architecture
from daybook_sandbox.github.runner.link import RequestRefused
from daybook_sandbox.github.runner.report import JobResult, Report

SHELLS = {
    "": ("bash", "-e"),
    "bash": ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail"),
    "sh": ("sh", "-e"),
}
HOOK = "ACTIONS_RUNNER_HOOK_JOB_STARTED"
FAILURES = (ActionFailed, ExpressionError, commands.BadFile, RequestRefused, OSError, KeyError)


class JobExecution:
    """The execution of a job message. folder: the runner's work folder."""

    def __init__(self, message: Mapping[str, Any], folder: Path, report: Report) -> None:
        self.report = report
        self._message = message
        self._temp = folder / "_temp"
        name = message["github"]["repository"].rpartition("/")[2]
        self._workspace = folder / name / name
        self._env: dict[str, str] = {}
        self._path: list[str] = []
        self._status = "success"
        self._outputs: dict[str, str] = {}
        self._cleanups: list[Callable[[], None]] = []
        self._number = 0
        self.contexts = {
            "github": message["github"] | {"workspace": str(self._workspace)},
            "runner": message["runner"]
            | {"os": "Linux", "arch": architecture(), "temp": str(self._temp)},
            "secrets": {"GITHUB_TOKEN": message["github"]["token"]},
            "steps": {},
        } | {name: message[name] for name in ("inputs", "needs", "vars")}

    def run(self) -> JobResult:
        """Execute the job and return its result."""
        for secret in self._message["masks"]:
            self.report.mask(secret)
        try:
            if self._step("Set up job", self._set_up) and self._hook():
                for step in self._message["steps"]:
                    self._run_if_met(step)
        finally:
            for cleanup in reversed(self._cleanups):
                cleanup()
            shutil.rmtree(self._temp, ignore_errors=True)
        scope = self._scope()
        return JobResult(
            self._status,
            scope.texts(self._message["outputs"]),
            scope.text(self._message["environment_url"]),
        )

    def process(self, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> int:
        """Run a program in the current step and return its exit code."""
        return shell.run(
            command,
            folder,
            env,
            on_line=self._handle_line,
            is_cancelled=lambda: self._is_cancelled,
            timeout_s=60 * self._message["timeout_minutes"],
        )

    def export(self, **variables: str) -> None:
        """Set variables for the following steps."""
        self._env |= variables

    def set_outputs(self, outputs: Mapping[str, str]) -> None:
        """Set the current step's outputs."""
        self._outputs |= outputs

    def add_cleanup(self, cleanup: Callable[[], None]) -> None:
        """Call a function at the end of the job, even after a failure."""
        self._cleanups.append(cleanup)

    @property
    def _is_cancelled(self) -> bool:
        """Return True after a new cancellation; it must not interrupt later always() steps."""
        return self.report.is_cancelled and self._status != "cancelled"

    def _set_up(self) -> None:
        shutil.rmtree(self._temp, ignore_errors=True)
        self._temp.mkdir(parents=True)
        self._workspace.mkdir(parents=True, exist_ok=True)
        (self._temp / "event.json").write_text(json.dumps(self._message["github"]["event"]))
        runner = self.contexts["runner"]
        self.report.line(f"Runner name: '{runner['name']}'")
        self.report.line(f"Machine name: '{os.uname().nodename}'")
        for variables in self._message["env"]:
            self._env |= self._scope().texts(variables)

    def _hook(self) -> bool:
        """Run the job-started hook of the runner's administrator."""
        path = os.environ.get(HOOK)
        return not path or self._step("Set up runner", lambda: self._run_hook(Path(path)))

    def _run_hook(self, path: Path) -> None:
        self.report.line(
            "A job started hook has been configured by the self-hosted runner administrator"
        )
        if not path.is_absolute() or path.suffix != ".sh":
            raise ActionFailed(f"{path} is not an absolute path that ends in '.sh'")
        if not path.is_file():
            raise ActionFailed("File doesn't exist")
        env = os.environ | self._github_env() | commands.make_files(self._temp / "hook")
        if code := self.process([*SHELLS["bash"], str(path)], self._workspace, env):
            raise ActionFailed(f"Process completed with exit code {code}.")

    def _run_if_met(self, step: Mapping[str, Any]) -> None:
        """Run a step if its condition is met, and store its result for the following steps."""
        name = step.get("name") or step.get("uses") or f"Run {step.get('run', '').splitlines()[0]}"
        self._status = "cancelled" if self.report.is_cancelled else self._status
        self._outputs, previous = {}, self._status
        try:
            is_met = self._scope(step).holds(step.get("if", ""))
            name = self._scope(step).text(name)
        except FAILURES as error:
            self.report.line(f"##[error]line {step['line']}: {error}")
            self._status, is_met = "failure", False
        if not is_met:
            outcome = "skipped"
            self._number += 1
            self.report.step(self._number, name, "completed", outcome)
        else:
            outcome = "success" if self._step(name, lambda: self._run_step(step)) else "failure"
            if outcome == "failure" and step.get("continue-on-error"):
                self._status = previous
        if "id" in step:
            conclusion = "success" if step.get("continue-on-error") else outcome
            result = {"outputs": self._outputs, "outcome": outcome, "conclusion": conclusion}
            self.contexts["steps"][step["id"]] = result

    def _run_step(self, step: Mapping[str, Any]) -> None:
        files = commands.make_files(self._temp / uuid.uuid4().hex)
        scope = self._scope(step)
        env = self._step_env(step) | files
        try:
            if "uses" in step:
                ACTIONS[step["uses"]](self, scope.texts(step.get("with", {})), env)
            else:
                self._run_script(step, scope, env)
        finally:
            self._read_files(files)

    def _run_script(self, step: Mapping[str, Any], scope: Scope, env: dict[str, str]) -> None:
        script = self._temp / f"{uuid.uuid4()}.sh"
        script.write_text(scope.text(step["run"]))
        for line in script.read_text().splitlines()[:1]:
            self.report.line(f"##[group]Run {line}")
        for line in script.read_text().splitlines():
            self.report.line(line)
        self.report.line("##[endgroup]")
        folder = self._workspace / scope.text(step.get("working-directory", ""))
        command = [*SHELLS[step.get("shell", "")], str(script)]
        code = self.process(command, folder, env)
        if code == shell.TIMED_OUT:
            raise ActionFailed("The job has exceeded the maximum execution time.")
        if code:
            raise ActionFailed(f"Process completed with exit code {code}.")

    def _step(self, name: str, do: Callable[[], None]) -> bool:
        """Run one part of the job; an error fails the job."""
        self._number += 1
        self.report.step(self._number, name, "in_progress")
        self.report.line(f"##[step]{name}")
        outcome = "success"
        try:
            do()
        except FAILURES as error:
            outcome = "failure"
            self.report.line(f"##[error]{error}")
        if self._is_cancelled:
            outcome = "cancelled"
            self.report.line("##[error]The operation was canceled.")
        self.report.step(self._number, name, "completed", outcome)
        self._status = outcome if outcome != "success" else self._status
        return outcome == "success"

    def _handle_line(self, line: str) -> None:
        command = commands.command(line)
        if command is None:
            self.report.line(line)
        elif command[0] == "add-mask":
            self.report.mask(command[1])
            self.report.line("***")
        elif (log_line := commands.log_line(*command)) is not None:
            self.report.line(log_line)

    def _read_files(self, files: Mapping[str, str]) -> None:
        self._outputs |= commands.assignments(files["GITHUB_OUTPUT"])
        self._env |= commands.assignments(files["GITHUB_ENV"])
        self._path[:0] = reversed(Path(files["GITHUB_PATH"]).read_text().splitlines())
        if summary := Path(files["GITHUB_STEP_SUMMARY"]).read_text():
            self.report.add_summary(summary)

    def _scope(self, step: Mapping[str, Any] | None = None) -> Scope:
        contexts = self.contexts | {"env": self._env, "job": {"status": self._status}}
        scope = Scope(contexts, self._status)
        if step and "env" in step:
            contexts["env"] = self._env | scope.texts(step["env"])
        return scope

    def _step_env(self, step: Mapping[str, Any]) -> dict[str, str]:
        """Return a step's complete environment; the runner's variables take precedence."""
        variables = self._env | self._scope().texts(step.get("env", {}))
        path = os.pathsep.join([*self._path, variables.get("PATH", os.environ["PATH"])])
        return (
            os.environ | variables | {"PATH": path} | self._github_env() | self._message["id_token"]
        )

    def _github_env(self) -> dict[str, str]:
        """Return the GITHUB_ and RUNNER_ variables of every program in a job."""
        github = self.contexts["github"]
        plain = {key: value for key, value in github.items() if not isinstance(value, dict)}
        variables = {f"GITHUB_{key.upper()}": str(value) for key, value in plain.items()}
        variables |= {f"RUNNER_{key.upper()}": v for key, v in self.contexts["runner"].items()}
        del variables["GITHUB_TOKEN"]
        return variables | {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_PATH": str(self._temp / "event.json"),
        }
