"""What Daybook does itself around an apply is part of the plan that is approved."""

from __future__ import annotations

from pathlib import Path

import pytest

from daybook import terraform
from daybook.errors import CommandFailed
from daybook.terraform import extra_changes

DESTROY = terraform.Change("aws_vpc.this", "destroy")
STOP = terraform.Change("web-1 (i-1)", "stop")
COPY = terraform.Change("vol-1", "snapshot")
PLAN = terraform.Plan(Path("p"), "staging", "plan-1", "0", (DESTROY,))


def test_a_digest_is_that_of_the_plan_and_of_the_tasks():
    both, one = extra_changes.added(PLAN, [STOP, COPY]), extra_changes.added(PLAN, [STOP])
    assert extra_changes.added(PLAN, []) is PLAN
    assert len({PLAN.digest, both.digest, one.digest}) == 3
    assert both.digest == extra_changes.added(PLAN, [STOP, COPY]).digest
    assert both.changes == (STOP, COPY, DESTROY)
    assert both.destroys == ("aws_vpc.this",)


def test_a_plan_without_changes_may_have_tasks():
    empty = terraform.Plan(Path("p"), "staging", "plan-1", "0")
    assert not extra_changes.added(empty, [COPY]).is_empty


def test_other_tasks_than_those_of_the_plan_are_refused():
    plan = extra_changes.added(PLAN, [STOP, COPY])
    extra_changes.require_the_same(plan, [STOP, COPY])
    extra_changes.require_the_same(PLAN, [])
    with pytest.raises(CommandFailed) as caught:
        extra_changes.require_the_same(plan, [STOP])
    assert "snapshot vol-1" in caught.value.expected
    assert "vol-1" not in caught.value.observed
