"""A workflow file, read whole: what is not evaluated here is an error with its line.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from daybook_sandbox.github.triggers import Triggers
from daybook_sandbox.github.yamlread import Value, read

HOSTED = ("ubuntu-latest", "ubuntu-24.04")
SELF_HOSTED = "self-hosted"
ACTIONS = {
    "actions/checkout": ("fetch-depth path persist-credentials ref"),
    "actions/upload-artifact": "if-no-files-found include-hidden-files name path retention-days",
    "aws-actions/configure-aws-credentials": (
        "audience aws-region mask-aws-account-id role-duration-seconds role-session-name "
        "role-to-assume"
    ),
}
_PINNED = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40})")
# Which contexts GitHub gives where; our workflows need no more of them.
START = ("github", "inputs", "vars")
JOB = (*START, "needs")
STEP = (*JOB, "env", "job", "runner", "secrets", "steps")
TOP = ("name", "run-name", "on", "permissions", "env", "defaults", "concurrency", "jobs")
IN_JOB = (
    *("name", "permissions", "needs", "if", "runs-on", "environment", "concurrency", "outputs"),
    *("env", "defaults", "steps", "timeout-minutes"),
)
IN_STEP = (
    *("id", "name", "if", "uses", "with", "run", "shell", "env", "working-directory"),
    *("continue-on-error", "timeout-minutes"),
)
SHELLS = ("bash", "sh")


@dataclass(frozen=True)
class Concurrency:
    """What waits for its turn. group: a text with expressions; empty for no waiting."""

    group: str = ""
    cancels: bool = False


@dataclass(frozen=True)
class JobDefinition:
    """One job as it is written. steps: as the runner reads them."""

    id: str
    name: str
    runs_on: tuple[str, ...]
    steps: tuple[Mapping[str, Any], ...]
    needs: tuple[str, ...] = ()
    condition: str = ""
    environment: str = ""
    environment_url: str = ""
    permissions: Mapping[str, str] = field(default_factory=dict)
    concurrency: Concurrency = Concurrency()
    outputs: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_minutes: float = 360


@dataclass(frozen=True)
class Workflow:
    """A workflow file. path: where it is in its repository."""

    path: str
    name: str
    triggers: Triggers
    jobs: Mapping[str, JobDefinition]
    env: Mapping[str, str] = field(default_factory=dict)
    concurrency: Concurrency = Concurrency()
    run_name: str = ""


def parse(path: str, text: str) -> Workflow:
    """Read a workflow; UnsupportedWorkflow names the first line that cannot be done here."""
    top = read(path, text).fields(*TOP)
    whole = read(path, text)
    for key in ("on", "jobs"):
        if key not in top:
            raise whole.refuse(f"a workflow has '{key}'")
    granted = _permissions(top.get("permissions"), {"contents": "read"})
    shell = _defaults(top.get("defaults"), {})
    jobs = {id: _job(id, value, granted, shell) for id, value in top["jobs"].fields().items()}
    for id, value in top["jobs"].fields().items():
        for need in jobs[id].needs:
            if need not in jobs:
                raise value.fields()["needs"].refuse(f"jobs.{id} needs '{need}', which is no job")
    return Workflow(
        path=path,
        name=top["name"].text() if "name" in top else path,
        triggers=Triggers.of(top["on"]),
        jobs=jobs,
        env=top["env"].mapped((*START, "secrets")) if "env" in top else {},
        concurrency=_concurrency(top.get("concurrency"), START),
        run_name=top["run-name"].text(START) if "run-name" in top else "",
    )


def _job(
    id: str, value: Value, granted: Mapping[str, str], shell: Mapping[str, str]
) -> JobDefinition:
    given = value.fields(*IN_JOB)
    for key in ("runs-on", "steps"):
        if key not in given:
            raise value.refuse(f"jobs.{id} has no '{key}': other kinds are not evaluated here")
    name, url = _environment(given.get("environment"))
    shell = _defaults(given.get("defaults"), shell)
    return JobDefinition(
        id=id,
        name=given["name"].text(JOB) if "name" in given else id,
        runs_on=_runs_on(given["runs-on"]),
        steps=tuple(_step(each, shell) for each in given["steps"].items()),
        needs=given["needs"].texts() if "needs" in given else (),
        condition=given["if"].text(JOB, is_condition=True) if "if" in given else "",
        environment=name,
        environment_url=url,
        permissions=_permissions(given.get("permissions"), granted),
        concurrency=_concurrency(given.get("concurrency"), JOB),
        outputs=given["outputs"].mapped(STEP) if "outputs" in given else {},
        env=given["env"].mapped((*JOB, "secrets")) if "env" in given else {},
        timeout_minutes=given["timeout-minutes"].number() if "timeout-minutes" in given else 360,
    )


def _runs_on(value: Value) -> tuple[str, ...]:
    labels = tuple(each.text(JOB) for each in value.items())
    if SELF_HOSTED not in labels and (len(labels) != 1 or labels[0] not in HOSTED):
        raise value.refuse(f"no machine here is {', '.join(labels)}: {', '.join(HOSTED)} are")
    return labels


def _step(value: Value, shell: Mapping[str, str]) -> dict[str, Any]:
    given = value.fields(*IN_STEP)
    if ("uses" in given) == ("run" in given):
        raise value.refuse("a step has either 'run' or 'uses'")
    step: dict[str, Any] = {"line": value.line} | dict(shell)
    for key, each in given.items():
        if key == "if":
            step[key] = each.text(STEP, is_condition=True)
        elif key in ("env", "with"):
            step[key] = each.mapped(STEP)
        elif key == "continue-on-error":
            step[key] = each.flag()
        elif key == "timeout-minutes":
            step[key] = each.number()
        else:
            step[key] = each.text(() if key in ("id", "uses", "shell") else STEP)
    if "uses" in given:
        step["uses"] = _action(given)
    elif step.get("shell", "bash") not in SHELLS:
        raise (given.get("shell") or value).refuse(f"the shell '{step['shell']}' is not here")
    return step


def _action(given: Mapping[str, Value]) -> str:
    """Return an action's name; by its name alone the stand-in knows what it does."""
    uses = given["uses"]
    pinned = _PINNED.fullmatch(uses.text())
    if not pinned or pinned["name"] not in ACTIONS:
        raise uses.refuse(f"{uses.text()}: known here are {', '.join(ACTIONS)}, by a commit")
    if "with" in given:
        given["with"].fields(*ACTIONS[pinned["name"]].split())
    return pinned["name"]


