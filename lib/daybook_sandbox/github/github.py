"""The GitHub service: handle pushes, manually started workflows and runners."""

from __future__ import annotations

import getpass
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from daybook_sandbox.github import messages, packages
from daybook_sandbox.github.expressions import is_true
from daybook_sandbox.github.hosted import Hosted
from daybook_sandbox.github.job_queue import JobQueue
from daybook_sandbox.github.oidc import Issuer
from daybook_sandbox.github.repositories import Push, Repositories
from daybook_sandbox.github.runners import RegistrationTokens, Runners
from daybook_sandbox.github.runs import Run, RunJob, TriggerEvent
from daybook_sandbox.github.triggers import Triggers
from daybook_sandbox.github.workflow import Workflow, parse
from daybook_sandbox.github.yamlread import UnsupportedWorkflow, read

GONE = "The runner of this job exited without a report."


class GitHub:
    """The service behind the web server.

    folder: its data. variables: the environment that points hosted jobs at the sandbox.
    """

    def __init__(self, folder: Path, server: str, variables: Mapping[str, str]) -> None:
        self.server = server
        self.actor = getpass.getuser()
        self.token = f"github_pat_{secrets.token_hex(20)}"
        self.archive = packages.archive()
        self.archive_sha256 = hashlib.sha256(self.archive).hexdigest()
        self.issuer = Issuer()
        self.registration_tokens = RegistrationTokens()
        self.runners = Runners()
        self.repositories = Repositories(folder, server)
        self.hosted = Hosted(folder, packages.program, server, variables)
        self.queue = JobQueue(self._run_hosted, lambda run: messages.github(run, server))

    def pushed(self, repository: str, pushes: Sequence[Push]) -> str:
        """Start the workflows that a push triggers; return the message for the pusher."""
        lines = [line for push in pushes if push.sha for line in self._pushed(repository, push)]
        return "".join(f"{line}\n" for line in lines)

    def dispatch(self, repository: str, file: str, ref: str, values: Mapping[str, Any]) -> Run:
        """Start a workflow with workflow_dispatch; raise ValueError for invalid inputs."""
        heads = ref if ref.startswith("refs/") else f"refs/heads/{ref}"
        sha = self.repositories.commit(repository, heads)
        path, text = self._workflow(repository, sha, file)
        workflow = parse(path, text)
        if workflow.triggers.inputs is None:
            raise ValueError("Workflow does not have 'workflow_dispatch' trigger")
        inputs = _inputs(workflow, values)
        payload = {"inputs": dict(values), "ref": heads, "workflow": path}
        event = TriggerEvent(
            "workflow_dispatch", repository, heads, sha, self.actor, payload, inputs
        )
        return self.queue.start(event, workflow)

    def drop_runner(self, id: int) -> bool:
        """Remove a runner and fail its job; return False if it does not exist."""
        runner = self.runners.drop(id)
        if runner:
            self.queue.fail_jobs_of(runner)
        return runner is not None

    def _pushed(self, repository: str, push: Push) -> list[str]:
        payload = messages.push_payload(vars(push), repository, self.actor)
        title = self.repositories.message(repository, push.sha)
        event = TriggerEvent("push", repository, push.ref, push.sha, self.actor, payload, {}, title)
        output = []
        for path, text in self.repositories.workflows(repository, push.sha).items():
            try:
                triggers = _triggers(path, text)
                changed = self.repositories.changed(repository, push)
                if not triggers.wants_push(push.ref) or not triggers.wants_files(changed):
                    continue
                run = self.queue.start(event, parse(path, text))
            except UnsupportedWorkflow as error:
                run = self.queue.refuse(event, path, str(error))
                output.append(str(error))
            output.append(f"{run.name} #{run.number}: {run.url(self.server)}")
        return output or [f"No workflow is triggered by {push.ref}."]

    def _workflow(self, repository: str, sha: str, file: str) -> tuple[str, str]:
        files = self.repositories.workflows(repository, sha)
        for path, text in files.items():
            if file in (path, path.rpartition("/")[2]):
                return path, text
        raise KeyError(file)

    def _run_hosted(self, job: RunJob) -> None:
        def fail() -> None:
            self.queue.fail(job, GONE)

        self.hosted.run(job, messages.of(job, self.server), fail)


def _triggers(path: str, text: str) -> Triggers:
    """Return a workflow's triggers; the rest of the file may be invalid."""
    top = read(path, text).fields()
    if "on" not in top:
        raise UnsupportedWorkflow(path, 1, "a workflow has 'on'")
    return Triggers.of(top["on"])


def _inputs(workflow: Workflow, values: Mapping[str, Any]) -> dict[str, Any]:
    known = workflow.triggers.inputs or {}
    if unknown := set(values) - set(known):
        raise ValueError(f"Unexpected inputs provided: {sorted(unknown)}")
    inputs: dict[str, Any] = {}
    for name, declaration in known.items():
        value = str(values.get(name, declaration.default))
        if declaration.required and not value:
            raise ValueError(f"Required input '{name}' not provided")
        if declaration.kind == "choice" and value not in declaration.options:
            raise ValueError(f"Provided value '{value}' for input '{name}' is not in its options")
        inputs[name] = is_true(value.lower() == "true") if declaration.kind == "boolean" else value
    return inputs
