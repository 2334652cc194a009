"""What Daybook does itself around a Terraform apply, shown and approved as part of its plan."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence

from daybook import terraform
from daybook.errors import CommandFailed

REMOVE = "remove"


def added(plan: terraform.Plan, tasks: Sequence[terraform.Change]) -> terraform.Plan:
    """Return the plan with tasks before it, under a digest over both."""
    if not tasks:
        return plan
    canonical = json.dumps([plan.digest, [dataclasses.astuple(task) for task in tasks]])
    digest = f"plan-{hashlib.sha256(canonical.encode()).hexdigest()[:32]}"
    return dataclasses.replace(plan, changes=(*tasks, *plan.changes), digest=digest)


def require_the_same(plan: terraform.Plan, tasks: Sequence[terraform.Change]) -> None:
    """Refuse when what is to be done is not that of the plan any more."""
    shown = [change for change in plan.changes if change.action in terraform.TASKS]
    if shown != list(tasks):
        raise CommandFailed(
            "What is there is not what it was when the plan was made.",
            expected=_said(shown),
            observed=_said(tasks),
            next="run the plan cell again",
        )


def _said(tasks: Sequence[terraform.Change]) -> str:
    return "; ".join(f"{task.action} {task.address}" for task in tasks) or "none"
