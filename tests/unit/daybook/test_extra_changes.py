"""The changes that Daybook makes around an apply are part of the approved plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daybook.errors import CommandFailed
from daybook.plan import Change
from daybook.terraform import SavedPlan, extra_changes

DESTROY = Change("destroy", "aws_vpc.this")
STOP = Change("stop", "web-1 (i-1)")
COPY = Change("snapshot", "vol-1")
PLAN = SavedPlan("Plan for staging", (DESTROY,), {"workspace": "staging"})


def test_the_digest_covers_the_plan_and_the_extra_changes():
    both, single = extra_changes.added(PLAN, [STOP, COPY]), extra_changes.added(PLAN, [STOP])
    assert extra_changes.added(PLAN, []) == PLAN
    assert len({PLAN.digest, both.digest, single.digest}) == 3
    assert both.digest == extra_changes.added(PLAN, [STOP, COPY]).digest
    assert both.changes == (STOP, COPY, DESTROY)
    assert both.destroys == ("aws_vpc.this",)


def test_a_plan_without_changes_may_have_extra_changes():
    empty = replace(PLAN, changes=())
    assert empty.is_empty
    assert not extra_changes.added(empty, [COPY]).is_empty


def test_changes_that_differ_from_the_plan_are_refused():
    plan = extra_changes.added(PLAN, [STOP, COPY])
    extra_changes.require_same(plan, [STOP, COPY])
    extra_changes.require_same(PLAN, [])
    with pytest.raises(CommandFailed) as caught:
        extra_changes.require_same(plan, [STOP])
    assert "snapshot vol-1" in caught.value.expected
    assert "vol-1" not in caught.value.observed
