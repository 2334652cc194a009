"""A step of the application's life: six phases, which a notebook calls one cell at a time."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import ClassVar

from daybook import checks, preconditions, ui
from daybook.approval import gate, identity, statement
from daybook.approval.plan_approval import OVER, PlanApproval
from daybook.errors import (
    AlreadyApplied,
    ApprovalNeeded,
    ApprovalRefused,
    DaybookError,
    SettingsError,
)
from daybook.lock.environment_lock import ACCOUNT, EnvironmentLock
from daybook.reviews import ANY, Review
from daybook.run import Run


@dataclass(frozen=True, repr=False)
class Done(ui.Shown):
    """What was applied, shown again. at: when."""

    at: str
    result: ui.Shown

    def view(self) -> ui.Stack:
        lines = ("Nothing was applied again. Next: run the verify cell.",)
        return ui.Stack((self.result, ui.Notice(f"Already applied at {self.at}", ui.OK, lines)))


class Step(ABC):
    """What every step has in common: the order, the gate, the record, and "no changes".

    A subclass says what to ask first, what would change, how to change it, and what must
    then be seen from outside.
    """

    name: ClassVar[str]
    """The notebook's name."""
    next: ClassVar[str]
    """What an operator does after this step; `{env}` stands for the environment."""
    is_read_only: ClassVar[bool] = False
    """True for a step that only looks: it needs no turn, and no freeze stops it."""

    def __init__(self, env: str, *, rehearse: bool | str = False, **parameters: object) -> None:
        """Start a run; SettingsError when the environment or its settings are wrong."""
        self.run = Run(
            self.name,
            env,
            rehearse=_truth(rehearse),
            parameters=parameters,
            is_read_only=self.is_read_only,
        )
        self.env, self.root = env, self.run.root
        self.settings, self.target = self.run.settings, self.run.target
        self.review = Review(
            self.root,
            env,
            self.settings,
            self.target,
            is_account=self.lock_name == ACCOUNT,
            is_overridden=bool(self._override_git.strip()),
        )
        self.run.load_signers = self.review.signers
        self.run.load_approvals = lambda: self.review.approvals
        self.turn = EnvironmentLock(self.run, self.lock_name)
        self.desk = PlanApproval(self.run, self.state, self.can_ask_others)
        self._plan: gate.Plan | None = None
        self._approval: gate.Approval | None = None
        self._done: Done | None = None
        # A press on a button may come in a thread of its own, in the middle of a cell.
        self._busy = threading.RLock()

    def preflight(self) -> checks.CheckResults:
        """Ask everything that must be true; PreflightFailed lists all that is not."""
        self._require_unapplied()
        with self.run.phase("preflight"):
            here = {**self._place_here(), **self.questions_here()}
            there = {**self._place_there(), **self.questions_there()}
            answers = checks.run_checks(self.target, here, there)
            self.run.write("check", checks=[asdict(answer) for answer in answers.answers])
            return answers.require()

    def plan(self) -> gate.Plan:
        """Find out what would change; nothing is changed."""
        self._require_unapplied()
        with self._busy, self.run.phase("plan"), self.turn.begun():
            self._approval = self._plan = None
            self.desk.clear_away()
            self.desk.take_up()
            self._plan = self.make_plan()
            self._require_reviewed_files()
            self.desk.lay(self._plan)
            changes = [f"{change.action} {change.address}" for change in self._plan.changes]
            made_by = self.desk.made_by or self.run.id
            self.run.write("plan", digest=self._plan.digest, changes=changes, made_by=made_by)
            self._note_displayed("plan")
            return self._plan

    def approve(self, given: str = "") -> gate.Approval:
        """Pass only for this plan: by its digest, by `auto` in the sandbox, or by hand."""
        with self._busy:
            if self._done:
                return self._approved_before(given)
            with self.run.phase("approve"):
                is_known = self._approval and given in ("", self._approval.digest)
                approval = self._approval if is_known else self._decide(given)
                self.run.write("approval", **asdict(approval))
                self._approval = approval
                return approval

    def apply(self) -> ui.Shown:
        """Apply the approved plan and nothing else; once applied, show the result again."""
        with self._busy:
            if self._done:
                self.run.require_open()
                return self._done
            with self.run.phase("apply"), self.turn.kept():
                self.review.ask_again()
                self._require_reviewed_files()
                self.review.remember()
                self.run.write("apply", **self.desk.use(self._plan, self._approval))
                result = self.apply_plan(self._plan)
            self._done = Done(f"{datetime.now(UTC):%H:%M:%S} UTC", result)
            return result

    def verify(self) -> ui.Shown:
        """Look from outside, with a deadline; VerifyFailed says what was seen instead."""
        with self.run.phase("verify"), self.turn.ending():
            return self.look()

    def record(self) -> ui.Shown:
        """Close the run; show where its record is and what comes next."""
        with self.run.phase("record"):
            return self.run.finish(self.next.format(env=self.env))

    @property
    def lock_name(self) -> str | None:
        """Return what nobody else may change meanwhile; None when this step changes nothing."""
        return None if self.is_read_only else self.env

    def state(self) -> str:
        """Return which state a plan rests on, "" where the plan's digest covers all of it."""
        return ""

    def can_ask_others(self) -> bool:
        """Tell whether there is a bucket where others see a plan that waits."""
        return True

    def questions_here(self) -> Mapping[str, checks.Check]:
        """Return the checks that need no target: tools and files."""
        return {}

    def questions_there(self) -> Mapping[str, checks.Check]:
        """Return the checks that ask the target."""
        return {}

    @abstractmethod
    def make_plan(self) -> gate.Plan:
        """Return what would change."""

    @abstractmethod
    def apply_plan(self, plan: gate.Plan) -> ui.Shown:
        """Apply the plan; an empty one changes nothing and says so."""

    @abstractmethod
    def look(self) -> ui.Shown:
        """Return what is seen from outside."""

    def _place_here(self) -> Mapping[str, checks.Check]:
        if self.is_read_only:
            return {}
        reason = str(self.run.parameters.get("override_freeze", ""))
        here = preconditions.here(
            self.root, self.env, self.settings, self.target, override_freeze=reason
        )
        return {**here, "signers": identity.signers_are_usable(self.root)}

    def _place_there(self) -> Mapping[str, checks.Check]:
        if self.is_read_only:
            return {}
        there = preconditions.there(
            self.settings, self.target, self.review, override_git=self._override_git
        )
        return {**there, "operator": self._operator_is_known}

    def _operator_is_known(self, name: str) -> checks.CheckResult:
        """Ask who acts, where another person must approve: the account may be what requires it."""
        if not self.desk.needs_names:
            return checks.CheckResult(name, "not required", "not required", is_ok=True)
        load = self.run.load_signers
        return identity.is_known(self.root, self.env, self.settings, self.target, load)(name)

    @property
    def _override_git(self) -> str:
        return str(self.run.parameters.get("override_git", ""))

    def _require_reviewed_files(self) -> None:
        """Compare the files with the commit once more: they may have changed since preflight."""
        if self.review.git_required != ANY:
            self.review.require_same_files()

    def _decide(self, given: str) -> gate.Approval:
        try:
            return self.desk.decide(self._plan, given)
        except ApprovalRefused:
            raise
        except ApprovalNeeded as needed:
            if given or self.desk.is_approved_by_hand or not gate.somebody_is_there():
                raise
            self.desk.ask(self._plan, self._press_approve, self._press_decline)
            self._note_displayed("gate")
            raise ApprovalNeeded(
                needed.message,
                details=needed.details,
                next="approve or decline in the gate above, then run the next cell",
            ) from None

    def _press_approve(self, shown: gate.Gate) -> ui.Notice:
        """Approve the plan that a gate shows, if that is the plan at hand."""
        with self._busy:
            if objection := self._objection(shown):
                return objection
            self.desk.approve_by_hand(gate.Approval(shown.digest, f"by typing {self.env}"))
            try:
                self.approve()
            except ApprovalRefused as err:
                return ui.Notice(err.message, ui.bad("refused"), err.lines()[1:])
            except ApprovalNeeded as err:
                lines = (*err.lines()[1:], "Then run the approve cell again.")
                return ui.Notice(err.message, ui.warn("waiting"), lines)
            except DaybookError as err:
                return ui.Notice(err.message, ui.bad("not approved"), err.lines()[1:])
            return ui.Notice("Approved. Run the next cell", ui.good("approved"))

    def _press_decline(self, shown: gate.Gate, reason: str) -> ui.Notice:
        """Decline the plan that a gate shows, if that is the plan at hand."""
        with self._busy:
            if objection := self._objection(shown):
                return objection
            self.desk.decline(reason)
            return ui.Notice("Declined. Nothing was changed", ui.warn("declined"))

    def _objection(self, shown: gate.Gate) -> ui.Notice | None:
        if self.run.is_over:
            return OVER
        if self._done:
            lines = ("Nothing was approved or declined. Next: run the verify cell.",)
            return ui.Notice(f"Already applied at {self._done.at}", ui.quiet("applied"), lines)
        return self.desk.objection(shown)

    def _note_displayed(self, where: str) -> None:
        summary = statement.sha256(ui.text(self._plan))
        self.run.write("displayed", digest=self._plan.digest, summary=summary, where=where)

    def _require_unapplied(self) -> None:
        """Refuse to begin anew in a run that has applied its plan; the run goes on to verify."""
        if self._done:
            self.run.require_open()
            raise AlreadyApplied(
                f"This run has applied its plan, at {self._done.at}.",
                changed="This cell changed nothing.",
                next="run the verify cell; for another change, start from the first cell",
            )

    def _approved_before(self, given: str) -> gate.Approval:
        self.run.require_open()
        if given not in ("", gate.AUTO, self._approval.digest):
            raise AlreadyApplied(
                f"This run has applied another plan, at {self._done.at}.",
                expected=self._approval.digest,
                observed=given,
                changed="This cell changed nothing.",
                next="run the verify cell; for another change, start from the first cell",
            )
        return self._approval


def _truth(value: bool | str) -> bool:
    """Read a boolean as papermill passes it, which leaves `false` a string."""
    words = {"true": True, "false": False}
    found = words.get(str(value).lower())
    if found is None:
        raise SettingsError(f"rehearse is {value!r}.", expected="true or false")
    return found
