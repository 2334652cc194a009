"""Changes that Daybook makes before and after a Terraform apply, as part of the same plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from daybook.errors import CommandFailed
from daybook.plan import Change
from daybook.terraform.plan import SavedPlan

REMOVE = "remove"
ACTIONS = ("lift", "stop", "start", "snapshot", "keep", "discard", REMOVE)


def added(plan: SavedPlan, extra: Sequence[Change]) -> SavedPlan:
    """Return the plan with the extra changes in front of Terraform's changes."""
    return dataclasses.replace(plan, changes=(*extra, *plan.changes))


def require_same(plan: SavedPlan, extra: Sequence[Change]) -> None:
    """Raise CommandFailed if the extra changes differ from those of the plan."""
    planned = list(plan.of(*ACTIONS))
    if planned != list(extra):
        raise CommandFailed(
            "The environment changed after the plan was made.",
            expected=_listed(planned),
            observed=_listed(extra),
            next="run the plan cell again",
        )


def _listed(changes: Sequence[Change]) -> str:
    return "; ".join(f"{change.action} {change.address}" for change in changes) or "none"