def _environment(value: Value | None) -> tuple[str, str]:
    if value is None or value.is_scalar:
        return (value.text(JOB) if value else ""), ""
    given = value.fields("name", "url")
    return given["name"].text(JOB), given["url"].text(STEP) if "url" in given else ""


def _permissions(value: Value | None, inherited: Mapping[str, str]) -> Mapping[str, str]:
    if value is None:
        return inherited
    if value.is_scalar and value.text():
        raise value.refuse(f"permissions: {value.text()} is not evaluated here; name each")
    return {key: each.text() for key, each in value.fields().items() if each.text() != "none"}


def _concurrency(value: Value | None, contexts: tuple[str, ...]) -> Concurrency:
    if value is None or value.is_scalar:
        return Concurrency(value.text(contexts) if value else "")
    given = value.fields("group", "cancel-in-progress")
    cancels = "cancel-in-progress" in given and given["cancel-in-progress"].flag()
    return Concurrency(given["group"].text(contexts), cancels)


def _defaults(value: Value | None, inherited: Mapping[str, str]) -> Mapping[str, str]:
    """Return what every `run` step has unless it says otherwise."""
    given = value.fields("run").get("run") if value else None
    own = given.fields("shell", "working-directory") if given else {}
    return dict(inherited) | {key: each.text(JOB) for key, each in own.items()}
