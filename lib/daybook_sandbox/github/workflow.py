"""Parse a workflow file; unsupported parts are errors with their line.

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
# The contexts available at the start of a run, in a job and in a step, as far as ours use them.
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
    """A concurrency setting. group: text with expressions; empty for no limit."""

    group: str = ""
    cancels: bool = False


@dataclass(frozen=True)
class JobDefinition:
    """A job as written. steps: in the runner's format."""

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
    """A workflow file. path: relative to the repository."""

    path: str
    name: str
    triggers: Triggers
    jobs: Mapping[str, JobDefinition]
    env: Mapping[str, str] = field(default_factory=dict)
    concurrency: Concurrency = Concurrency()
    run_name: str = ""


def parse(path: str, text: str) -> Workflow:
    """Parse a workflow; raise UnsupportedWorkflow for the first unsupported line."""
    top = read(path, text).fields(*TOP)
    whole = read(path, text)
    for key in ("on", "jobs"):
        if key not in top:
            raise whole.refuse(f"the workflow has no '{key}'")
    granted = _permissions(top.get("permissions"), {"contents": "read"})
    shell = _defaults(top.get("defaults"), {})
    jobs = {id: _job(id, value, granted, shell) for id, value in top["jobs"].fields().items()}
    for id, value in top["jobs"].fields().items():
        for need in jobs[id].needs:
            if need not in jobs:
                raise value.fields()["needs"].refuse(
                    f"jobs.{id} needs '{need}', which does not exist"
                )
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
    fields = value.fields(*IN_JOB)
    for key in ("runs-on", "steps"):
        if key not in fields:
            raise value.refuse(f"jobs.{id} has no '{key}': other kinds of jobs are not supported")
    name, url = _environment(fields.get("environment"))
    shell = _defaults(fields.get("defaults"), shell)
    return JobDefinition(
        id=id,
        name=fields["name"].text(JOB) if "name" in fields else id,
        runs_on=_runs_on(fields["runs-on"]),
        steps=tuple(_step(step, shell) for step in fields["steps"].items()),
        needs=fields["needs"].texts() if "needs" in fields else (),
        condition=fields["if"].text(JOB, is_condition=True) if "if" in fields else "",
        environment=name,
        environment_url=url,
        permissions=_permissions(fields.get("permissions"), granted),
        concurrency=_concurrency(fields.get("concurrency"), JOB),
        outputs=fields["outputs"].mapped(STEP) if "outputs" in fields else {},
        env=fields["env"].mapped((*JOB, "secrets")) if "env" in fields else {},
        timeout_minutes=fields["timeout-minutes"].number() if "timeout-minutes" in fields else 360,
    )


def _runs_on(value: Value) -> tuple[str, ...]:
    labels = tuple(label.text(JOB) for label in value.items())
    if SELF_HOSTED not in labels and (len(labels) != 1 or labels[0] not in HOSTED):
        raise value.refuse(f"no runner is labeled {', '.join(labels)}; hosted: {', '.join(HOSTED)}")
    return labels


def _step(value: Value, shell: Mapping[str, str]) -> dict[str, Any]:
    fields = value.fields(*IN_STEP)
    if ("uses" in fields) == ("run" in fields):
        raise value.refuse("a step needs either 'run' or 'uses'")
    step: dict[str, Any] = {"line": value.line} | dict(shell)
    for key, entry in fields.items():
        if key == "if":
            step[key] = entry.text(STEP, is_condition=True)
        elif key in ("env", "with"):
            step[key] = entry.mapped(STEP)
        elif key == "continue-on-error":
            step[key] = entry.flag()
        elif key == "timeout-minutes":
            step[key] = entry.number()
        else:
            step[key] = entry.text(() if key in ("id", "uses", "shell") else STEP)
    if "uses" in fields:
        step["uses"] = _action(fields)
    elif step.get("shell", "bash") not in SHELLS:
        raise (fields.get("shell") or value).refuse(f"the shell '{step['shell']}' is not supported")
    return step


def _action(fields: Mapping[str, Value]) -> str:
    """Return an action's name; the simulation implements actions by name."""
    uses = fields["uses"]
    pinned = _PINNED.fullmatch(uses.text())
    if not pinned or pinned["name"] not in ACTIONS:
        raise uses.refuse(f"{uses.text()}: supported are {', '.join(ACTIONS)}, pinned by a commit")
    if "with" in fields:
        fields["with"].fields(*ACTIONS[pinned["name"]].split())
    return pinned["name"]


def _environment(value: Value | None) -> tuple[str, str]:
    if value is None or value.is_scalar:
        return (value.text(JOB) if value else ""), ""
    fields = value.fields("name", "url")
    return fields["name"].text(JOB), fields["url"].text(STEP) if "url" in fields else ""


def _permissions(value: Value | None, inherited: Mapping[str, str]) -> Mapping[str, str]:
    if value is None:
        return inherited
    if value.is_scalar and value.text():
        raise value.refuse(f"permissions: {value.text()} is not supported; list each permission")
    return {key: access.text() for key, access in value.fields().items() if access.text() != "none"}


def _concurrency(value: Value | None, contexts: tuple[str, ...]) -> Concurrency:
    if value is None or value.is_scalar:
        return Concurrency(value.text(contexts) if value else "")
    fields = value.fields("group", "cancel-in-progress")
    cancels = "cancel-in-progress" in fields and fields["cancel-in-progress"].flag()
    return Concurrency(fields["group"].text(contexts), cancels)


def _defaults(value: Value | None, inherited: Mapping[str, str]) -> Mapping[str, str]:
    """Return the default `shell` and `working-directory` of `run` steps."""
    run = value.fields("run").get("run") if value else None
    fields = run.fields("shell", "working-directory") if run else {}
    return dict(inherited) | {key: default.text(JOB) for key, default in fields.items()}
