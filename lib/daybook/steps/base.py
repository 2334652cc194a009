"""A step of the application's life: six phases, which a notebook calls one cell at a time."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, ClassVar

from daybook import checks, preconditions, settings, ui
from daybook.approval import gate, identity
from daybook.approval.plan_approval import OVER, PlanApproval
from daybook.environment import ACCOUNT, Environment
from daybook.errors import (
    AlreadyApplied,
    ApprovalNeeded,
    ApprovalRefused,
    DaybookError,
    SettingsError,
)
from daybook.lock.environment_lock import EnvironmentLock
from daybook.plan import Plan
from daybook.record import statement
from daybook.reviews import ANY, Review
from daybook.run import Run
from daybook.settings import Settings
from daybook.steps.parameters import LookParameters, Parameters, given_parameters
from daybook.target import Target


@dataclass(frozen=True, repr=False)
class AppliedBefore(ui.Shown):
    """The result of an earlier apply of this run, shown again. at: when it ended."""

    at: str
    result: ui.Shown

    def view(self) -> ui.Stack:
        lines = ("Nothing was applied again. Next: run the verify cell.",)
        return ui.Stack((self.result, ui.Notice(f"Already applied at {self.at}", ui.OK, lines)))


class Step(ABC):
    """A step: its phases in order, with the gate, the lock and the record.

    A subclass is a recipe: checks, plan, apply, verify. The run begins with the first phase.
    """

    name: ClassVar[str]
    """The notebook's name."""
    next: ClassVar[str]
    """The next action after this step; `{env}` stands for the environment."""
    Parameters: ClassVar[type[LookParameters]] = Parameters
    """The step's parameters: fields with types and defaults."""

    def __init__(self, env: str, *, rehearse: bool | str = False, **parameters: object) -> None:
        """Validate the parameters and the environment's settings; SettingsError lists mistakes."""
        given = given_parameters(self.name, self.Parameters, {"rehearse": rehearse, **parameters})
        self.parameters = given
        root = settings.find_root()
        self._environment = Environment.load(root, env, rehearse=given.rehearse)
        self._plan: Plan | None = None
        self._approval: gate.Approval | None = None
        self._applied: AppliedBefore | None = None
        # A click may arrive in a thread of its own, while a cell runs.
        self._busy = threading.RLock()

    @cached_property
    def run(self) -> Run:
        """Return the run; the first phase begins it, and with it the record."""
        run = Run.begin(
            self.name,
            self._environment,
            parameters=asdict(self.parameters),
            defaults=asdict(self.Parameters()),
            is_read_only=self.is_read_only,
        )
        run.load_signers = self.review.signers
        run.load_approvals = lambda: self.review.approvals
        return run

    @property
    def environment(self) -> Environment:
        """Return the environment; the run records the tools that it starts."""
        return self.run.environment

    @property
    def env(self) -> str:
        """Return the environment's name."""
        return self._environment.name

    @property
    def settings(self) -> Settings:
        """Return the environment's settings."""
        return self._environment.settings

    @property
    def target(self) -> Target:
        """Return the account and region of the run."""
        return self._environment.target

    @cached_property
    def review(self) -> Review:
        """Return the requirements of a change: a reviewed commit, approvals, signers."""
        return Review(
            self._environment,
            is_account=self.lock_name == ACCOUNT,
            is_overridden=bool(self._override_git.strip()),
        )

    @cached_property
    def lock(self) -> EnvironmentLock:
        """Return the lock of the environment or account that this step changes."""
        return EnvironmentLock(self.run, self.lock_name)

    @cached_property
    def approval(self) -> PlanApproval:
        """Return the approval of this run's plan."""
        return PlanApproval(self.run, self.state, self.can_publish_plans)

    def outputs(self) -> Mapping[str, Any]:
        """Return Terraform's outputs; sensitive ones are redacted in the run from now on."""
        outputs = self.environment.outputs()
        for name, text in outputs.secrets():
            self.run.hide(name, text)
        return outputs

    def preflight(self) -> checks.CheckResults:
        """Run every check; PreflightFailed lists all that failed."""
        self._require_unapplied()
        with self.run.phase("preflight"):
            local = {**self._common_local_checks(), **self.local_checks()}
            remote = {**self._common_target_checks(), **self.target_checks()}
            results = checks.run_checks(self.target, local, remote)
            self.run.write("check", checks=[asdict(result) for result in results.answers])
            if results.failed:
                ui.show(results)
            return results.require()

    def plan(self) -> Plan:
        """Make a plan; nothing is changed."""
        self._require_unapplied()
        with self._busy, self.run.phase("plan"), self.lock.acquire():
            self._approval = self._plan = None
            self.approval.reset()
            self.approval.claim()
            self._plan = self.make_plan()
            self._require_reviewed_files()
            self.approval.store(self._plan)
            changes = [f"{change.action} {change.address}" for change in self._plan.changes]
            made_by = self.approval.made_by or self.run.id
            self.run.write("plan", digest=self._plan.digest, changes=changes, made_by=made_by)
            self._note_displayed("plan")
            return self._plan

    def approve(self, given: str = "") -> gate.Approval:
        """Pass only for this plan: by its digest, by `auto` in the sandbox, or by hand."""
        with self._busy:
            if self._applied:
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
            if self._applied:
                self.run.require_open()
                return self._applied
            with self.run.phase("apply"), self.lock.hold():
                self.review.refresh()
                self._require_reviewed_files()
                self.review.store_tip()
                self.run.write("apply", **self.approval.consume(self._plan, self._approval))
                result = self.apply_plan(self._plan)
                # A lock that was broken since its last renewal must not end as a success.
                self.lock.verify_held()
            self._applied = AppliedBefore(f"{datetime.now(UTC):%H:%M:%S} UTC", result)
            return result

    def verify(self) -> ui.Shown:
        """Look from outside, with a deadline; VerifyFailed has the observation."""
        with self.run.phase("verify"), self.lock.release_after():
            return self.look()

    def record(self) -> ui.Shown:
        """Close the run; show its record's folder and the next step."""
        with self.run.phase("record"):
            return self.run.finish(self.next.format(env=self.env))

    @property
    def is_read_only(self) -> bool:
        """True for a step that changes nothing: it takes no lock, and no freeze stops it."""
        return False

    @property
    def lock_name(self) -> str | None:
        """Return the name of the lock; None when this step changes nothing."""
        return self.env

    def state(self) -> str:
        """Return the version of the state that a plan is based on; "" if its digest covers it."""
        return ""

    def can_publish_plans(self) -> bool:
        """True where there is a bucket in which others see a pending plan."""
        return True

    def local_checks(self) -> Mapping[str, checks.Check]:
        """Return the checks that need no target: tools and files."""
        return {}

    def target_checks(self) -> Mapping[str, checks.Check]:
        """Return the checks that call the target."""
        return {}

    @abstractmethod
    def make_plan(self) -> Plan:
        """Return the plan; change nothing."""

    @abstractmethod
    def apply_plan(self, plan: Plan) -> ui.Shown:
        """Apply the plan; report an empty one as no change."""

    @abstractmethod
    def look(self) -> ui.Shown:
        """Return the result as seen from outside."""

    def _common_local_checks(self) -> Mapping[str, checks.Check]:
        if self.is_read_only:
            return {}
        reason = self.parameters.override_freeze
        common = preconditions.local_checks(self.environment, override_freeze=reason)
        return {**common, "signers": identity.signers_are_usable(self.environment.root)}

    def _common_target_checks(self) -> Mapping[str, checks.Check]:
        if self.is_read_only:
            return {}
        common = preconditions.target_checks(
            self.environment, self.review, override_git=self._override_git
        )
        return {**common, "operator": self._operator_is_known}

    def _operator_is_known(self, name: str) -> checks.CheckResult:
        """Check the operator's identity where another person's approval is required."""
        if not self.approval.needs_names:
            return checks.CheckResult(name, "not required", "not required", is_ok=True)
        return identity.is_known(self.environment, self.run.load_signers)(name)

    @property
    def _override_git(self) -> str:
        return getattr(self.parameters, "override_git", "")

    def _require_reviewed_files(self) -> None:
        """Compare the files with the commit once more: they may have changed since preflight."""
        if self.review.git_required != ANY:
            self.review.require_same_files()

    def _decide(self, given: str) -> gate.Approval:
        try:
            return self.approval.decide(self._plan, given)
        except ApprovalRefused:
            raise
        except ApprovalNeeded as needed:
            if given or self.approval.is_approved_by_hand or not gate.is_interactive():
                raise
            self.approval.show_gate(self._plan, self._press_approve, self._press_decline)
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
            self.approval.approve_by_hand(gate.Approval(shown.digest, f"by typing {self.env}"))
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
            self.approval.decline(reason)
            return ui.Notice("Declined. Nothing was changed", ui.warn("declined"))

    def _objection(self, shown: gate.Gate) -> ui.Notice | None:
        if self.run.is_over:
            return OVER
        if self._applied:
            lines = ("Nothing was approved or declined. Next: run the verify cell.",)
            return ui.Notice(f"Already applied at {self._applied.at}", ui.quiet("applied"), lines)
        return self.approval.objection(shown)

    def _note_displayed(self, view: str) -> None:
        summary = statement.sha256(ui.text(self._plan))
        self.run.write("displayed", digest=self._plan.digest, summary=summary, where=view)

    def _require_unapplied(self) -> None:
        """Refuse to plan again in a run that has applied its plan; verify comes next."""
        if self._applied:
            self.run.require_open()
            raise AlreadyApplied(
                f"This run has applied its plan, at {self._applied.at}.",
                changed="This cell changed nothing.",
                next="run the verify cell; for another change, start from the first cell",
            )

    def _approved_before(self, given: str) -> gate.Approval:
        self.run.require_open()
        if given not in ("", gate.AUTO, self._approval.digest):
            raise AlreadyApplied(
                f"This run has applied another plan, at {self._applied.at}.",
                expected=self._approval.digest,
                observed=given,
                changed="This cell changed nothing.",
                next="run the verify cell; for another change, start from the first cell",
            )
        return self._approval


class ReadOnlyStep(Step):
    """A step without approve and apply: plan collects findings, verify judges them."""

    Parameters: ClassVar[type[LookParameters]] = LookParameters
    is_read_only: ClassVar[bool] = True
    lock_name: ClassVar[None] = None

    def plan(self) -> Plan:
        """Collect findings and show them; nothing is changed."""
        with self.run.phase("plan"):
            self._plan = self.make_plan()
            findings = [f"{change.action} {change.address}" for change in self._plan.changes]
            self.run.write("plan", digest=self._plan.digest, changes=findings)
            return self._plan

    def apply_plan(self, plan: Plan) -> ui.Shown:
        """Refuse: there is nothing to apply."""
        raise SettingsError(f"{self.name} changes nothing.", next="daybook run provision")
