"""The job message for a runner: the steps as written, with their contexts."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from daybook_sandbox.github.runs import Run, RunJob


def github(run: Run, server: str) -> dict[str, Any]:
    """Return the `github` context of a run.

    https://docs.github.com/en/actions/reference/workflows-and-actions/contexts
    """
    event = run.event
    owner = event.repository.partition("/")[0]
    return {
        "actor": event.actor,
        "actor_id": number(event.actor),
        "api_url": api_url(server),
        "base_ref": "",
        "event": event.payload,
        "event_name": event.name,
        "graphql_url": f"{server}/api/graphql",
        "head_ref": "",
        "ref": event.ref,
        "ref_name": event.ref_name,
        "ref_protected": "false",
        "ref_type": "tag" if event.ref.startswith("refs/tags/") else "branch",
        "repository": event.repository,
        "repository_id": number(event.repository),
        "repository_owner": owner,
        "repository_owner_id": number(owner),
        "repositoryUrl": f"git://{server.partition('//')[2]}/{event.repository}.git",
        "run_attempt": "1",
        "run_id": str(run.id),
        "run_number": str(run.number),
        "server_url": server,
        "sha": event.sha,
        "triggering_actor": event.actor,
        "workflow": run.name,
        "workflow_ref": f"{event.repository}/{run.path}@{event.ref}",
        "workflow_sha": event.sha,
    }


def of(job: RunJob, server: str) -> dict[str, Any]:
    """Return a job's message for its runner."""
    run, definition = job.run, job.definition
    scope = run.scope(job)
    token_url = f"{server}/_actions/oidc?job={job.id}"
    id_token = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": token_url,
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": job.token,
    }
    may_have_token = definition.permissions.get("id-token") == "write"
    return {
        "job": str(job.id),
        "name": job.name,
        "token": job.token,
        "masks": [job.token],
        "github": run.github | {"job": definition.id, "token": job.token},
        "runner": {
            "name": job.runner.name if job.runner else "GitHub Actions 1",
            "environment": "self-hosted" if job.runner else "github-hosted",
        },
        "env": [dict(run.workflow.env), dict(definition.env)],
        "environment_url": definition.environment_url,
        "id_token": id_token if may_have_token else {},
        "outputs": dict(definition.outputs),
        "steps": list(definition.steps),
        "timeout_minutes": definition.timeout_minutes,
        **{name: scope.contexts[name] for name in ("inputs", "needs", "vars")},
    }


def push_payload(push: Mapping[str, str], repository: str, actor: str) -> dict[str, Any]:
    """Return the part of a push event's JSON that our workflows and hooks read."""
    return {
        "ref": push["ref"],
        "before": push["before"],
        "after": push["sha"],
        "deleted": False,
        "pusher": {"name": actor},
        "repository": {
            "id": int(number(repository)),
            "full_name": repository,
            "name": repository.partition("/")[2],
            "default_branch": "main",
            "fork": False,
        },
        "sender": {"login": actor},
    }


def number(name: str) -> str:
    """Return a stable numeric id for a name."""
    return str(zlib.crc32(name.encode()))


def api_url(server: str) -> str:
    """Return the URL of the REST API, in the form of GitHub Enterprise Server."""
    return f"{server}/api/v3"
