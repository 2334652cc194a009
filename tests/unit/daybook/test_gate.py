from __future__ import annotations

import pytest

from daybook import ui
from daybook.approval import gate
from daybook.errors import ApprovalNeeded, ApprovalRefused
from daybook.plan import Change, Plan

CHANGE = Change("release", "abc", "in place of nothing")
PLAN = Plan("A plan", (CHANGE,), {"account": "1"})
COMMAND = f"daybook run x -p approve {PLAN.digest}"


def decide(given, *, plan=PLAN, is_sandbox=False):
    return gate.decide(plan, given, is_sandbox=is_sandbox, command=COMMAND)


def test_passes_for_the_digest_of_this_plan():
    assert decide(PLAN.digest).how == "by its digest"


def test_without_an_approval_the_run_waits():
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


def test_auto_approves_only_in_the_sandbox():
    assert "auto" in decide("auto", is_sandbox=True).how
    with pytest.raises(ApprovalRefused, match="only in the sandbox"):
        decide("auto")


def test_an_empty_plan_needs_no_approval():
    assert decide("", plan=Plan("A plan", (), {})).how == gate.NOT_NEEDED


def test_the_digest_covers_changes_and_basis():
    same = Plan("Another title", (CHANGE,), {"account": "1"})
    other_basis = Plan("A plan", (CHANGE,), {"account": "2"})
    other_changes = Plan("A plan", (CHANGE, CHANGE), {"account": "1"})
    assert PLAN.digest == same.digest
    assert len({PLAN.digest, other_basis.digest, other_changes.digest}) == 3


def test_a_digest_cannot_be_parsed_as_a_number():
    assert PLAN.digest.startswith("plan-")


class Pressed:
    """Makes gates, and records each press and its reason."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def gate(self, plan=PLAN) -> gate.Gate:
        def approved(shown):
            self.heard.append(("approved", shown.digest))
            return ui.Notice("Approved")

        def declined(shown, reason):
            self.heard.append(("declined", reason))
            return ui.Notice("Declined")

        return gate.Gate(plan, "uxlab", "here", approved=approved, declined=declined)


@pytest.fixture
def pressed():
    return Pressed()


def press(shown: gate.Gate, button: str, text: str) -> None:
    shown.typed.value = text
    getattr(shown, button).click()


def test_the_name_approves_the_shown_digest_once(pressed):
    shown = pressed.gate()
    press(shown, "approve", " uxlab ")
    press(shown, "approve", "uxlab")
    press(shown, "decline", "too late")
    assert pressed.heard == [("approved", PLAN.digest)]
    assert all(each.disabled for each in (shown.typed, shown.approve, shown.decline))


@pytest.mark.parametrize("text", ["", "ux", "uxlab2", "UXLAB", "production"])
def test_another_text_approves_nothing_and_shows_the_name_to_type(pressed, text):
    shown = pressed.gate()
    assert not shown.approve.disabled, "each press is validated: Tab must not skip to Decline"
    press(shown, "approve", text)
    assert pressed.heard == []
    assert "Type uxlab to approve" in shown.answer.value
    press(shown, "approve", "uxlab")
    assert pressed.heard == [("approved", PLAN.digest)]


@pytest.mark.parametrize("text", ["", "u", "ux", "uxlab"])
def test_a_part_of_the_name_is_not_a_reason_to_decline(pressed, text):
    shown = pressed.gate()
    press(shown, "decline", text)
    assert pressed.heard == []
    assert "Nothing was changed yet" in shown.answer.value
    press(shown, "approve", "typo")
    press(shown, "decline", text)
    assert pressed.heard == [], "the first press was revoked"
    press(shown, "decline", text)
    assert pressed.heard == [("declined", "")]


def test_a_reason_declines_at_once(pressed):
    press(pressed.gate(), "decline", " not on a Friday ")
    assert pressed.heard == [("declined", "not on a Friday")]


@pytest.mark.attack("A1", "a press on a gate that was closed")
def test_a_closed_gate_ignores_presses_and_keeps_its_first_reason(pressed):
    shown = pressed.gate()
    shown.close(ui.Notice("A newer plan was made"))
    shown.close(ui.Notice("This run has ended"))
    for button in ("approve", "decline", "decline"):
        press(shown, button, "uxlab")
    press(shown, "decline", "no")
    assert pressed.heard == []
    assert "A newer plan was made" in shown.answer.value


def test_the_gate_shows_target_dangers_and_digest():
    destroyed = [Change("destroy", f"disk {n}") for n in range(25)]
    plan = Plan("A plan", (*destroyed, CHANGE), {})
    said = ui.text(gate.summary(plan, "teardown uxlab · AWS 123456789012, us-east-1"))
    for part in ("AWS 123456789012", "25 to destroy, 1 to release", "destroy disk 19", plan.digest):
        assert part in said
    assert "destroy disk 20" not in said
    assert "and 5 more" in said
