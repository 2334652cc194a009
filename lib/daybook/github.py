"""The part of GitHub's API for self-hosted runners: list, register and remove.

The API token is in SSM Parameter Store, `/<app>/github/<env>/token`, where no host and no other
environment's workflow can read it. A host only gets a registration token, valid for one hour.
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
"""The maximum page size; repositories with more runners are not supported."""
TIMEOUT_S = 20
TOKEN, KEY = "token", "key"
PURPOSES = {
    TOKEN: "May register and remove runners of the application's repository",
    KEY: "SSH key of the workflows that run Daybook for the environment",
}
NEXT = {
    401: "create a new token (docs/delivery.md), then run: daybook github token {env}",
    403: "grant the token the permission Administration, read and write, on this repository",
    404: "correct github in the settings, or grant the token access to this repository",
}
"""The remedy for each status: https://docs.github.com/en/rest/actions/self-hosted-runners"""


@dataclass(frozen=True)
class Runner:
    """A self-hosted runner. status: online or offline."""

    id: int
    name: str
    status: str = ""
    busy: bool = False
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkflowRun:
    """One run of a workflow. conclusion: success, failure, …; empty until it has ended."""

    name: str
    conclusion: str
    url: str


@dataclass(frozen=True)
class Repository:
    """A client of GitHub's API for one repository. path: `owner/name`."""

    path: str
    api: str
    env: str
    token: str = field(repr=False)

    def runners(self) -> tuple[Runner, ...]:
        """Return the registered runners, sorted by name."""
        answer = self._request("GET", "runners", params={"per_page": PAGE})
        return tuple(sorted(map(_runner, answer["runners"]), key=lambda runner: runner.name))

    def registration_token(self) -> str:
        """Return a token to register runners, valid for one hour."""
        return str(self._request("POST", "runners/registration-token")["token"])

    def runs(self, commit: str) -> tuple[WorkflowRun, ...]:
        """Return the workflow runs of a commit."""
        answer = self._request("GET", "runs", params={"head_sha": commit, "per_page": PAGE})
        return tuple(
            WorkflowRun(run["name"], run["conclusion"] or "", run["html_url"])
            for run in answer["workflow_runs"]
        )

    def remove(self, runner: Runner) -> None:
        """Remove a runner from GitHub, even if its host no longer exists."""
        self._request("DELETE", f"runners/{runner.id}")

    def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
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
                next="check https://www.githubstatus.com, and try again",
            ) from err
        if answer.is_error:
            code = answer.status_code
            raise CommandFailed(
                f"GitHub refused {method} {path} of {self.path}: HTTP {code}.",
                next=NEXT.get(code, "try again").format(env=self.env),
            )
        return answer.json() if answer.content else {}


def repository(environment: Environment) -> Repository:
    """Return the application's repository, with the token from Parameter Store."""
    token = read(environment, TOKEN)
    api = environment.target.environ.get("GITHUB_API_URL") or API
    path = environment.settings.github.path
    return Repository(path, api.rstrip("/"), environment.name, token)


def deregister_runners(environment: Environment, on_change: Callable[..., None]) -> None:
    """Remove the runners of the environment's hosts from GitHub, and record each removal.

    DaybookError if the token is missing or GitHub refuses.
    """
    github_repository = repository(environment)
    for runner in github_repository.runners():
        if re.fullmatch(rf"{environment.prefix}-[0-9]+", runner.name):
            github_repository.remove(runner)
            subject = f"{runner.name} of {github_repository.path}"
            on_change(tool="github", action="deregistered", what=subject)


def store(environment: Environment, name: str, value: str) -> None:
    """Store the TOKEN or the KEY in Parameter Store; an existing value is replaced."""
    environment.client("ssm").put_parameter(
        Name=parameter(environment, name),
        Value=value,
        Type="SecureString",
        Overwrite=True,
        Description=PURPOSES[name],
    )


def read(environment: Environment, name: str) -> str:
    """Return the TOKEN or the KEY; PreflightFailed if it is not stored."""
    ssm = environment.client("ssm")
    try:
        stored = ssm.get_parameter(Name=parameter(environment, name), WithDecryption=True)
    except ssm.exceptions.ParameterNotFound as err:
        raise PreflightFailed(
            f"The {name} for {environment.settings.github.path} is not in Parameter Store.",
            expected=parameter(environment, name),
            next=f"daybook github {name} {environment.name}",
        ) from err
    return stored["Parameter"]["Value"]


def parameter(environment: Environment, name: str) -> str:
    """Return the parameter's name; it is outside the environment's path, so no host can read it."""
    return f"/{environment.settings.app}/github/{environment.name}/{name}"


def workflow_name(environment: Environment) -> str:
    """Return the name of the environment's workflows in environments/signers."""
    return f"{environment.prefix}-workflows"


def _runner(data: Mapping[str, Any]) -> Runner:
    labels = tuple(label["name"] for label in data.get("labels", ()))
    return Runner(data["id"], data["name"], data["status"], data["busy"], labels)
