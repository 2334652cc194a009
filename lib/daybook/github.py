"""GitHub's API, as far as a self-hosted runner needs it: registered, seen, removed.

The token that may do that is in SSM Parameter Store, `/<app>/github/<env>/token`, where no host and
no other environment's workflow may read it. A host gets what registers one runner, for an hour.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from daybook.environment import Environment
from daybook.errors import CommandFailed, PreflightFailed

API = "https://api.github.com"
PAGE = 100
"""The most that one answer holds: a repository with more runners than that is none of ours."""
TIMEOUT_S = 20
TOKEN, KEY = "token", "key"
PURPOSES = {
    TOKEN: "May register and remove runners of the application's repository",
    KEY: "SSH key of the workflows that run Daybook for the environment",
}
NEXT = {
    401: "make a new token: docs/delivery.md, then daybook github token {env}",
    403: "give the token the permission Administration, read and write, of this repository",
    404: "correct github in the settings, or give the token access to this repository",
}
"""What to do about an answer: https://docs.github.com/en/rest/actions/self-hosted-runners"""


@dataclass(frozen=True)
class Runner:
    """A runner as GitHub knows it. status: online or offline."""

    id: int
    name: str
    status: str = ""
    busy: bool = False
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkflowRun:
    """One run of a workflow. conclusion: success, failure, …; empty until it is over."""

    name: str
    conclusion: str
    url: str


@dataclass(frozen=True)
class Repository:
    """One repository on GitHub, asked with a token. path: `owner/name`."""

    path: str
    api: str
    env: str
    token: str = field(repr=False)

    def runners(self) -> tuple[Runner, ...]:
        """Return every runner that is registered, by name."""
        answer = self._ask("GET", "runners", params={"per_page": PAGE})
        return tuple(sorted(map(_runner, answer["runners"]), key=lambda each: each.name))

    def registration_token(self) -> str:
        """Return what registers runners for an hour."""
        return str(self._ask("POST", "runners/registration-token")["token"])

    def runs(self, commit: str) -> tuple[WorkflowRun, ...]:
        """Return the runs of workflows that a commit has started."""
        answer = self._ask("GET", "runs", params={"head_sha": commit, "per_page": PAGE})
        return tuple(
            WorkflowRun(each["name"], each["conclusion"] or "", each["html_url"])
            for each in answer["workflow_runs"]
        )

    def remove(self, runner: Runner) -> None:
        """Let GitHub forget a runner, whether its host is there or not."""
        self._ask("DELETE", f"runners/{runner.id}")

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        url = f"{self.api}/repos/{self.path}/actions/{path}"
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        try:
            answer = httpx.request(method, url, headers=headers, timeout=TIMEOUT_S, **options)
        except httpx.HTTPError as err:
            raise CommandFailed(
                f"GitHub does not answer: {type(err).__name__}.",
                expected=url,
                next="see whether https://www.githubstatus.com says why, and try again",
            ) from err
        if answer.is_error:
            code = answer.status_code
            raise CommandFailed(
                f"GitHub refuses {method} {path} of {self.path}: HTTP {code}.",
                next=NEXT.get(code, "try again").format(env=self.env),
            )
        return answer.json() if answer.content else {}


def repository(environment: Environment) -> Repository:
    """Return the application's repository, to be asked with the token of the parameter store."""
    token = read(environment, TOKEN)
    api = environment.target.environ.get("GITHUB_API_URL") or API
    path = environment.settings.github.path
    return Repository(path, api.rstrip("/"), environment.name, token)


def deregister_runners(environment: Environment, on_change: Callable[..., None]) -> None:
    """Remove the runners of the environment's hosts from GitHub; each is recorded.

    DaybookError when there is no token, or GitHub refuses.
    """
    asked = repository(environment)
    for runner in asked.runners():
        if re.fullmatch(rf"{environment.prefix}-[0-9]+", runner.name):
            asked.remove(runner)
            what = f"{runner.name} of {asked.path}"
            on_change(tool="github", action="deregistered", what=what)


def store(environment: Environment, name: str, value: str) -> None:
    """Put the TOKEN or the KEY into the parameter store, in place of any that is there."""
    environment.client("ssm").put_parameter(
        Name=parameter(environment, name),
        Value=value,
        Type="SecureString",
        Overwrite=True,
        Description=PURPOSES[name],
    )


def read(environment: Environment, name: str) -> str:
    """Return the TOKEN or the KEY; PreflightFailed when the parameter store has none."""
    ssm = environment.client("ssm")
    try:
        found = ssm.get_parameter(Name=parameter(environment, name), WithDecryption=True)
    except ssm.exceptions.ParameterNotFound as err:
        raise PreflightFailed(
            f"There is no {name} for {environment.settings.github.path} in the parameter store.",
            expected=parameter(environment, name),
            next=f"daybook github {name} {environment.name}",
        ) from err
    return found["Parameter"]["Value"]


def parameter(environment: Environment, name: str) -> str:
    """Return where something is kept: beside the environments, so that no host may read it."""
    return f"/{environment.settings.app}/github/{environment.name}/{name}"


def workflow_name(environment: Environment) -> str:
    """Return the name of an environment's workflows in environments/signers."""
    return f"{environment.prefix}-workflows"


def _runner(found: Mapping[str, Any]) -> Runner:
    labels = tuple(label["name"] for label in found.get("labels", ()))
    return Runner(found["id"], found["name"], found["status"], found["busy"], labels)
