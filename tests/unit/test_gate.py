from __future__ import annotations

import pytest

from daybook.errors import ApprovalNeeded, ApprovalRefused
from daybook.gates import gate

TASK = gate.Task("release", "abc", "in place of nothing")
PLAN = gate.Proposal("A plan", (TASK,), {"account": "1"})
COMMAND = f"daybook run x -p approve {PLAN.digest}"


def decide(given, *, plan=PLAN, is_sandbox=False):
    return gate.decide(plan, given, is_sandbox=is_sandbox, command=COMMAND)


def test_passes_for_the_digest_of_this_plan():
    assert decide(PLAN.digest).how == "by its digest"


def test_nobody_has_approved():
    with pytest.raises(ApprovalNeeded, match=COMMAND) as caught:
        decide("")
    assert caught.value.exit_code == 4
    assert "Nothing was changed." in str(caught.value)


@pytest.mark.parametrize("given", ["plan-00", PLAN.digest[:-1], PLAN.digest.upper(), "AUTO", "yes"])
def test_anything_else_is_refused(given):
    with pytest.raises(ApprovalRefused) as caught:
        decide(given, is_sandbox=True)
    assert caught.value.exit_code == 4
    assert (caught.value.expected, caught.value.observed) == (PLAN.digest, given)


def test_auto_is_for_the_sandbox():
    assert "auto" in decide("auto", is_sandbox=True).how
    with pytest.raises(ApprovalRefused, match="only in the sandbox"):
        decide("auto")


def test_an_empty_plan_needs_nobody():
    assert decide("", plan=gate.Proposal("A plan", (), {})).how == gate.NOT_NEEDED


def test_the_digest_follows_tasks_and_basis():
    same = gate.Proposal("Another title", (TASK,), {"account": "1"})
    other_basis = gate.Proposal("A plan", (TASK,), {"account": "2"})
    other_tasks = gate.Proposal("A plan", (TASK, TASK), {"account": "1"})
    assert PLAN.digest == same.digest
    assert len({PLAN.digest, other_basis.digest, other_tasks.digest}) == 3


def test_a_digest_cannot_be_taken_for_a_number():
    assert PLAN.digest.startswith("plan-")
